"""MMGCN: a graph network of its own for every modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.errors import ConfigurationError
from recbole_ib.graph import SparseMatrix
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.graphs import training_adjacency
from recbole_ib.model.layers.encoder import LinearEncoder
from recbole_ib.model.layers.id_tables import id_tables, joint_xavier_std, reset_tables, user_tables
from recbole_ib.model.losses import bpr, total
from recbole_ib.model.settings import Declaration, Override, Search, Setting
from recbole_ib.model.shared_settings import EMBEDDING_SIZE, N_LAYERS, PUBLISHED_PATIENCE
from recbole_ib.model.types import (
    Batch,
    BatchSubset,
    Encoded,
    ItemGraph,
    Outputs,
    UserContent,
    batch_nodes,
    split_nodes,
)
from recbole_ib.model.user_content import content_per_modality
from recbole_ib.ops.linear import Linear, linear
from recbole_ib.ops.normalize import unit_rows
from recbole_ib.utils.validate import Bool, Integer, Number, OneOf


class WideEncoder(LinearEncoder):
    """G^k = M^k W_k + b_k for modalities wider than ``project_above``; the others pass as they are.

    ``linear`` holds the projected modalities alone. ``latent_widths``: modality -> width of G^k.
    """

    def __init__(self, features: Mapping[str, Tensor], out_dim: int, project_above: int):
        super().__init__(features, out_dim, init="default")
        self.linear = nn.ModuleDict(
            {
                m: layer
                for m, layer in self.linear.items()
                if cast("nn.Linear", layer).in_features > project_above
            }
        )
        self.latent_widths = {
            m: out_dim if m in self.linear else features[m].shape[1] for m in self.modalities
        }

    def forward(self, items: Tensor | None = None) -> dict[str, Tensor]:
        """Return G^k by modality."""
        return {
            m: self.linear[m](self.inputs(m, items)) if m in self.linear else self.rows(m, items)
            for m in self.modalities
        }

    @property
    def unprojected(self) -> list[str]:
        """The modalities that pass as they are."""
        return [m for m in self.modalities if m not in self.linear]

    def first_layer(self, name: str) -> nn.Linear:
        """Return W_k, b_k.

        Raises:
            ConfigurationError: the modality passes as it is.
        """
        if name not in self.linear:
            raise ConfigurationError(
                f"MMGCN does not project the modality {name!r}; with project_above: 0 it projects all"
            )
        return super().first_layer(name)


class GraphLayer(nn.Module):
    """One layer of a modality's network.

    h = lrelu(A x W1), x' = lrelu(x W2 + b2) + E; ``concat``: lrelu([h; x'] W3 + b3), ``sum``:
    lrelu(h W3 + b3 + x').

    Shapes: x ``[n, in_dim]``, ids E ``[n, out_dim]`` -> ``[n, out_dim]``, or some ``rows`` of that.
    W1 and W2 start Xavier normal, W3 with ``xavier`` too.
    """

    def __init__(self, in_dim: int, out_dim: int, combine: str, xavier: bool):
        super().__init__()
        self.combine, self.xavier = combine, xavier
        self.neighbors = Linear(in_dim, in_dim, bias=False)
        self.own = Linear(in_dim, out_dim)
        self.merge = Linear(in_dim + out_dim if combine == "concat" else in_dim, out_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw W1, W2 and W3 anew."""
        for layer in (self.neighbors, self.own, self.merge):
            layer.reset_parameters()
            if layer is not self.merge or self.xavier:
                nn.init.xavier_normal_(layer.weight)

    def forward(self, x: Tensor, ids: Tensor, adjacency: SparseMatrix, rows: Tensor | None = None) -> Tensor:
        """Return the layer's output of all nodes, or of some."""
        if rows is None:
            h = adjacency(self.neighbors(x))
        else:  # A (x W1) = (A x) W1
            around, x, ids = (F.embedding(rows, table) for table in (adjacency(x), x, ids))
            h = self.neighbors(around)
        # in place: these are tables of all nodes, and nothing else reads them
        h = F.leaky_relu_(h)
        own = F.leaky_relu_(self.own(x)) + ids
        if self.combine == "sum":
            return F.leaky_relu_(self.merge(h) + own)
        # [h; x'] W3 without the wide [h; x']
        of_h, of_own = self.merge.weight.split([h.shape[1], own.shape[1]], dim=1)
        return F.leaky_relu_(linear(h, of_h) + linear(own, of_own, self.merge.bias))


class MMGCN(MultimodalRecommender):
    """MMGCN (Wei et al., ACM MM 2019).

    "MMGCN: Multi-modal Graph Convolution Network for Personalized Recommendation of Micro-video".

    For every modality m, x0 = norm([T_m; G_m]) with the users' preferences T_m and the item features G_m,
    then ``n_layers`` layers (:class:`GraphLayer`) on the mean over neighbors, A = D^-1 A without self loops;
    the id table E is shared by all modalities and layers. Output: mean over m; s = <x_u, y_i>; loss
    BPR + reg_weight (mean E[u]^2 + mean E[i, j]^2 + sum_m mean T_m^2).

    Yaml: ``embedding_size`` d, ``feature_dim`` and ``project_above``: modalities wider than this are
    projected to that, ``n_layers``, ``combine``, ``train_tables``, ``reg_weight``.
    """

    settings: ClassVar[tuple[Declaration, ...]] = (
        PUBLISHED_PATIENCE,
        EMBEDDING_SIZE.but(doc="d, of ids and of all layers' outputs"),
        Setting(
            "feature_dim", 256, "width to which wide modalities are projected", Integer(1), source="release"
        ),
        Setting(
            "project_above",
            512,
            "modalities wider than this are projected, others enter raw; 0: all are. As released for widths "
            "4096, 384",
            Integer(),
        ),
        N_LAYERS.but(
            default=3,
            doc="user-item layers: the first gives all modalities one width; the release computes three, "
            "whatever its n_layers says",
            kind=Integer(1),
        ),
        Setting("combine", "concat", "how a layer joins neighbors and own row", OneOf("concat", "sum")),
        Setting(
            "train_tables",
            True,
            "False: ids and preferences stay at their initial values, as released",
            Bool(),
        ),
        Setting(
            "reg_weight",
            1.0e-4,
            "of the mean squares of ids and preferences",
            Number(least=0),
            source="release, MovieLens",
            search=Search.choice(
                0.0, 1.0e-5, 1.0e-4, 1.0e-3, 1.0e-2, 1.0e-1, source="the benchmarks' grid on Amazon"
            ),
        ),
        Override(
            "learning_rate",
            source="release: 1e-4 (MovieLens), 5e-4",
            search=Search.choice(
                1.0e-4, 5.0e-4, 1.0e-3, 5.0e-3, 1.0e-2, source="the benchmarks' grid on Amazon"
            ),
        ),
    )

    row_mean_losses = True

    encoder: WideEncoder

    def __init__(self, config: Any, dataset: Any):
        super().__init__(config, dataset)
        self.combine = config["combine"]
        self.n_layers = int(config["n_layers"])
        if self.n_layers < 1:
            raise ConfigurationError(
                f"n_layers must be at least 1, got {self.n_layers}: the first layer gives all modalities one "
                "width"
            )
        self.adjacency = training_adjacency(dataset, "mean")
        self.encoder = WideEncoder(dataset.modalities, config["feature_dim"], config["project_above"])
        width, widths = self.embedding_size, self.encoder.latent_widths
        self.user_embedding, self.item_embedding = id_tables(self.n_users, self.n_items, width)
        self.preference = user_tables(self.n_users, widths)
        layers = nn.ModuleDict(
            {
                m: nn.ModuleList(
                    GraphLayer(width if layer else widths[m], width, self.combine, xavier=layer == 0)
                    for layer in range(self.n_layers)
                )
                for m in self.modalities
            }
        )
        self.layers = cast("Mapping[str, Sequence[GraphLayer]]", layers)
        for table in (self.user_embedding, self.item_embedding, *self.preference.values()):
            table.weight.requires_grad_(bool(config["train_tables"]))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw ids, preferences, layers and encoder anew."""
        ids = self.user_embedding, self.item_embedding
        reset_tables(*ids, std=joint_xavier_std(*ids))
        for table in self.preference.values():
            nn.init.xavier_normal_(table.weight)
        for layers in self.layers.values():
            for layer in layers:
                layer.reset_parameters()
        self.encoder.reset_parameters()

    def encode(self, latents: Mapping[str, Tensor], items: Tensor | None = None) -> Encoded:
        """Return the id tables; ``views``: the nodes of every modality after all layers but the last."""
        user0, item0 = self.user_embedding.weight, self.item_embedding.weight
        ids = torch.cat([user0, item0])
        views = {}
        for name in self.modalities:
            x = unit_rows(torch.cat([self.preference[name].weight, latents[name]]))
            for layer in self.layers[name][:-1]:
                x = layer(x, ids, self.adjacency)
            views[name] = x
        return Encoded(user0, item0, user0, item0, views)

    def batch_subset(self, interaction: Interaction) -> BatchSubset:
        """Return the batch's nodes: the last layer's products are taken for the rows that are read."""
        users, positives, negatives = (interaction[f] for f in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        return BatchSubset(nodes=batch_nodes(self.n_users, users, positives, negatives))

    def apply_item_graph(self, encoded: Encoded, graph: ItemGraph, nodes: Tensor | None = None) -> Outputs:
        """Return the mean over the modalities of the last layer's outputs; there is no item graph."""
        ids = torch.cat([encoded.user0, encoded.item0])
        outputs = [self.layers[m][-1](x, ids, self.adjacency, nodes) for m, x in encoded.views.items()]
        return Outputs(*split_nodes(sum(outputs) / len(outputs), self.n_users, self.n_items, nodes))

    def ranking_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``bpr`` and ``reg``, of the id embeddings and the users' preferences."""
        losses = {"bpr": bpr(*batch.triplets())}
        ids = self.user_embedding(batch.users).square().mean()
        ids = ids + self.item_embedding(torch.cat([batch.positives, batch.negatives])).square().mean()
        # row 0 is padding
        penalty = ids + total(table.weight[1:].square().mean() for table in self.preference.values())
        losses["reg"] = self.reg_weight * penalty
        return losses

    def user_content(self) -> UserContent:
        """Return the users' preferences by modality."""
        return content_per_modality(self.preference, self.encoder, self.user_embedding)

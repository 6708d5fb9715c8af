"""MGCN: features purified by behavior, item views and a behavior-aware fuser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.graph import (
    ConstantGraph,
    EdgeGraph,
    SparseMatrix,
    mean_propagation,
    normalize_by_row_degree,
    user_item_adjacency,
)
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.graphs import modality_graphs
from recbole_ib.model.layers.encoder import LinearEncoder, ModalityEncoder, is_tuned, make_encoder
from recbole_ib.model.layers.fusion import BehaviorGate, ViewAttention, collect_for_users, user_item_block
from recbole_ib.model.layers.id_tables import id_tables, reset_tables
from recbole_ib.model.losses import bpr, in_batch_contrast, total
from recbole_ib.model.settings import Declaration, Search, Setting
from recbole_ib.model.shared_settings import (
    CL_TEMPERATURE,
    EMBEDDING_SIZE,
    FEATURE_ENCODER,
    KNN_K,
    N_ITEM_LAYERS,
    N_LAYERS,
    RAW_FEATURES,
    RELEASED_DECAY,
    searched_rate,
)
from recbole_ib.model.types import Batch, BatchSubset, Encoded, ItemGraph, Outputs, batch_nodes, split_nodes
from recbole_ib.utils.validate import Number


class MGCN(MultimodalRecommender):
    """MGCN (Yu et al., ACM MM 2023, "Multi-View Graph Convolutional Network for Multimedia Recommendation").

    T_m = F_m W_m + b_m, Q_m = Q * sigmoid(T_m A_m + c_m); C = LightGCN([P; Q]); I_m = S_m^n Q_m with S_m the
    normalized kNN graph of the raw features; E_m = [R I_m ; I_m]. Fuser, with alpha the attention over the
    E_m and E* = sum_m alpha_m E_m:

        side = (E* + sum_m (E_m - E*) * sigmoid(C G_m + g_m)) / (M + 1),   output X = C + side,   s = <x_u,
        x_i> loss = BPR(X) + reg_weight |final rows of the batch|^2 / (2B) + cl_weight [ NCE(side_i,
        C_i) + NCE(side_u, C_u) ].

    Yaml: ``embedding_size``, ``n_layers``, ``n_item_layers`` n, ``knn_k``, ``reg_weight``, ``cl_weight``,
    ``cl_temperature``, ``raw_features``.
    """

    settings: ClassVar[tuple[Declaration, ...]] = (
        RELEASED_DECAY,
        EMBEDDING_SIZE.but(doc="width d of the embeddings, also of T_m"),
        FEATURE_ENCODER,
        N_LAYERS,
        N_ITEM_LAYERS,
        Setting(
            "cl_weight",
            0.01,
            "of the contrast of side and behavior; 0 leaves the term out",
            Number(least=0),
            search=Search.choice(0.001, 0.01, 0.1, source="paper"),
        ),
        CL_TEMPERATURE.but(source="release"),
        Setting(
            "reg_weight",
            1.0e-4,
            "of the squared final rows",
            Number(least=0),
            source="release",
            search=Search.loguniform(1.0e-5, 1.0e-2, source="around the release's value"),
        ),
        KNN_K.but(search=Search.choice(5, 10, 15, 20, source="around the release's value")),
        RAW_FEATURES,
        searched_rate("around the release's value"),
    )

    item_graph_kind = "modality"

    encoder: ModalityEncoder

    def __init__(self, config: Any, dataset: Any):
        super().__init__(config, dataset)
        width = self.embedding_size
        self.n_layers, self.n_item_layers = int(config["n_layers"]), int(config["n_item_layers"])
        self.cl_weight, self.cl_temperature = float(config["cl_weight"]), float(config["cl_temperature"])
        self.build_graphs(config, dataset)
        features, tuned = dataset.modalities, is_tuned(config)
        self.encoder = make_encoder(
            config, lambda size: LinearEncoder(features, size, tuned=tuned, init="default"), width
        )
        self.purifier = BehaviorGate(self.modalities, width)
        self.attention: ViewAttention | None = ViewAttention(width)
        self.preference = self.build_preference(width)
        self.user_embedding, self.item_embedding = id_tables(self.n_users, self.n_items, width)
        self.reset_parameters()

    def build_graphs(self, config: Any, dataset: Any) -> None:
        """Build the user-item graph, its block for the views' users, and an item graph per modality."""
        adjacency = user_item_adjacency(dataset.inter_matrix(form="csr"))
        self.adjacency = SparseMatrix(adjacency, symmetric=True)
        self.user_item = user_item_block(adjacency, self.n_users)
        graphs = modality_graphs(config, dataset)
        self.item_graphs = nn.ModuleDict(
            {m: ConstantGraph(normalize_by_row_degree(g)) for m, g in graphs.items()}
        )

    def build_preference(self, width: int) -> Mapping[str, nn.Module] | None:
        """Return the gates G_m of the views' specific parts."""
        gates = nn.ModuleDict({m: nn.Linear(width, width) for m in self.modalities})
        return cast("Mapping[str, nn.Module]", gates)

    def reset_parameters(self) -> None:
        """Draw ids and all linear layers anew."""
        reset_tables(self.user_embedding, self.item_embedding)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()

    def encode(self, latents: Mapping[str, Tensor], items: Tensor | None = None) -> Encoded:
        """Return C, LightGCN of the ids; ``views``: the purified Q_m."""
        user0, item0 = self.user_embedding.weight, self.item_embedding.weight
        nodes = mean_propagation(self.adjacency, torch.cat([user0, item0]), self.n_layers)
        user, item = nodes.split([self.n_users, self.n_items])
        return Encoded(user, item, user0, item0, self.purifier(item0, latents))

    def item_graph(self, latents: Mapping[str, Tensor]) -> dict[str, EdgeGraph]:
        """Return the frozen graph S_m by modality."""
        return {m: self.item_graphs[m]() for m in self.modalities}

    def batch_subset(self, interaction: Interaction) -> BatchSubset:
        """Return the batch's nodes: the fuser works row by row."""
        users, positives, negatives = (interaction[f] for f in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        return BatchSubset(nodes=batch_nodes(self.n_users, users, positives, negatives))

    def apply_item_graph(self, encoded: Encoded, graph: ItemGraph, nodes: Tensor | None = None) -> Outputs:
        """Return X = C + side."""
        graphs = cast("Mapping[str, EdgeGraph]", graph)
        items = {m: graphs[m].propagate(q, self.n_item_layers) for m, q in encoded.views.items()}
        views, behavior = collect_for_users(self.user_item, items), torch.cat([encoded.user, encoded.item])
        if nodes is not None:
            views, behavior = (
                {m: F.embedding(nodes, x) for m, x in views.items()},
                F.embedding(nodes, behavior),
            )
        return Outputs(*split_nodes(behavior + self.fuse(views, behavior), self.n_users, self.n_items, nodes))

    def fuse(self, views: Mapping[str, Tensor], behavior: Tensor) -> Tensor:
        """Return the side ``[n, d]``: the part that the views E_m share, and of each what behavior passes."""
        stacked = [views[m] for m in self.modalities]
        attention, gates = (
            cast("ViewAttention", self.attention),
            cast("Mapping[str, nn.Module]", self.preference),
        )
        weights = attention(stacked)
        shared = total(w * x for w, x in zip(weights.split(1, dim=1), stacked, strict=True))
        specific = [
            (x - shared) * torch.sigmoid(gates[m](behavior))
            for m, x in zip(self.modalities, stacked, strict=True)
        ]
        return (shared + total(specific)) / (len(stacked) + 1)

    def ranking_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``bpr``, ``reg`` of the final rows, and ``contrast``."""
        users, positives, encoded = batch.users, batch.positives, batch.encoded
        u, i, j = final_rows(batch)
        losses = {"bpr": bpr(u, i, j)}
        losses["reg"] = self.reg_weight * total(x.square().sum() for x in (u, i, j)) / (2 * users.numel())
        if self.cl_weight:
            c_u, c_i = F.embedding(users, encoded.user), F.embedding(positives, encoded.item)
            # the output is C + side, so the side is the difference
            contrast = in_batch_contrast(i - c_i, c_i, self.cl_temperature) + in_batch_contrast(
                u - c_u, c_u, self.cl_temperature
            )
            losses["contrast"] = self.cl_weight * contrast
        return losses


def final_rows(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output rows of users, positive and negative items, ``[B, D]`` each."""
    u = F.embedding(batch.users, batch.outputs.user)
    i, j = F.embedding(torch.cat([batch.positives, batch.negatives]), batch.outputs.item).split(
        batch.positives.numel()
    )
    return u, i, j

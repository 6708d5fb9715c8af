"""GRCN: a user-item graph whose edges are weighted and pruned by content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.errors import ConfigurationError
from recbole_ib.graph import EdgeGraph, EdgeStructure, edge_scores, edge_softmax
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.layers.encoder import LinearEncoder, ModalityEncoder, make_encoder
from recbole_ib.model.layers.id_tables import id_tables, joint_xavier_std, reset_tables, user_tables
from recbole_ib.model.losses import bpr, total
from recbole_ib.model.settings import Declaration, Override, Search, Setting
from recbole_ib.model.shared_settings import EMBEDDING_SIZE, FEATURE_ENCODER, N_LAYERS, PUBLISHED_PATIENCE
from recbole_ib.model.types import Batch, Encoded, UserContent
from recbole_ib.model.user_content import content_per_modality
from recbole_ib.ops.normalize import unit_rows
from recbole_ib.utils.validate import Bool, Integer, Number, OneOf


class UnitEncoder(LinearEncoder):
    """z^k = norm(lrelu(M^k W_k + b_k)), rows of length 1."""

    def forward(self, items: Tensor | None = None) -> dict[str, Tensor]:
        """Return z^k by modality."""
        return {m: unit_rows(F.leaky_relu(z)) for m, z in super().forward(items).items()}


class GRCN(MultimodalRecommender):
    """GRCN (Wei et al., ACM MM 2020).

    "Graph-Refined Convolutional Network for Multimedia Recommendation with Implicit Feedback".

    For every modality m, z_i = norm(lrelu(W_m f_i + b_m)) and p_u = norm(T_m[u]). Routing, ``routing_rounds``
    times: p_u <- norm(p_u + sum_i a_ui z_i), a_ui = softmax of <p_u, z_i> over the items of u.
    Then x = [p; z] attends both ways:

        a_m(v <- w) = softmax_w <x_v, x_w>,    c_m[v] = x_v + sum_w a_m(v <- w) x_w.

    The id embeddings are propagated on the refined graph, E(v <- w) = relu(max_m a_m(v <- w) conf[w, m]):
    id = x0 + E x0 + E^2 x0, x0 = norm(E_id). Output [id; c_1; ..; c_M]; s = <x_u, y_i>; loss
    BPR + reg_weight (mean E_id[u]^2 + mean E_id[i, j]^2 + sum_m mean T_m[u]^2).

    Yaml: ``embedding_size``, ``feature_dim`` C, ``n_layers``, ``routing_rounds``, ``legacy_routing``,
    ``edge_weight``, ``pruning``, ``fusion``, ``reg_weight``.
    """

    settings: ClassVar[tuple[Declaration, ...]] = (
        PUBLISHED_PATIENCE,
        EMBEDDING_SIZE.but(doc="d, of ids"),
        FEATURE_ENCODER,
        Setting(
            "feature_dim", 64, "C, of each modality; fusion: mean needs that of embedding_size", Integer(1)
        ),
        N_LAYERS.but(doc="layers of the ids on the refined graph", source="release"),
        Setting(
            "routing_rounds",
            3,
            "how often a user's preference moves toward the items taken",
            Integer(),
            source="release",
        ),
        Setting(
            "legacy_routing",
            False,
            "True: no routing, which is what the released code computes; see docs/models/grcn.md",
            Bool(),
        ),
        Setting(
            "edge_weight",
            "confidence",
            "confidence: max over the modalities of attention x trained confidence; max, mean: of the "
            "attention alone",
            OneOf("confidence", "max", "mean"),
        ),
        Setting("pruning", True, "edges of negative weight are cut, the relu of E", Bool()),
        Setting(
            "fusion",
            "concat",
            "concat: ids beside the modalities; mean of both; id: ids alone",
            OneOf("concat", "mean", "id"),
        ),
        Setting(
            "reg_weight",
            1.0e-3,
            "of the mean squares of ids and preferences",
            Number(least=0),
            source="release searches 1e-4 .. 1e-1",
            search=Search.choice(
                1.0e-1, 1.0e-2, 1.0e-3, 1.0e-4, 1.0e-5, source="the benchmarks' grid on Amazon"
            ),
        ),
        Override(
            "learning_rate",
            source="release: 1e-4",
            search=Search.choice(1.0e-1, 1.0e-2, 1.0e-3, 1.0e-4, source="the benchmarks' grid on Amazon"),
        ),
    )

    row_mean_losses = True

    encoder: ModalityEncoder

    def __init__(self, config: Any, dataset: Any):
        super().__init__(config, dataset)
        self.n_layers, self.routing_rounds = int(config["n_layers"]), int(config["routing_rounds"])
        self.feature_dim = int(config["feature_dim"])
        self.legacy_routing, self.pruning = bool(config["legacy_routing"]), bool(config["pruning"])
        self.edge_weight = config["edge_weight"]
        self.fusion = config["fusion"]
        if self.fusion == "mean" and self.feature_dim != self.embedding_size:
            raise ConfigurationError(
                f"feature_dim is {self.feature_dim}, embedding_size {self.embedding_size}: the mean of both "
                "needs equal widths; set them equal, or fusion: concat"
            )
        users, items = (
            torch.from_numpy(ids.astype("int64")) for ids in dataset.inter_matrix(form="csr").nonzero()
        )
        items = items + self.n_users
        n_nodes = self.n_users + self.n_items
        #: user <- item alone, and both ways: the latter's edges are the former's, then the former's in
        #: ``transposed`` order
        self.user_edges = EdgeStructure(users, items, n_nodes)
        self.edges = EdgeStructure(torch.cat([users, items]), torch.cat([items, users]), n_nodes)
        # b_k must not start at zero: an item without a feature would sit where the norm has no gradient
        features = dataset.modalities
        self.encoder = make_encoder(
            config, lambda size: UnitEncoder(features, size, zero_bias=False), self.feature_dim
        )
        self.preference = user_tables(self.n_users, dict.fromkeys(self.modalities, self.feature_dim))
        self.user_embedding, self.item_embedding = id_tables(self.n_users, self.n_items, self.embedding_size)
        if self.edge_weight == "confidence":
            tables = id_tables(self.n_users, self.n_items, len(self.modalities))
            self.user_confidence, self.item_confidence = tables
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw preferences, ids, confidences and encoder anew."""
        for table in self.preference.values():
            nn.init.xavier_normal_(table.weight)
        pairs = [(self.user_embedding, self.item_embedding)]
        if self.edge_weight == "confidence":
            pairs.append((self.user_confidence, self.item_confidence))
        for pair in pairs:
            reset_tables(*pair, std=joint_xavier_std(*pair))
        self.encoder.reset_parameters()

    def routed_preference(self, name: str, z: Tensor) -> Tensor:
        """Return p after the routing: unit rows ``[n_users, C]``, moved toward the items most like them."""
        p = unit_rows(self.preference[name].weight)
        if self.legacy_routing:
            return p
        for _ in range(self.routing_rounds):
            nodes = torch.cat([p, z])
            attention = edge_softmax(self.user_edges, edge_scores(self.user_edges, nodes, nodes))
            received = EdgeGraph(self.user_edges, attention).propagate(nodes)
            p = unit_rows(p + received[: self.n_users])
        return p

    def attend(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Return one pass both ways: c ``[n_nodes, C]``, and the attention of every edge, ``[2 E]``."""
        score = edge_scores(self.user_edges, nodes, nodes)
        # <x_v, x_w> = <x_w, x_v>: scored once, read from both ends
        score = torch.cat([score, score.index_select(0, self.user_edges.transposed)])
        attention = edge_softmax(self.edges, score)
        return nodes + EdgeGraph(self.edges, attention).propagate(nodes), attention

    def refined_graph(self, attention: list[Tensor]) -> EdgeGraph:
        """Return the user-item graph whose edges the modalities weight, one ``[2 E]`` each."""
        by_modality = torch.stack(attention, dim=1)
        if self.edge_weight == "confidence":
            confidence = torch.cat([self.user_confidence.weight, self.item_confidence.weight])
            by_modality = by_modality * F.embedding(self.edges.cols, confidence)
        weights = by_modality.mean(dim=1) if self.edge_weight == "mean" else by_modality.amax(dim=1)
        return EdgeGraph(self.edges, F.relu(weights) if self.pruning else weights)

    def encode(self, latents: Mapping[str, Tensor], items: Tensor | None = None) -> Encoded:
        """Return [id; c_1; ..; c_M], or another fusion, from the refined graph."""
        content, attention = [], []
        for name in self.modalities:
            p = self.routed_preference(name, latents[name])
            c, a = self.attend(torch.cat([p, latents[name]]))
            content.append(c)
            attention.append(a)
        user0, item0 = self.user_embedding.weight, self.item_embedding.weight
        graph = self.refined_graph(attention)
        layer = nodes = unit_rows(torch.cat([user0, item0]))
        for _ in range(self.n_layers):
            layer = graph.propagate(layer)
            nodes = nodes + layer
        if self.fusion == "concat":
            nodes = torch.cat([nodes, *content], dim=1)
        elif self.fusion == "mean":
            nodes = torch.stack([nodes, *content]).mean(dim=0)
        user, item = nodes.split([self.n_users, self.n_items])
        return Encoded(user, item, user0, item0)

    def ranking_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``bpr`` and ``reg``, of the id embeddings and the preferences of the batch."""
        losses = {"bpr": bpr(*batch.triplets())}
        ids = self.user_embedding(batch.users).square().mean()
        ids = ids + self.item_embedding(torch.cat([batch.positives, batch.negatives])).square().mean()
        penalty = ids + total(table(batch.users).square().mean() for table in self.preference.values())
        losses["reg"] = self.reg_weight * penalty
        return losses

    def user_content(self) -> UserContent:
        """Return the users' preferences by modality."""
        return content_per_modality(self.preference, self.encoder, self.user_embedding)

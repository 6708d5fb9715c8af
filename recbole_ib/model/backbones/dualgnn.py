"""DualGNN: a user-item graph per modality, and a graph of users who share items."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.graph import SparseMatrix, mean_propagation, neighbor_weights, user_co_occurrence
from recbole_ib.graph.user_graph import AGGREGATIONS
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.graphs import training_adjacency
from recbole_ib.model.layers.encoder import LinearEncoder, MLPEncoder, ModalityEncoder
from recbole_ib.model.layers.id_tables import user_tables
from recbole_ib.model.losses import bpr, total
from recbole_ib.model.settings import Declaration, Override, Search, Setting
from recbole_ib.model.shared_settings import EMBEDDING_SIZE, N_LAYERS, PUBLISHED_PATIENCE
from recbole_ib.model.types import Batch, Encoded, UserContent
from recbole_ib.model.user_content import content_per_modality
from recbole_ib.ops.normalize import unit_rows
from recbole_ib.utils.validate import Integer, Number, OneOf


class DualGNN(MultimodalRecommender):
    """DualGNN (Wang et al., IEEE TMM 2021).

    "DualGNN: Dual Graph Neural Network for Multimedia Recommendation".

    For every modality m, g = W2 lrelu(W1 f), x0 = norm([T_m; g]), x_m = sum of the layers 0..L of A x0, A the
    symmetrically normalized training graph. Users: y_u = sum_m w_um x_m[u] with trained w, as the authors'
    release has it (MMRec's port has w_u1 (x_1 + x_2) + w_u2 x_2), then x_u = y_u + sum_k s_uk y_k over the
    ``user_knn`` users that share most training items with u, s their softmax or 1/k
    (:mod:`recbole_ib.graph.user_graph`). Items: sum_m x_m[i]. Score <x_u, y_i>; loss -mean log2
    sigmoid(s_ui - s_uj) + reg_weight (sum_m mean T_m[u]^2 + mean w^2). No id embeddings.

    Yaml: ``embedding_size``, ``hidden_dim`` of W1, ``n_layers`` L, ``user_knn``, ``user_aggregation``,
    ``reg_weight``.
    """

    settings: ClassVar[tuple[Declaration, ...]] = (
        PUBLISHED_PATIENCE,
        EMBEDDING_SIZE.but(doc="width of a modality's preferences T_m and of its projected features g"),
        Setting("hidden_dim", 256, "width of the first projection layer, W1", Integer(1), source="release"),
        N_LAYERS.but(doc="L, user-item layers", source="release"),
        Setting("user_knn", 40, "users that share most items, at most", Integer(1), source="release"),
        Setting(
            "user_aggregation",
            "softmax",
            "their weights: softmax of the numbers of shared items; mean: equal",
            OneOf(*AGGREGATIONS),
        ),
        Setting(
            "reg_weight",
            0.1,
            "of the mean squares of preferences and weights",
            Number(least=0),
            source="release",
            search=Search.choice(
                1.0e-1, 1.0e-2, 1.0e-3, 1.0e-4, 1.0e-5, source="the benchmarks' grid on Amazon"
            ),
        ),
        Override(
            "learning_rate",
            source="release: 1e-4",
            search=Search.choice(
                1.0e-1, 1.0e-2, 1.0e-3, 1.0e-4, 1.0e-5, source="the benchmarks' grid on Amazon"
            ),
        ),
    )

    row_mean_losses = True

    encoder: ModalityEncoder

    def __init__(self, config: Any, dataset: Any):
        super().__init__(config, dataset)
        self.n_layers = int(config["n_layers"])
        aggregation = config["user_aggregation"]
        interactions = dataset.inter_matrix(form="csr")
        self.adjacency = training_adjacency(dataset, "sym")
        self.user_graph = SparseMatrix(
            neighbor_weights(user_co_occurrence(interactions, int(config["user_knn"])), aggregation)
        )
        projections = LinearEncoder(dataset.modalities, config["hidden_dim"], init="default")
        self.encoder = MLPEncoder(projections, self.embedding_size)
        self.preference = user_tables(self.n_users, dict.fromkeys(self.modalities, self.embedding_size))
        self.user_weight = nn.Embedding(self.n_users, len(self.modalities))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw preferences, the users' weights of the modalities, and encoder anew."""
        for table in self.preference.values():
            nn.init.xavier_normal_(table.weight)
        nn.init.xavier_normal_(self.user_weight.weight)
        with torch.no_grad():
            # shares of the modalities at the start; trained without being normalized again
            self.user_weight.weight.copy_(F.softmax(self.user_weight.weight, dim=1))
        self.encoder.reset_parameters()

    def encode(self, latents: Mapping[str, Tensor], items: Tensor | None = None) -> Encoded:
        """Return x_u, with the user graph, and the items' sums over the modalities."""
        parts = [torch.cat([self.preference[m].weight, latents[m]]) for m in self.modalities]
        nodes0 = torch.cat([unit_rows(part) for part in parts], dim=1)
        # the layers' sum is their mean times their number; all modalities side by side, so that one product
        # does for all
        nodes = (self.n_layers + 1) * mean_propagation(self.adjacency, nodes0, self.n_layers)
        user0, item0 = nodes0.split([self.n_users, self.n_items])
        by_modality = nodes.view(-1, len(self.modalities), self.embedding_size)
        by_user, by_item = by_modality.split([self.n_users, self.n_items])
        user = (by_user * self.user_weight.weight.unsqueeze(2)).sum(dim=1)
        return Encoded(user + self.user_graph(user), by_item.sum(dim=1), user0, item0)

    def ranking_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``bpr`` and ``reg``, of the users' preferences and weights."""
        losses = {"bpr": bpr(*batch.triplets())}
        preferences = total(table(batch.users).square().mean() for table in self.preference.values())
        losses["reg"] = self.reg_weight * (preferences + self.user_weight.weight[1:].square().mean())
        # the logarithm to base 2, as released: against the same reg_weight, BPR counts 1.44 times
        return {**losses, "bpr": losses["bpr"] / math.log(2)}

    def user_content(self) -> UserContent:
        """Return the users' preferences by modality."""
        return content_per_modality(self.preference, self.encoder)

"""VLightGCN: LightGCN on ids and projected content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from recbole_ib.graph import mean_propagation
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.graphs import training_adjacency
from recbole_ib.model.layers.encoder import LinearEncoder, ModalityEncoder, make_encoder
from recbole_ib.model.layers.feature_scaling import feature_scaling
from recbole_ib.model.layers.id_tables import id_tables, reset_tables
from recbole_ib.model.settings import Declaration, Search, Setting
from recbole_ib.model.shared_settings import (
    EMBEDDING_SIZE,
    FEATURE_ENCODER,
    N_LAYERS,
    NORMALIZE_FEATURES,
    searched_rate,
)
from recbole_ib.model.types import Encoded, UserContent
from recbole_ib.utils.validate import Number


class VLightGCN(MultimodalRecommender):
    """VLightGCN, a backbone of IBMRec (arXiv 2501.12175, section 5.3.1).

    X0 = [P, C], Y0 = [Q, Z^1 .. Z^K]; [X; Y] = mean of the layers 0..L of A [X0; Y0] (Eq. 4-7), A the
    symmetrically normalized training graph; s = <x_a, y_i>; loss BPR + reg_weight |layer-0 rows of the
    batch|^2 / B (Eq. 29).

    Yaml: ``embedding_size`` d, ``n_layers`` L, ``reg_weight``, ``normalize_features``, ``init_std``.
    """

    settings: ClassVar[tuple[Declaration, ...]] = (
        EMBEDDING_SIZE.but(doc="d, of ids and of each modality", source="paper: 64"),
        FEATURE_ENCODER,
        N_LAYERS.but(search=Search.choice(1, 2, 3, source="as LightGCN is searched on Amazon")),
        Setting(
            "reg_weight",
            1.0e-3,
            "lambda, of the layer-0 rows",
            Number(least=0),
            source="chosen on amazon-baby, validation",
            search=Search.loguniform(1.0e-5, 1.0e-2, source="as LightGCN is searched on Amazon"),
        ),
        NORMALIZE_FEATURES,
        Setting(
            "init_std", 0.01, "embeddings start from N(0, init_std^2)", Number(least=0), source="paper: .01"
        ),
        searched_rate("around the default"),
    )

    row_mean_losses = True

    encoder: ModalityEncoder

    def __init__(self, config: Any, dataset: Any):
        super().__init__(config, dataset)
        self.n_layers = int(config["n_layers"])
        self.init_std = float(config["init_std"])
        width = self.embedding_size
        self.adjacency = training_adjacency(dataset, "sym")
        features, scaling = dataset.modalities, feature_scaling(config, dataset)
        self.encoder = make_encoder(config, lambda size: LinearEncoder(features, size, scaling), width)
        self.user_embedding, self.item_embedding = id_tables(self.n_users, self.n_items, width)
        self.user_preference = nn.Embedding(self.n_users, len(self.modalities) * width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw ids, preferences and encoder anew."""
        reset_tables(self.user_embedding, self.item_embedding, self.user_preference, std=self.init_std)
        self.encoder.reset_parameters()

    def encode(self, latents: Mapping[str, Tensor], items: Tensor | None = None) -> Encoded:
        """Return X and Y-bar, with X0 and Y0 (Eq. 4-7)."""
        user0 = torch.cat([self.user_embedding.weight, self.user_preference.weight], dim=1)
        item0 = torch.cat([self.item_embedding.weight, *(latents[m] for m in self.modalities)], dim=1)
        nodes = mean_propagation(self.adjacency, torch.cat([user0, item0]), self.n_layers)
        user, item = nodes.split([self.n_users, self.n_items])
        return Encoded(user, item, user0, item0)

    def user_content(self) -> UserContent:
        """Return C, a table of its own."""
        table = self.user_preference
        return UserContent(table, lambda: [table.weight, *self.encoder.parameters()], self.user_embedding)

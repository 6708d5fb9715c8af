"""LATTICE: item-item structure mined from the modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from recbole.data.interaction import Interaction
from torch import Tensor
from torch.nn import functional as F

from recbole_ib.graph import mean_propagation
from recbole_ib.graph.adjacency import NORMALIZATIONS
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.graphs import training_adjacency
from recbole_ib.model.layers.encoder import LinearEncoder, is_tuned, make_encoder
from recbole_ib.model.layers.id_tables import id_tables, reset_tables
from recbole_ib.model.layers.item_graph import ItemGraphLayer
from recbole_ib.model.losses import bpr, total
from recbole_ib.model.settings import Declaration, Override, Search, Setting
from recbole_ib.model.shared_settings import (
    EMBEDDING_SIZE,
    FEATURE_ENCODER,
    ITEM_GRAPH,
    KNN_K,
    MODALITY_WEIGHTS,
    N_ITEM_LAYERS,
    N_LAYERS,
    RAW_FEATURES,
    RELEASED_DECAY,
    STATIC_WEIGHT,
)
from recbole_ib.model.types import Batch, BatchSubset, Encoded, ItemGraph, Outputs, item_graph_subset
from recbole_ib.utils.validate import Integer, Number, OneOf


class LATTICE(MultimodalRecommender):
    """LATTICE (Zhang et al., ACM MM 2021, "Mining Latent Structures for Multimedia Recommendation").

    Item graph S = (1 - lam) normalize(sum_m a_m kNN(F_m W_m + b_m)) + lam sum_m a_m normalize(kNN(F_m));
    H = S^n Q on the id embeddings, content enters through S alone; y = LightGCN(Q) + H / ||H||,
    x = LightGCN(P); loss BPR + reg_weight (|x|^2 + |y+|^2 + |y-|^2) / (2B) on the final rows.

    Yaml: ``embedding_size``, ``feature_dim`` (width of F_m W_m), ``n_layers``, ``n_item_layers`` n,
    ``knn_k``, ``static_weight`` lam, ``modality_weights`` a, ``item_graph`` (``learned``: as published;
    ``frozen``: lam = 1, no W_m), ``raw_features`` (``tuned``: F_m is trained too, as released), ``ui_norm``
    (``row``: as released; ``sym``), ``reg_weight``.
    """

    settings: ClassVar[tuple[Declaration, ...]] = (
        RELEASED_DECAY,
        EMBEDDING_SIZE,
        FEATURE_ENCODER,
        Setting(
            "feature_dim", 64, "width of the transformed features F_m W_m (item_graph: learned)", Integer(1)
        ),
        N_LAYERS,
        Setting(
            "ui_norm",
            "row",
            "row: D^-1 (A + I), as released; sym: D^-1/2 A D^-1/2; mean: D^-1 A",
            OneOf(*NORMALIZATIONS),
        ),
        Setting(
            "reg_weight",
            1.0e-4,
            "of the squared final rows",
            Number(least=0),
            search=Search.choice(0.0, 1.0e-5, 1.0e-4, 1.0e-3, source="the benchmarks on Amazon"),
        ),
        N_ITEM_LAYERS,
        KNN_K.but(search=Search.choice(5, 10, 15, 20, source="paper")),
        MODALITY_WEIGHTS,
        ITEM_GRAPH,
        STATIC_WEIGHT,
        RAW_FEATURES,
        Override(
            "learning_rate",
            search=Search.choice(1.0e-4, 5.0e-4, 1.0e-3, 5.0e-3, source="the benchmarks on Amazon"),
        ),
    )

    latents_role = "graph"
    item_graph_kind: ClassVar[Literal["shared", "modality"] | None] = "shared"
    row_mean_losses = True

    def __init__(self, config: Any, dataset: Any):
        super().__init__(config, dataset)
        self.n_layers = int(config["n_layers"])
        norm = config["ui_norm"]
        self.adjacency = training_adjacency(dataset, norm)
        self.item_graph_layer = self.build_item_graph_layer(config, dataset)
        self.user_embedding, self.item_embedding = id_tables(self.n_users, self.n_items, self.embedding_size)
        if self.item_graph_layer.learned:
            width = int(config["feature_dim"])
            features, tuned = dataset.modalities, is_tuned(config)
            self.encoder = make_encoder(
                config, lambda size: LinearEncoder(features, size, tuned=tuned, init="default"), width
            )
        self.reset_parameters()

    def build_item_graph_layer(self, config: Any, dataset: Any) -> Any:
        """Return the module that builds S."""
        return ItemGraphLayer(config, dataset, frozen_order="normalize_first")

    def reset_parameters(self) -> None:
        """Draw ids and, with a learned graph, the encoder anew."""
        reset_tables(self.user_embedding, self.item_embedding)
        if self.encoder is not None:
            self.encoder.reset_parameters()

    def pre_epoch(self, epoch: int) -> None:
        """Let a learned graph be built again."""
        self.item_graph_layer.start_epoch()

    def encode(self, latents: Mapping[str, Tensor], items: Tensor | None = None) -> Encoded:
        """Return LightGCN of the ids; content enters by the item graph alone."""
        user0, item0 = self.user_embedding.weight, self.item_embedding.weight
        nodes = mean_propagation(self.adjacency, torch.cat([user0, item0]), self.n_layers)
        user, item = nodes.split([self.n_users, self.n_items])
        return Encoded(user, item, user0, item0)

    def item_graph(self, latents: Mapping[str, Tensor]) -> ItemGraph:
        """Return S, frozen or of the latents F_m W_m."""
        return self.item_graph_layer(latents)

    def apply_item_graph(self, encoded: Encoded, graph: ItemGraph, nodes: Tensor | None = None) -> Outputs:
        """Return x and y = y-bar + H / ||H||."""
        return Outputs(encoded.user, self.item_graph_layer.enrich(encoded.item, encoded.item0, graph))

    def ranking_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``bpr`` and ``reg``, of the final rows."""
        losses = {"bpr": bpr(*batch.triplets())}
        rows = (
            F.embedding(batch.users, batch.outputs.user),
            F.embedding(torch.cat([batch.positives, batch.negatives]), batch.outputs.item),
        )
        losses["reg"] = self.reg_weight * (total(r.square().sum() for r in rows) / (2 * batch.users.numel()))
        return losses

    def batch_subset(self, interaction: Interaction) -> BatchSubset:
        """Return the batch's items for the graph, where each reads its own row of S alone."""
        return item_graph_subset(
            self.item_graph_layer.num_layers, interaction[self.ITEM_ID], interaction[self.NEG_ITEM_ID]
        )

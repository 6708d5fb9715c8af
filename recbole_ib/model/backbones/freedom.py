"""FREEDOM: a frozen item graph and a denoised user-item graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from recbole.data.interaction import Interaction
from torch import Tensor
from torch.nn import functional as F

from recbole_ib.data.modality_spec import USUAL_NAMES
from recbole_ib.errors import ConfigurationError
from recbole_ib.graph import (
    EdgeGraph,
    FrozenItemGraph,
    ModalityWeights,
    SparseMatrix,
    degree_sensitive_edges,
    mean_propagation,
    user_item_adjacency,
)
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.graphs import modality_graphs, modality_weights, training_adjacency
from recbole_ib.model.layers.encoder import LinearEncoder, ModalityEncoder, is_tuned, make_encoder
from recbole_ib.model.layers.id_tables import id_tables, reset_tables
from recbole_ib.model.losses import bpr
from recbole_ib.model.settings import Declaration, Search, Setting
from recbole_ib.model.shared_settings import (
    EMBEDDING_SIZE,
    FEATURE_ENCODER,
    KNN_K,
    MODALITY_WEIGHTS,
    N_ITEM_LAYERS,
    N_LAYERS,
    PUBLISHED_PATIENCE,
    RAW_FEATURES,
    searched_rate,
)
from recbole_ib.model.types import (
    Batch,
    BatchSubset,
    Encoded,
    ItemGraph,
    Outputs,
    UserContent,
    distinct,
    item_graph_subset,
)
from recbole_ib.model.user_content import repeated_content
from recbole_ib.utils.validate import Number


class FREEDOM(MultimodalRecommender):
    """FREEDOM (Zhou & Shen, ACM MM 2023, "A Tale of Two Graphs: Freezing and Denoising Graph Structures").

    S = w kNN1(image) + (1 - w) kNN1(text), kept entries 1 and normalized to 1/K, once from the raw features;
    [X_u; X_i] = LightGCN([P; Q]); y = X_i + S^n Q; s = <x, y>; loss BPR(x, y) + reg_weight sum_m BPR(x_u,
    T_m[i], T_m[j]), T_m = F_m W_m + b_m. Training propagates on a graph drawn anew every epoch
    (:func:`recbole_ib.graph.degree_sensitive_edges`), evaluation on the whole one.

    Yaml: ``embedding_size``, ``n_layers``, ``n_item_layers`` n, ``knn_k`` K, ``image_weight`` w,
    ``modality_weights``, ``edge_dropout`` rho, ``raw_features``, ``reg_weight``.
    """

    settings: ClassVar[tuple[Declaration, ...]] = (
        PUBLISHED_PATIENCE,
        EMBEDDING_SIZE.but(doc="width d of the embeddings, also of T_m", source="paper: 64"),
        FEATURE_ENCODER,
        N_LAYERS,
        N_ITEM_LAYERS,
        KNN_K,
        Setting(
            "edge_dropout",
            0.8,
            "rho, the share of user-item edges left out in an epoch; 0 or less: training on all edges",
            Number(below=1),
            search=Search.choice(0.8, 0.9, source="paper"),
        ),
        Setting(
            "reg_weight",
            1.0e-3,
            "of the modalities' BPR terms",
            Number(least=0),
            search=Search.choice(0.0, 1.0e-5, 1.0e-4, 1.0e-3, source="paper"),
        ),
        Setting(
            "image_weight",
            0.1,
            "w, the share of the pictures' graph",
            Number(least=0, most=1),
            source="paper: fixed at .1",
            search=Search.choice(0.1, 0.3, 0.5, 0.7, 0.9, source="from .1 to .9"),
        ),
        MODALITY_WEIGHTS.but(
            default=None,
            doc="a weight per modality, equal or learned; comes before image_weight. Not set: image_weight",
        ),
        RAW_FEATURES,
        searched_rate("around the default, which the paper fixes at 1e-3"),
    )

    latents_role = "loss"
    item_graph_kind = "shared"
    row_mean_losses = True

    encoder: ModalityEncoder

    def __init__(self, config: Any, dataset: Any):
        super().__init__(config, dataset)
        self.n_layers, self.n_item_layers = int(config["n_layers"]), int(config["n_item_layers"])
        self.edge_dropout = float(config["edge_dropout"])
        if self.edge_dropout >= 1:
            raise ConfigurationError(
                f"edge_dropout, the share of dropped edges, must be below 1, got {self.edge_dropout}"
            )
        self.interactions = dataset.inter_matrix(form="csr")
        self.adjacency = training_adjacency(dataset, "sym")
        self.sampled: SparseMatrix | None = None
        graphs = modality_graphs(config, dataset)
        for graph in graphs.values():
            graph.data[:] = 1.0
        weights = self._graph_weights(config, list(graphs))
        self.frozen_graph = FrozenItemGraph(graphs, weights, "normalize_first")
        # as wide as the users' rows, which score them
        features, tuned = dataset.modalities, is_tuned(config)
        self.encoder = make_encoder(
            config,
            lambda size: LinearEncoder(features, size, tuned=tuned, init="default"),
            self.embedding_size,
        )
        self.user_embedding, self.item_embedding = id_tables(self.n_users, self.n_items, self.embedding_size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw ids and encoder anew."""
        reset_tables(self.user_embedding, self.item_embedding)
        self.encoder.reset_parameters()

    def pre_epoch(self, epoch: int) -> None:
        """Draw the graph that this epoch's training propagates on."""
        if self.edge_dropout > 0:
            edges = degree_sensitive_edges(self.interactions, self.edge_dropout)
            self.sampled = SparseMatrix(user_item_adjacency(edges), symmetric=True).to(self.device)

    def batch_subset(self, interaction: Interaction) -> BatchSubset:
        """Return the batch's items.

        T_m acts in the loss alone, and each item reads its own row of a one-layer S.
        """
        items = distinct(interaction[self.ITEM_ID], interaction[self.NEG_ITEM_ID])
        return item_graph_subset(self.n_item_layers, items)._replace(latents=items)

    def encode(self, latents: Mapping[str, Tensor], items: Tensor | None = None) -> Encoded:
        """Return LightGCN of the ids, in training on the graph of the epoch; ``views``: T_m, for the loss."""
        if self.training and self.edge_dropout > 0 and self.sampled is None:
            self.pre_epoch(0)
        adjacency = self.sampled if self.training and self.sampled is not None else self.adjacency
        user0, item0 = self.user_embedding.weight, self.item_embedding.weight
        nodes = mean_propagation(adjacency, torch.cat([user0, item0]), self.n_layers)
        user, item = nodes.split([self.n_users, self.n_items])
        return Encoded(user, item, user0, item0, latents)

    def item_graph(self, latents: Mapping[str, Tensor]) -> EdgeGraph:
        """Return the frozen S."""
        return self.frozen_graph()

    def apply_item_graph(self, encoded: Encoded, graph: ItemGraph, nodes: Tensor | None = None) -> Outputs:
        """Return X_u and y = X_i + S^n Q."""
        propagated = cast("EdgeGraph", graph).propagate(encoded.item0, self.n_item_layers)
        return Outputs(encoded.user, encoded.item + propagated)

    def ranking_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``bpr`` and ``bpr_<modality>``."""
        i, j = batch.latent_rows(batch.positives), batch.latent_rows(batch.negatives)
        u, positive, negative = batch.triplets()
        losses = {"bpr": bpr(u, positive, negative)}
        for name in self.modalities:
            t = batch.encoded.views[name]
            losses[f"bpr_{name}"] = self.reg_weight * bpr(u, F.embedding(i, t), F.embedding(j, t))
        return losses

    def user_content(self) -> UserContent:
        """Return the layer-0 rows of what the auxiliary losses score every modality with."""
        return repeated_content(self.user_embedding, len(self.modalities), self.encoder)

    def _graph_weights(self, config: Any, modalities: list[str]) -> ModalityWeights:
        """Return ``modality_weights`` where it is set.

        Otherwise ``image_weight`` for the pictures and equal shares for the rest.
        """
        if config["modality_weights"] is not None:
            return modality_weights(config, modalities)
        weight = float(config["image_weight"])
        if not 0 <= weight <= 1:
            raise ConfigurationError(f"image_weight must lie in [0, 1], got {weight}")
        images = [m for m in modalities if m.lower() in USUAL_NAMES["vision"]]
        if len(modalities) == 1:
            return ModalityWeights.equal(modalities)
        if len(images) != 1:
            self.logger.warning(
                f"FREEDOM: image_weight is not used, since {len(images)} of the modalities "
                f"{', '.join(modalities)} are named as pictures are ({', '.join(USUAL_NAMES['vision'])}); "
                "all weigh the same. modality_weights gives each one its own"
            )
            return ModalityWeights.equal(modalities)
        others = (1 - weight) / (len(modalities) - 1)
        return ModalityWeights(modalities, {m: weight if m in images else others for m in modalities})

"""VLATTICE: LATTICE with representation enhancement, IBMRec's own backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_ib.graph import EdgeGraph
from recbole_ib.model.backbones.vlightgcn import VLightGCN
from recbole_ib.model.layers.item_graph import ItemGraphLayer
from recbole_ib.model.settings import Declaration, Override, Search
from recbole_ib.model.shared_settings import (
    ITEM_GRAPH,
    KNN_K,
    MODALITY_WEIGHTS,
    N_ITEM_LAYERS,
    STATIC_WEIGHT,
    searched_rate,
)
from recbole_ib.model.types import BatchSubset, Encoded, ItemGraph, Outputs, item_graph_subset


class VLATTICE(VLightGCN):
    """VLATTICE: IBMRec without its bottlenecks (arXiv 2501.12175, section 4.1; "w/o IB" in its Table 4).

    X0 = [P, C], Y0 = [Q, Z]; x, y-bar from the user-item graph as in VLightGCN (Eq. 4-7); S = normalize(sum_m
    a_m kNN_m), Y' = S^L_ii Y0 (Eq. 8-11); y = y-bar + Y' / ||Y'||, by rows (Eq. 12); s = <x_a, y_i>; loss as
    VLightGCN.

    Yaml: those of VLightGCN and ``n_item_layers`` L_ii, ``knn_k``, ``modality_weights`` a, ``item_graph``
    (``frozen``: S is built once from the raw features, Algorithm 1 line 1; ``learned``: rebuilt each epoch
    from Z with ``static_weight``).
    """

    settings: ClassVar[tuple[Declaration, ...]] = (
        Override("n_layers", search=None),
        Override(
            "reg_weight",
            search=Search.loguniform(1.0e-5, 1.0e-2, source="around the default; the paper states no range"),
        ),
        N_ITEM_LAYERS,
        KNN_K.but(search=Search.choice(5, 10, 15, 20, source="LATTICE's; the paper states no range")),
        MODALITY_WEIGHTS,
        ITEM_GRAPH.but(
            default="frozen",
            doc="frozen: once, from the raw features; learned: rebuilt each epoch from Z",
            source="paper, Algorithm 1: frozen",
        ),
        STATIC_WEIGHT.but(doc="item_graph: learned only: the share of the raw features' graph"),
        searched_rate("around the default; the paper states no range"),
    )
    search_order: ClassVar[tuple[str, ...]] = ("reg_weight", "knn_k", "learning_rate")

    item_graph_kind = "shared"
    row_mean_losses = True

    def __init__(self, config: Any, dataset: Any):
        super().__init__(config, dataset)
        self.item_graph_layer = ItemGraphLayer(config, dataset, frozen_order="mix_first")

    def pre_epoch(self, epoch: int) -> None:
        """Let a learned graph be built again."""
        self.item_graph_layer.start_epoch()

    def item_graph(self, latents: Mapping[str, Tensor]) -> EdgeGraph:
        """Return S (Eq. 8-10), frozen or of the latents Z."""
        return self.item_graph_layer(latents)

    def apply_item_graph(self, encoded: Encoded, graph: ItemGraph, nodes: Tensor | None = None) -> Outputs:
        """Return x and y = y-bar + Y' / ||Y'|| (Eq. 12)."""
        y = self.item_graph_layer.enrich(encoded.item, encoded.item0, cast("EdgeGraph", graph))
        return Outputs(encoded.user, y)

    def batch_subset(self, interaction: Interaction) -> BatchSubset:
        """Return the batch's items for the graph, where each reads its own row of S alone."""
        return item_graph_subset(
            self.item_graph_layer.num_layers, interaction[self.ITEM_ID], interaction[self.NEG_ITEM_ID]
        )

"""The item-graph half of LATTICE, VLATTICE and MICRO.

Which graph S is, and how its output joins the collaborative one.
"""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from typing import Any

import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recbole_ib.graph import EXACT_LIMIT, EdgeGraph, FrozenItemGraph, LearnedItemGraph, ModalityWeights
from recbole_ib.model.graphs import modality_graphs, modality_weights
from recbole_ib.ops.normalize import unit_rows


class ItemGraphLayer(nn.Module):
    """S, and y = y-bar + S^L y0 / ||S^L y0|| (IBMRec Eq. 8-12; LATTICE Eq. 3-9).

    ``item_graph: frozen`` builds S once from the raw features; ``learned`` rebuilds it from the latents at
    the first batch of every epoch, the only one whose gradient runs through S, and once per evaluation.

    Yaml: ``item_graph``, ``knn_k``, ``knn_search`` (a graph rebuilt in training is searched exactly unless it
    is ``faiss``), ``static_weight`` (LATTICE's lambda), ``modality_weights``, ``n_item_layers``.

    Args:
        config: of the run.
        dataset: of the model.
        frozen_order: see :class:`recbole_ib.graph.FrozenItemGraph`.
        graphs: modality -> kNN graph of the raw features; default: those of all modalities, with their yaml
            weights.
    """

    graph: LearnedItemGraph | FrozenItemGraph

    def __init__(
        self, config: Any, dataset: Any, frozen_order: str, graphs: Mapping[str, sp.csr_array] | None = None
    ):
        super().__init__()
        self.learned = config["item_graph"] == "learned"
        self.num_layers = int(config["n_item_layers"])
        if graphs is None:
            graphs = modality_graphs(config, dataset)
            weights = modality_weights(config, list(graphs))
        else:
            weights = ModalityWeights.equal(list(graphs))
        if self.learned:
            search = "faiss" if config["knn_search"] == "faiss" else "exact"
            if dataset.item_num > EXACT_LIMIT:
                getLogger().warning(
                    f"item_graph: learned searches the neighbors of {dataset.item_num} items ({search}) anew "
                    "in every epoch and every evaluation; item_graph: frozen does so once"
                )
            self.graph = LearnedItemGraph(
                graphs, weights, int(config["knn_k"]), float(config["static_weight"]), search
            )
            self.has_feature = dict(dataset.has_feature)
        else:
            self.graph = FrozenItemGraph(graphs, weights, frozen_order)
        self._kept: EdgeGraph | None = None

    def start_epoch(self) -> None:
        """Forget the graph of the last epoch."""
        self._kept = None

    def forward(self, latents: Mapping[str, Tensor]) -> EdgeGraph:
        """Return S, given the latents, which a frozen graph does not read."""
        if isinstance(self.graph, FrozenItemGraph):
            return self.graph()
        if not self.training:
            with torch.no_grad():
                return self.graph(latents, self.has_feature)
        if self._kept is None:
            graph = self.graph(latents, self.has_feature)
            self._kept = graph.detach()
            return graph
        return self._kept

    def enrich(self, collaborative: Tensor, item0: Tensor, graph: EdgeGraph) -> Tensor:
        """Return y of y-bar and y0, ``[n_items, D]`` each.

        Rows of the graph's output are scaled to length 1.
        """
        return collaborative + unit_rows(graph.propagate(item0, self.num_layers))

    def extra_repr(self) -> str:
        """Return the settings that the printed module shows."""
        return f"learned={self.learned}, num_layers={self.num_layers}"

"""MICRO: an item graph per modality, fused by attention and contrast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.bottleneck import two_view_contrast
from recbole_ib.graph import EdgeGraph
from recbole_ib.model.backbones.lattice import LATTICE
from recbole_ib.model.graphs import modality_graphs
from recbole_ib.model.layers.fusion import ViewAttention
from recbole_ib.model.layers.item_graph import ItemGraphLayer
from recbole_ib.model.losses import total
from recbole_ib.model.settings import Declaration, Dropped, Override, Search, Setting
from recbole_ib.model.shared_settings import CL_TEMPERATURE, PUBLISHED_PATIENCE
from recbole_ib.model.types import Batch, Encoded, ItemGraph, Outputs
from recbole_ib.ops.normalize import unit_rows
from recbole_ib.utils.validate import Number, OneOf

#: beside the modalities' own rows in what the loss reads; no modality is named like this
FUSED = "<fused>"


class ModalityItemGraphs(nn.Module):
    """One :class:`~recbole_ib.model.layers.item_graph.ItemGraphLayer` per modality, not one mixed graph.

    ``forward``: modality -> latents ``[n_items, d]``; returns modality -> graph.
    """

    def __init__(self, config: Any, dataset: Any):
        super().__init__()
        graphs = modality_graphs(config, dataset)
        self.views = nn.ModuleDict(
            {m: ItemGraphLayer(config, dataset, "normalize_first", {m: g}) for m, g in graphs.items()}
        )
        self.learned = all(view.learned for view in self._layers())

    def start_epoch(self) -> None:
        """Forget the graphs of the last epoch."""
        for view in self._layers():
            view.start_epoch()

    def forward(self, latents: Mapping[str, Tensor]) -> dict[str, EdgeGraph]:
        """Return S_m by modality."""
        return {m: view(latents) for m, view in self.views.items()}

    def _layers(self) -> list[ItemGraphLayer]:
        return [cast("ItemGraphLayer", view) for view in self.views.values()]


class MICRO(LATTICE):
    """MICRO (Zhang et al., IEEE TKDE 2022, "Latent Structure Mining with Contrastive Modality Fusion").

    S_m = (1 - lam) normalize(kNN(F_m W_m + b_m)) + lam normalize(kNN(F_m)), one graph per modality;
    H_m = S_m^n Q; h_i = sum_m alpha_im h_im with attention alpha; x = LightGCN(P),
    y = LightGCN(Q) + h / ||h||; loss

        BPR + reg_weight |final rows of the batch|^2 / (2B) + cl_weight sum_m contrast(H_m, h),

    see :func:`recbole_ib.bottleneck.two_view_contrast`. The graphs are rebuilt when LATTICE's are: at the
    first batch of an epoch, with gradient, and once per evaluation.

    Yaml: those of LATTICE without ``modality_weights``; ``cl_weight`` beta, ``cl_temperature``, ``cl_items``
    (``all``: as published; ``batch``: the batch's distinct positive items, a cheaper variant of ours).
    """

    settings: ClassVar[tuple[Declaration, ...]] = (
        PUBLISHED_PATIENCE,
        Dropped("modality_weights"),
        Override(
            "reg_weight",
            default=1.0e-5,
            source="release",
            search=Search.choice(0.0, 1.0e-5, 1.0e-4, 1.0e-3, source="LATTICE's"),
        ),
        Override("embedding_size", source="release: 64"),
        Override("n_layers", source="release"),
        Override("n_item_layers", source="release"),
        Override("feature_dim", source="release: 64"),
        Override("knn_k", source="release", search=Search.choice(5, 10, 15, 20, source="LATTICE's")),
        Override("static_weight", source="release"),
        Setting(
            "cl_weight",
            0.03,
            "beta, of the contrast; 0 leaves it out",
            Number(least=0),
            source="release",
            search=Search.choice(0.01, 0.03, 0.05, 0.1, source="our range, around the release"),
        ),
        CL_TEMPERATURE.but(default=0.5, source="release"),
        Setting(
            "cl_items",
            "all",
            "all: the contrast runs over all items, as released; batch: over the batch's distinct "
            "positives, far cheaper",
            OneOf("all", "batch"),
        ),
        Override(
            "learning_rate",
            source="release: 5e-4 at batches of 1024",
            search=Search.choice(1.0e-4, 5.0e-4, 1.0e-3, 5.0e-3, source="LATTICE's"),
        ),
    )
    search_order: ClassVar[tuple[str, ...]] = ("cl_weight", "reg_weight", "knn_k", "learning_rate")

    item_graph_kind = "modality"

    def __init__(self, config: Any, dataset: Any):
        super().__init__(config, dataset)
        self.cl_weight, self.cl_temperature = float(config["cl_weight"]), float(config["cl_temperature"])
        self.contrast_items = config["cl_items"]
        self.n_item_layers = int(config["n_item_layers"])
        self.attention = ViewAttention(self.embedding_size)

    def build_item_graph_layer(self, config: Any, dataset: Any) -> ModalityItemGraphs:
        """Return the module that builds the S_m."""
        return ModalityItemGraphs(config, dataset)

    def modality_rows(self, encoded: Encoded, graph: Mapping[str, EdgeGraph]) -> dict[str, Tensor]:
        """Return H_m by modality, ``[n_items, d]`` each."""
        return {m: g.propagate(encoded.item0, self.n_item_layers) for m, g in graph.items()}

    def fuse(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Return h, ``[n_items, d]``."""
        stacked = list(rows.values())
        return total(w * x for w, x in zip(self.attention(stacked).split(1, dim=1), stacked, strict=True))

    def apply_item_graph(self, encoded: Encoded, graph: ItemGraph, nodes: Tensor | None = None) -> Outputs:
        """Return x and y, with the H_m and h for the contrast."""
        by_modality = self.modality_rows(encoded, cast("Mapping[str, EdgeGraph]", graph))
        fused = self.fuse(by_modality)
        return Outputs(encoded.user, encoded.item + unit_rows(fused), {**by_modality, FUSED: fused})

    def ranking_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return LATTICE's terms and ``contrast``."""
        losses = super().ranking_losses(batch)
        if self.cl_weight:
            rows = dict(batch.outputs.views)
            fused = rows.pop(FUSED)
            # row 0 is padding: an all-zero row would count as a negative of every item
            items = torch.arange(1, self.n_items, device=fused.device)
            if self.contrast_items == "batch":
                items = batch.items
            other = F.embedding(items, fused)
            terms = [
                two_view_contrast(F.embedding(items, x), other, self.cl_temperature) for x in rows.values()
            ]
            losses["contrast"] = self.cl_weight * total(terms)
        return losses

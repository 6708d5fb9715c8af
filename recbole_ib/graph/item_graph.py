"""The item-item graph of several modalities: mixed once (frozen), or rebuilt from learned latents."""

from __future__ import annotations

from collections.abc import Mapping

import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.graph.knn import cosine_knn
from recbole_ib.graph.propagation import EdgeGraph, EdgeStructure

MIX_ORDERS = ("mix_first", "normalize_first")


def _edges(graph: sp.csr_array) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, columns and values of a CSR matrix as tensors."""
    coo = sp.coo_array(graph)
    rows, cols = (torch.from_numpy(c.astype("int64")) for c in coo.coords)
    return rows, cols, torch.from_numpy(coo.data.astype("float32"))


class ModalityWeights(nn.Module):
    """The weight of every modality in the mixed graph: softmax of trained numbers, or fixed ones.

    Args:
        modalities: their names, in order.
        fixed: name -> weight; ``None`` trains them, all equal at the start (LATTICE starts each at 0.5).

    Raises:
        ValueError: ``fixed`` lacks a modality, names an unknown one, or holds a negative number or only
            zeros.

    Example:
        >>> ModalityWeights(["text", "image"], fixed={"text": 3, "image": 1})()
        tensor([0.7500, 0.2500])
    """

    logits: nn.Parameter | None
    values: Tensor

    def __init__(self, modalities: list[str], fixed: Mapping[str, float] | None = None):
        super().__init__()
        self.modalities = list(modalities)
        if fixed is None:
            self.logits = nn.Parameter(torch.full((len(self.modalities),), 0.5))
            return
        if set(fixed) != set(self.modalities):
            raise ValueError(
                f"modality_weights names {sorted(fixed)}, the data set has the modalities "
                f"{sorted(self.modalities)}; give each one a weight, or 'learned'"
            )
        values = torch.tensor([float(fixed[m]) for m in self.modalities])
        if bool((values < 0).any()) or float(values.sum()) <= 0:
            raise ValueError(f"modality_weights must not be negative nor all zero, got {dict(fixed)}")
        self.logits = None
        self.register_buffer("values", values / values.sum(), persistent=False)

    @classmethod
    def equal(cls, modalities: list[str]) -> ModalityWeights:
        """Return one fixed weight for all."""
        return cls(modalities, dict.fromkeys(modalities, 1.0))

    def forward(self) -> Tensor:
        """Return the weights ``[n_modalities]``, positive, summing to 1."""
        return self.values if self.logits is None else F.softmax(self.logits, dim=0)


class FrozenItemGraph(nn.Module):
    """S built once, before training, from the modalities' kNN graphs (IBMRec Algorithm 1, line 1; Eq. 8-11).

    ``mix_first``: normalize(sum_m a_m S^m), IBMRec's order. ``normalize_first``: sum_m a_m normalize(S^m),
    the order of LATTICE's static part. The pattern is the union of the modalities' patterns; only a is
    trained.

    Args:
        graphs: modality -> CSR ``[n_items, n_items]`` of cosines, at most K a row.
        weights: a.
        order: one of the above.

    Example:
        >>> text = sp.csr_array([[1.0, 1.0], [0.0, 1.0]])
        >>> graph = FrozenItemGraph({"text": text}, ModalityWeights.equal(["text"]))()
        >>> graph.weights.round(decimals=3)
        tensor([0.5000, 0.7070, 1.0000])
    """

    values: Tensor

    def __init__(
        self, graphs: Mapping[str, sp.csr_array], weights: ModalityWeights, order: str = "mix_first"
    ):
        super().__init__()
        if order not in MIX_ORDERS:
            raise ValueError(f"unknown order {order!r}; allowed: {', '.join(MIX_ORDERS)}")
        self.order, self.weights = order, weights
        n_items = next(iter(graphs.values())).shape[0]
        parts = [_edges(graphs[m]) for m in weights.modalities]
        keys = torch.cat([rows * n_items + cols for rows, cols, _ in parts])
        union, position = torch.unique(keys, return_inverse=True)
        self.structure = EdgeStructure(union // n_items, union % n_items, n_items)
        values = torch.zeros(len(parts), union.numel())
        start = 0
        for m, (_, _, part) in enumerate(parts):
            values[m, position[start : start + part.numel()]] = part
            start += part.numel()
        if order == "normalize_first":
            values = torch.stack([self.structure.normalize(v) for v in values])
        self.register_buffer("values", values, persistent=False)

    def forward(self) -> EdgeGraph:
        """Return S with the weights of this moment."""
        mixed = self.weights() @ self.values
        return EdgeGraph(
            self.structure, self.structure.normalize(mixed) if self.order == "mix_first" else mixed
        )


class ConstantGraph(nn.Module):
    """Ready item graph, whose weights never change.

    Args:
        graph: CSR ``[n_items, n_items]``.

    Example:
        >>> ConstantGraph(sp.csr_array([[0.0, 2.0], [1.0, 0.0]]))().weights
        tensor([2., 1.])
    """

    values: Tensor

    def __init__(self, graph: sp.csr_array):
        super().__init__()
        rows, cols, values = _edges(graph)
        self.structure = EdgeStructure(rows, cols, graph.shape[0])
        self.register_buffer("values", values[self.structure.order], persistent=False)

    def forward(self) -> EdgeGraph:
        """Return the graph."""
        return EdgeGraph(self.structure, self.values)


class LearnedItemGraph(nn.Module):
    """LATTICE's latent structure, built again from the learned latents.

    S = (1 - lam) normalize(sum_m a_m K_m) + lam sum_m a_m S0_m.

    K_m is the kNN graph of the cosines of the learned latents, S0_m the normalized kNN graph of the raw
    features; ``lam`` (``static_weight``) is the share of the static part (Zhang et al., ACM MM 2021,
    Eq. 3-7). The choice of neighbors has no gradient, the kept cosines have. ``search``: of
    :func:`recbole_ib.graph.cosine_knn`, at every rebuilding.

    Example:
        >>> text = sp.csr_array([[1.0, 0.0], [0.0, 1.0]])
        >>> graph = LearnedItemGraph({"text": text}, ModalityWeights.equal(["text"]), k=1, static_weight=0.5)
        >>> learned = graph({"text": torch.ones(2, 3)}, {"text": torch.tensor([False, True])})
        >>> learned.structure.n_edges, learned.weights.tolist()
        (2, [0.5, 1.0])
    """

    def __init__(
        self,
        graphs: Mapping[str, sp.csr_array],
        weights: ModalityWeights,
        k: int,
        static_weight: float,
        search: str = "exact",
    ):
        super().__init__()
        if not 0.0 <= static_weight <= 1.0:
            raise ValueError(f"the weight of the static graph must lie in [0, 1], got {static_weight}")
        self.k, self.static_weight, self.search = k, static_weight, search
        self.static = FrozenItemGraph(graphs, weights, order="normalize_first")
        self.weights = weights

    def forward(self, latents: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> EdgeGraph:
        """Build S again.

        Args:
            latents: modality -> ``[n_items, d]``.
            valid: modality -> the items with a feature, bool ``[n_items]``.
        """
        static = self.static()
        n_items, a = static.structure.n_nodes, self.weights()
        row_parts, col_parts, value_parts = [], [], []
        for share, name in zip(a, self.weights.modalities, strict=True):
            r, c, _ = cosine_knn(latents[name], self.k, valid[name], self.search)
            unit = F.normalize(latents[name], dim=1)
            cosine = torch.where(
                r == c,
                torch.ones_like(r, dtype=unit.dtype),
                (F.embedding(r, unit) * F.embedding(c, unit)).sum(dim=1),
            )
            row_parts.append(r)
            col_parts.append(c)
            value_parts.append(share * cosine)
        rows, cols, values = torch.cat(row_parts), torch.cat(col_parts), torch.cat(value_parts)
        degree = values.new_zeros(n_items).index_add(0, rows, values)
        scale = torch.where(degree > 0, degree.clamp_min(1e-12).rsqrt(), torch.zeros_like(degree))
        learned = (
            (1.0 - self.static_weight) * values * scale.index_select(0, rows) * scale.index_select(0, cols)
        )
        rows = torch.cat([rows, static.structure.rows])
        cols = torch.cat([cols, static.structure.cols])
        values = torch.cat([learned, self.static_weight * static.weights])
        union, position = torch.unique(rows * n_items + cols, return_inverse=True)
        summed = values.new_zeros(union.numel()).index_add(0, position, values)
        return EdgeGraph(EdgeStructure(union // n_items, union % n_items, n_items), summed)

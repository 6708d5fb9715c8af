"""The top-k item-item graph of cosine similarity, exact and in row blocks."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.nn import functional as F

# A block of similarities holds at most this many numbers (64 MiB of float32).
BLOCK_NUMBERS = 1 << 24


def usable_rows(features: Tensor, valid: Tensor | None = None) -> Tensor:
    """The rows that a cosine can be taken of: ``valid`` ones that are not all zero, never the padding row 0. Bool ``[n]``."""
    ok = features.norm(dim=1) > 0
    if valid is not None:
        ok &= valid.to(ok.device)
    ok[0] = False
    return ok


def cosine_knn(features: Tensor, k: int, valid: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Every row's k most similar rows by cosine, itself among them (LATTICE; IBMRec Eq. 8-9).

    Works in row blocks, so memory is linear in the number of rows. The graph is directed: i may choose j without
    being chosen. A row that is not valid (padding, no feature, all zero) chooses itself with weight 1 and nobody
    chooses it; the padding row 0 has no edge at all.

    Args:
        features: float ``[n, d]``; row 0 is the padding item.
        k: neighbours a row, itself included, 1 <= k.
        valid: bool ``[n]``, rows that have a feature of their own; default: rows 1.. that are not all zero.

    Returns:
        rows, cols: int64 ``[n_edges]``, and the cosines, float32 ``[n_edges]``; sorted by row. No gradient.

    Raises:
        ValueError: k < 1, or a feature that is not finite.
    """
    if k < 1:
        raise ValueError(f"the number of neighbours must be at least 1, got {k}")
    with torch.no_grad():
        features = features.float()
        norms = features.norm(dim=1)
        if not bool(torch.isfinite(norms).all()):
            bad = torch.nonzero(~torch.isfinite(norms)).flatten()
            raise ValueError(f"{bad.numel()} feature rows are not finite, the first at row {int(bad[0])}")
        ok = usable_rows(features, valid)
        ids = torch.nonzero(ok).flatten()
        alone = torch.nonzero(~ok).flatten()
        alone = alone[alone > 0]
        unit = F.normalize(features[ids], dim=1)
        k = min(k, ids.numel())
        block = max(1, BLOCK_NUMBERS // max(1, ids.numel()))
        rows, cols, values = [alone], [alone], [torch.ones_like(alone, dtype=torch.float32)]
        for start in range(0, ids.numel(), block):
            here = torch.arange(start, min(start + block, ids.numel()), device=features.device)
            similarity = unit[here] @ unit.T
            # the item itself always keeps its place, also beside exact duplicates of its feature
            similarity[torch.arange(here.numel(), device=features.device), here] = 2.0
            top = similarity.topk(k, dim=1)
            rows.append(ids[here].repeat_interleave(k))
            cols.append(ids[top.indices.flatten()])
            values.append(torch.where(top.values == 2.0, torch.ones_like(top.values), top.values).flatten())
        rows, cols, values = torch.cat(rows), torch.cat(cols), torch.cat(values)
        order = torch.argsort(rows, stable=True)
        return rows[order], cols[order], values[order]


def top_k_per_row(graph: sp.csr_array, k: int) -> sp.csr_array:
    """Keep every row's k largest entries of a ready graph; ties go to the smaller column. CSR ``[n, n]`` -> the same."""
    if k < 1:
        raise ValueError(f"the number of neighbours must be at least 1, got {k}")
    coo = sp.coo_array(graph)
    rows, cols = coo.coords
    order = np.lexsort((cols, -coo.data, rows))
    rows, cols, data = rows[order], cols[order], coo.data[order]
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=graph.shape[0]))])
    rank = np.arange(rows.size) - starts[rows]
    keep = rank < k
    return sp.csr_array((data[keep], (rows[keep], cols[keep])), shape=graph.shape)

"""The best of every row of scores, in blocks, and in one order."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

#: a block of scores holds at most this many numbers (64 MiB of float32)
SCORES_AT_ONCE = 1 << 24


def blocks(ids: np.ndarray, width: int) -> list[np.ndarray]:
    """Return the ids in blocks whose scores, ``width`` per id, fit :data:`SCORES_AT_ONCE`.

    Example:
        >>> [len(block) for block in blocks(np.arange(10), width=SCORES_AT_ONCE // 4)]
        [4, 4, 2]
    """
    step = max(1, SCORES_AT_ONCE // width)
    return [ids[start : start + step] for start in range(0, len(ids), step)]


def stable_topk(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of every row, equal ones in the order of their columns.

    Args:
        scores: ``[n, m]``.
        k: 1 <= k <= m.

    Returns:
        values and columns, ``[n, k]`` each.

    Example:
        >>> values, columns = stable_topk(torch.tensor([[1.0, 3.0, 3.0, 2.0]]), k=2)
        >>> columns
        tensor([[1, 2]])
    """
    values, columns = torch.topk(scores, min(k + 1, scores.shape[1]), dim=1)
    # topk promises no order among equals: not at the cut, which one more value shows, ...
    cut = (values[:, k - 1] == values[:, -1]) & torch.isfinite(values[:, -1]) & (values.shape[1] > k)
    values, columns = values[:, :k], columns[:, :k]
    # ... and not inside
    columns, order = columns.sort(dim=1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    columns = columns.gather(1, order)
    if bool(cut.any()):
        every, places = scores[cut].sort(dim=1, descending=True, stable=True)
        values[cut], columns[cut] = every[:, :k], places[:, :k]
    return values, columns

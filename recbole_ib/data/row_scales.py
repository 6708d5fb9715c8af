"""Lengths and directions of feature rows."""

from __future__ import annotations

import math

import numpy as np

from recbole_ib.data.feature_file import row_blocks
from recbole_ib.data.modality_spec import RowScales


def row_scales(values: np.ndarray, known: np.ndarray) -> RowScales:
    """Return the scales of the rows ``known``, of which there is one or more and none is zero.

    The mean over all pairs is (|sum_i u_i|^2 - n) / (n (n - 1)) of the unit rows u_i: no pair is drawn.

    Args:
        values: ``[n_items, d]``.
        known: bool ``[n_items]``.
    """
    lengths = np.zeros(values.shape[0])
    total = np.zeros(values.shape[1])
    for start, block in row_blocks(values):
        rows = block.astype(np.float64)
        part = np.linalg.norm(rows, axis=1)
        lengths[start : start + part.size] = part
        own = known[start : start + part.size]
        total += (rows[own] / part[own, None]).sum(axis=0)
    lengths = lengths[known]
    n = lengths.size
    cosine = (float(total @ total) - n) / (n * (n - 1)) if n > 1 else math.nan
    return RowScales(float(np.median(lengths)), float(lengths.min()), float(lengths.max()), cosine)

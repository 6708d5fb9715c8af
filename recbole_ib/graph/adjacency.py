"""The normalized user-item adjacency of the training interactions."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import DTypeLike

NORMALIZATIONS = ("sym", "row", "mean")


def binary_interactions(
    interactions: sp.spmatrix | sp.sparray, dtype: DTypeLike = np.float32
) -> sp.csr_array:
    """Return R as a CSR matrix of ones, a copy: repeated pairs count once, stored zeros not at all.

    Example:
        >>> binary_interactions(sp.csr_array([[0, 3], [2, 0]])).toarray()
        array([[0., 1.],
               [1., 0.]], dtype=float32)
    """
    ones = sp.csr_array(interactions, dtype=dtype, copy=True)
    ones.sum_duplicates()
    ones.eliminate_zeros()
    ones.data[:] = 1
    return ones


def user_item_adjacency(interactions: sp.spmatrix, normalization: str = "sym") -> sp.csr_array:
    """Normalize the bipartite graph A = [[0, R], [R^T, 0]] of the training interactions.

    ``sym``: D^-1/2 A D^-1/2 without self loops (LightGCN; IBMRec Eq. 6). ``row``: D^-1 (A + I), as LATTICE
    and MICRO are released. ``mean``: D^-1 A, the mean over a node's neighbors without itself (MMGCN). A node
    without an edge gets an empty row under ``sym`` and ``mean``, and its own self loop under ``row``.

    Args:
        interactions: R, sparse ``[n_users, n_items]``; repeated pairs count once, stored zeros count not at
            all.
        normalization: ``sym``, ``row`` or ``mean``.

    Returns:
        float32 CSR ``[n_users + n_items, n_users + n_items]`` with int32 indices, users first.

    Raises:
        ValueError: an unknown normalization.

    Example:
        >>> interactions = sp.csr_array([[1, 1]])  # one user, two items
        >>> user_item_adjacency(interactions).toarray().round(3)
        array([[0.   , 0.707, 0.707],
               [0.707, 0.   , 0.   ],
               [0.707, 0.   , 0.   ]], dtype=float32)
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"unknown normalization {normalization!r}; allowed: {', '.join(NORMALIZATIONS)}")
    r = binary_interactions(interactions)
    a = sp.csr_array(sp.block_array([[None, r], [r.T, None]]), dtype=np.float32)
    if normalization == "row":
        a = sp.csr_array(a + sp.eye_array(a.shape[0], dtype=np.float32))
        scaled = sp.diags_array(1.0 / a.sum(axis=1)) @ a
    else:
        degree = np.asarray(a.sum(axis=1), dtype=np.float64)
        inverse = np.zeros_like(degree)
        np.power(degree, -1.0 if normalization == "mean" else -0.5, out=inverse, where=degree > 0)
        scaled = sp.diags_array(inverse) @ a
        if normalization == "sym":
            scaled = scaled @ sp.diags_array(inverse)
    result = sp.csr_array(scaled, dtype=np.float32)
    result.sort_indices()
    result.indices = result.indices.astype(np.int32)
    result.indptr = result.indptr.astype(np.int32)
    return result


def normalize_by_row_degree(graph: sp.csr_array, smallest: float | None = None) -> sp.csr_array:
    """Normalize a directed graph: D^-1/2 S D^-1/2, with ROW degrees on both sides.

    As in LATTICE, MICRO, MGCN and SOIL.

    Args:
        graph: CSR ``[n, n]``; a row whose sum is not positive gets weight 0.
        smallest: stored entries below it are raised to it.

    Returns:
        float32 CSR ``[n, n]`` with the same pattern.

    Example:
        >>> normalize_by_row_degree(sp.csr_array([[1.0, 3.0], [0.0, 1.0]])).toarray()
        array([[0.25, 1.5 ],
               [0.  , 1.  ]], dtype=float32)
    """
    scaled = sp.csr_array(graph, dtype=np.float64, copy=True)
    degree = np.asarray(scaled.sum(axis=1)).ravel()
    scale = np.zeros_like(degree)
    np.power(degree, -0.5, out=scale, where=degree > 0)
    # entry by entry: a product of sparse matrices would drop the pattern of a row without weight
    scaled.data *= np.repeat(scale, np.diff(scaled.indptr)) * scale[scaled.indices]
    if smallest is not None:
        scaled.data = np.maximum(scaled.data, smallest)
    return sp.csr_array(scaled, dtype=np.float32)

"""The normalised user-item adjacency of the training interactions."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

NORMALISATIONS = ("sym", "row")


def user_item_adjacency(interactions: sp.spmatrix, normalisation: str = "sym") -> sp.csr_array:
    """Normalise the bipartite graph A = [[0, R], [R^T, 0]] of the training interactions.

    ``sym``: D^-1/2 A D^-1/2 without self loops (LightGCN; IBMRec Eq. 6). ``row``: D^-1 (A + I), as LATTICE
    and MICRO are released. A node without an edge gets an empty row under ``sym`` and its own self loop under ``row``.

    Args:
        interactions: R, sparse ``[n_users, n_items]``; repeated pairs count once, stored zeros count not at all.
        normalisation: ``sym`` or ``row``.

    Returns:
        float32 CSR ``[n_users + n_items, n_users + n_items]`` with int32 indices, users first.

    Raises:
        ValueError: an unknown normalisation.
    """
    if normalisation not in NORMALISATIONS:
        raise ValueError(f"unknown normalisation {normalisation!r}; allowed: {', '.join(NORMALISATIONS)}")
    r = sp.csr_array(interactions, dtype=np.float32)
    r.sum_duplicates()
    r.eliminate_zeros()
    r.data[:] = 1.0
    a = sp.csr_array(sp.block_array([[None, r], [r.T, None]]), dtype=np.float32)
    if normalisation == "row":
        a = sp.csr_array(a + sp.eye_array(a.shape[0], dtype=np.float32))
        scaled = sp.diags_array(1.0 / a.sum(axis=1)) @ a
    else:
        degree = np.asarray(a.sum(axis=1), dtype=np.float64)
        inverse_root = np.zeros_like(degree)
        np.power(degree, -0.5, out=inverse_root, where=degree > 0)
        scaled = sp.diags_array(inverse_root) @ a @ sp.diags_array(inverse_root)
    result = sp.csr_array(scaled, dtype=np.float32)
    result.sort_indices()
    result.indices = result.indices.astype(np.int32)
    result.indptr = result.indptr.astype(np.int32)
    return result

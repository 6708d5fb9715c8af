"""The user-user graph of items in common."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from recbole_ib.graph.adjacency import binary_interactions

AGGREGATIONS = ("softmax", "mean")

# A block of the co-occurrence matrix is made of at most this many counted pairs, or is a single row.
BLOCK_PAIRS = 1 << 24


def user_co_occurrence(interactions: sp.sparray | sp.spmatrix, k: int) -> sp.csr_array:
    """Find for every user the k others that share most items, and how many those are.

    Wang et al., IEEE TMM 2021 (DualGNN).

    The counts are R R^T without its diagonal, made in blocks of rows: neither the whole product nor anything
    dense is ever held. Ties go to the smaller id; a user who shares no item, as the padding user 0, has no
    neighbor and is none.

    Args:
        interactions: R, sparse ``[n_users, n_items]``; repeated pairs count once, stored zeros count not at
            all.
        k: neighbors a user at most, 1 <= k.

    Returns:
        int64 CSR of counts ``[n_users, n_users]``, at most k a row; not symmetric.

    Raises:
        ValueError: k < 1.

    Example:
        >>> user_co_occurrence(sp.csr_array([[1, 1, 0], [1, 1, 1], [0, 0, 1]]), k=1).toarray()
        array([[0, 2, 0],
               [2, 0, 0],
               [0, 1, 0]])
    """
    if k < 1:
        raise ValueError(f"the number of neighbors must be at least 1, got {k}")
    r = binary_interactions(interactions, np.int64)
    transposed = sp.csr_array(r.T)
    # what a row costs: the users of each of its items
    pairs = np.concatenate([[0], np.cumsum(r @ np.diff(transposed.indptr))])
    n_users, start = r.shape[0], 0
    keys: list[np.ndarray] = []
    while start < n_users:
        end = max(start + 1, int(np.searchsorted(pairs, pairs[start] + BLOCK_PAIRS, side="right")) - 1)
        block = sp.csr_array(r[start:end] @ transposed)
        # count and id in one number, best first: a selection a row, where sorting all pairs would take ten
        # times as long
        key = block.indices - block.data * n_users
        for row, (low, high) in enumerate(zip(block.indptr[:-1], block.indptr[1:], strict=True), start):
            others = key[low:high]
            others = others[block.indices[low:high] != row]
            keys.append(np.sort(np.partition(others, k - 1)[:k] if others.size > k else others))
        start = end
    pointers = np.concatenate([[0], np.cumsum([part.size for part in keys])])
    flat = np.concatenate(keys)
    graph = sp.csr_array((-(flat // n_users), flat % n_users, pointers), shape=(n_users, n_users))
    graph.sort_indices()
    return graph


def neighbor_weights(counts: sp.csr_array, aggregation: str = "softmax") -> sp.csr_array:
    """Turn a user's counts into weights that sum to 1: ``softmax`` of the counts, or ``mean``, all equal.

    Args:
        counts: CSR, e.g. of :func:`user_co_occurrence`.
        aggregation: one of the above.

    Returns:
        float32 CSR with the same pattern; a row without an entry stays empty.

    Raises:
        ValueError: an unknown aggregation.

    Example:
        >>> neighbor_weights(sp.csr_array([[0, 2, 2], [0, 0, 0]]), "mean").toarray()
        array([[0. , 0.5, 0.5],
               [0. , 0. , 0. ]], dtype=float32)
    """
    if aggregation not in AGGREGATIONS:
        raise ValueError(f"unknown aggregation {aggregation!r}; allowed: {', '.join(AGGREGATIONS)}")
    sizes = np.diff(counts.indptr)
    rows = np.repeat(np.arange(counts.shape[0]), sizes)
    weights = np.ones(counts.data.size, dtype=np.float64)
    if aggregation == "softmax":
        top = np.zeros(counts.shape[0])
        np.maximum.at(top, rows, counts.data)
        weights = np.exp(counts.data - top[rows])
    weights = weights / np.bincount(rows, weights, minlength=counts.shape[0])[rows]
    return sp.csr_array((weights.astype(np.float32), counts.indices, counts.indptr), shape=counts.shape)

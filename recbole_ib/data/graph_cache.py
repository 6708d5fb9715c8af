"""Item graphs, computed once for all runs on the same features: it takes longer than many epochs."""

from __future__ import annotations

import hashlib
from logging import getLogger
from pathlib import Path

import scipy.sparse as sp
from torch import Tensor

from recbole_ib.data.digest import table_digest
from recbole_ib.data.feature_file import UNREADABLE
from recbole_ib.graph.knn import cosine_knn
from recbole_ib.utils.files import atomic_write

#: graphs of fewer items are computed every time: that takes less than a second
KEEP_FROM = 5_000
#: part of the files' names; another one where the same features would give another graph
VERSION = 1


def cosine_graph(features: Tensor, k: int, valid: Tensor, search: str, cache: Path | None) -> sp.csr_array:
    """Return the graph of :func:`recbole_ib.graph.cosine_knn`, CSR ``[n_items, n_items]``.

    A large one is kept in ``cache``. A file is named after a digest of everything that decides the graph, so
    it is never stale; ``cache`` may be deleted at any time.

    Args:
        features: ``[n_items, d]``, row 0 the padding item.
        k: neighbors per item, itself included.
        valid: bool ``[n_items]``, items with a feature of their own.
        search: how neighbors are found.
        cache: a folder, made where needed; ``None``: nothing is kept, for features that no other run has.
    """
    n_items = features.shape[0]
    if cache is None or n_items < KEEP_FROM:
        return _computed(features, k, valid, search)
    key = hashlib.sha256(
        f"{VERSION} {k} {search} {table_digest(features)}".encode() + valid.numpy().tobytes()
    ).hexdigest()[:16]
    file = cache / f"item-graph-{key}.npz"
    if file.is_file():
        try:
            graph = sp.csr_array(sp.load_npz(file))
            if graph.shape == (n_items, n_items):
                getLogger().info(f"item graph of {n_items} items from {file}")
                return graph
        except UNREADABLE as error:
            getLogger().warning(f"{file} is damaged ({error}); the item graph is computed again")
    graph = _computed(features, k, valid, search)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as scratch:
            sp.save_npz(scratch, graph)
    except OSError as error:
        getLogger().warning(f"the item graph is not kept for other runs: {error}")
    return graph


def _computed(features: Tensor, k: int, valid: Tensor, search: str) -> sp.csr_array:
    rows, cols, values = cosine_knn(features, k, valid, search)
    n_items = features.shape[0]
    return sp.csr_array((values.numpy(), (rows.numpy(), cols.numpy())), shape=(n_items, n_items))

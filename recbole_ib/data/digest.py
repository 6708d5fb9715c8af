"""Digests of data: what tells that two runs saw the same interactions and the same features."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from torch import Tensor


def data_digest(*loaders) -> str:
    """A digest of the loaders' interactions, in the order of the ids, and of the features that go with them."""
    digest = hashlib.sha256()
    for loader in loaders:
        if loader is not None:
            _add_interactions(digest, loader._dataset)
    for name, table in (getattr(loaders[0]._dataset, "modalities", None) or {}).items():
        digest.update(name.encode())
        digest.update(table.numpy().data)
    return digest.hexdigest()


def interactions_digests(parts: Mapping[str, object]) -> dict[str, str]:
    """A digest of each part's user-item pairs under the user's own tokens: the same for every order and numbering of them.

    The parts are of one data set, whose tokens are sorted once for all of them.
    """
    found: dict[str, str] = {}
    order: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, dataset in parts.items():
        users, items = dataset.uid_field, dataset.iid_field
        order = order or {field: _sorted_tokens(dataset, field) for field in (users, items)}
        pairs = np.stack([order[field][1][dataset.inter_feat[field].numpy()] for field in (users, items)])
        pairs = pairs[:, np.lexsort(pairs[::-1])]
        digest = hashlib.sha256("\n".join(map(str, (*order[users][0], "", *order[items][0]))).encode())
        digest.update(np.ascontiguousarray(pairs).tobytes())
        found[name] = digest.hexdigest()
    return found


def table_digest(table: Tensor) -> str:
    """A digest of a feature table's numbers and shape."""
    digest = hashlib.sha256(repr((tuple(table.shape), str(table.dtype))).encode())
    digest.update(table.numpy().data)
    return digest.hexdigest()


def _add_interactions(digest, dataset) -> None:
    matrix = dataset.inter_matrix(form="csr")
    matrix.sort_indices()
    digest.update(repr(matrix.shape).encode())
    for array in (matrix.indptr, matrix.indices):
        digest.update(array.tobytes())


def _sorted_tokens(dataset, field: str) -> tuple[np.ndarray, np.ndarray]:
    """The sorted tokens of a field, and the place of every internal id among them, int64 ``[n_ids]``."""
    tokens = np.asarray(dataset.field2id_token[field], dtype=str)
    order = np.argsort(tokens, kind="stable")
    rank = np.empty(len(tokens), dtype=np.int64)
    rank[order] = np.arange(len(tokens))
    return tokens[order], rank

"""Digests of data: what tells that two runs saw the same interactions and the same features."""

from __future__ import annotations

import hashlib

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


def interactions_digest(dataset) -> str:
    """A digest of a data set's user-item pairs under the user's own tokens: the same for every order and numbering of them."""
    users, items = dataset.uid_field, dataset.iid_field
    pairs = np.stack([_token_rank(dataset, field)[dataset.inter_feat[field].numpy()] for field in (users, items)])
    pairs = pairs[:, np.lexsort(pairs[::-1])]
    digest = hashlib.sha256("\n".join(map(str, (*_tokens(dataset, users), "", *_tokens(dataset, items)))).encode())
    digest.update(np.ascontiguousarray(pairs).tobytes())
    return digest.hexdigest()


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


def _tokens(dataset, field: str) -> np.ndarray:
    return np.sort(np.asarray(dataset.field2id_token[field], dtype=str))


def _token_rank(dataset, field: str) -> np.ndarray:
    """The place of every internal id among the sorted tokens, int64 ``[n_ids]``."""
    tokens = np.asarray(dataset.field2id_token[field], dtype=str)
    rank = np.empty(len(tokens), dtype=np.int64)
    rank[np.argsort(tokens, kind="stable")] = np.arange(len(tokens))
    return rank

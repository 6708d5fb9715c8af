"""Digests of data: whether two runs saw the same interactions and the same features."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset
from torch import Tensor


def data_digest(*loaders: AbstractDataLoader | None) -> str:
    """Return a digest of the loaders' interactions, in the order of the ids, and of their features."""
    digest = hashlib.sha256()
    for loader in loaders:
        if loader is not None:
            _add_interactions(digest, loader._dataset)
    first = loaders[0]._dataset if loaders and loaders[0] is not None else None
    for name, table in (getattr(first, "modalities", None) or {}).items():
        digest.update(name.encode())
        digest.update(table.numpy().data)
    return digest.hexdigest()


def interactions_digests(parts: Mapping[str, Dataset]) -> dict[str, str]:
    """Return a digest of each part's user-item pairs under the user's own tokens.

    It is the same for every order and numbering of them. The parts are of one data set, whose tokens are
    sorted once for all of them.
    """
    digests: dict[str, str] = {}
    order: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, dataset in parts.items():
        users, items = dataset.uid_field, dataset.iid_field
        order = order or {field: _sorted_tokens(dataset, field) for field in (users, items)}
        pairs = np.stack([order[field][1][dataset.inter_feat[field].numpy()] for field in (users, items)])
        pairs = pairs[:, np.lexsort(pairs[::-1])]
        digest = hashlib.sha256("\n".join(map(str, (*order[users][0], "", *order[items][0]))).encode())
        digest.update(np.ascontiguousarray(pairs).tobytes())
        digests[name] = digest.hexdigest()
    return digests


def table_digest(table: Tensor) -> str:
    """Return a digest of a feature table's numbers and shape."""
    digest = hashlib.sha256(repr((tuple(table.shape), str(table.dtype))).encode())
    digest.update(table.numpy().data)
    return digest.hexdigest()


def _add_interactions(digest: hashlib._Hash, dataset: Dataset) -> None:
    matrix = dataset.inter_matrix(form="csr")
    matrix.sort_indices()
    digest.update(repr(matrix.shape).encode())
    for array in (matrix.indptr, matrix.indices):
        digest.update(array.tobytes())


def _sorted_tokens(dataset: Dataset, field: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted tokens of a field, and every internal id's place among them, int64 ``[n_ids]``."""
    tokens = np.asarray(dataset.field2id_token[field], dtype=str)
    order = np.argsort(tokens, kind="stable")
    rank = np.empty(len(tokens), dtype=np.int64)
    rank[order] = np.arange(len(tokens))
    return tokens[order], rank

"""SOIL's graphs: second-order interactions, and item graphs that follow the users' interests."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_ib.graph.adjacency import binary_interactions
from recbole_ib.graph.knn import BLOCK_NUMBERS, usable_rows


def attractive_items(
    features: Mapping[str, Tensor], k: int, valid: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Find every item's k most attractive others (SOIL Eq. 2).

    The attraction S_a is the product over the modalities of their cosines.

    An item that lacks a modality attracts no other and is attracted by none; so is the padding row 0.

    Returns:
        rows, cols: int64 ``[n_edges]``; values: float32 ``[n_edges]``; an item itself is not among its own.

    Example:
        >>> features = {"text": torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])}
        >>> rows, cols, _ = attractive_items(features, k=1, valid={"text": torch.ones(4, dtype=torch.bool)})
        >>> list(zip(rows.tolist(), cols.tolist()))
        [(1, 2), (2, 1), (3, 2)]
    """
    with torch.no_grad():
        ids = torch.nonzero(
            torch.stack([usable_rows(features[m], valid[m]) for m in features]).all(dim=0)
        ).flatten()
        unit = [F.normalize(features[m][ids].float(), dim=1) for m in features]
        k = min(k, max(0, ids.numel() - 1))
        block = max(1, BLOCK_NUMBERS // max(1, ids.numel()))
        rows, cols, values = [], [], []
        for start in range(0, ids.numel() if k else 0, block):
            block_rows = torch.arange(start, min(start + block, ids.numel()), device=ids.device)
            product = unit[0][block_rows] @ unit[0].T
            for u in unit[1:]:
                product *= u[block_rows] @ u.T
            product[torch.arange(block_rows.numel(), device=ids.device), block_rows] = -torch.inf
            top = product.topk(k, dim=1)
            rows.append(ids[block_rows].repeat_interleave(k))
            cols.append(ids[top.indices.flatten()])
            values.append(top.values.flatten())
        if not rows:
            empty = ids.new_zeros(0)
            return empty, empty, torch.zeros(0)
        return torch.cat(rows), torch.cat(cols), torch.cat(values)


def second_order_interactions(
    interactions: sp.spmatrix | sp.sparray,
    features: Mapping[str, Tensor],
    valid: Mapping[str, Tensor],
    k: int,
) -> sp.csr_array:
    """Build R_a: every user's own items, and the k items that these attract most (SOIL).

    An own item counts 1; the k largest cells of the block S_a[I(u), :] are added by column.

    The release keeps the k + |I(u)| largest cells of the block; as every own item meets itself with the
    largest value, 1, those take |I(u)| of the places, and a row of the block can give at most k more: so
    its k best are enough, and no ``|I(u)| x n_items`` block is built. Cells between two own items count, as
    released.

    Args:
        interactions: R, the TRAINING interactions, sparse ``[n_users, n_items]``.
        features: modality -> ``[n_items, d]``.
        valid: modality -> the items that have it, bool ``[n_items]``.
        k: k_a >= 0.

    Returns:
        CSR ``[n_users, n_items]``, float32.

    Raises:
        ValueError: k is negative.

    Example:
        >>> features = {"text": torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])}
        >>> interactions = sp.csr_array([[0, 1, 0, 0]])
        >>> everything = {"text": torch.ones(4, dtype=torch.bool)}
        >>> second_order_interactions(interactions, features, everything, k=1).toarray().round(2)
        array([[0., 1., 1., 0.]], dtype=float32)
    """
    if k < 0:
        raise ValueError(f"the number of second-order interactions must not be negative, got {k}")
    binary = binary_interactions(interactions)
    if k == 0:
        return binary
    rows, cols, values = (t.cpu().numpy() for t in attractive_items(features, k, valid))
    starts = np.searchsorted(rows, np.arange(binary.shape[1] + 1))
    users, items = binary.nonzero()
    counts = np.diff(starts)[items]
    users = np.repeat(users, counts)
    cells = np.repeat(starts[items] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(
        counts.sum()
    )
    order = np.lexsort((cols[cells], -values[cells], users))
    users, cells = users[order], cells[order]
    first = np.searchsorted(users, np.arange(binary.shape[0] + 1))
    keep = np.arange(users.size) - first[users] < k
    # the constructor adds up cells that share a column
    extra = sp.csr_array((values[cells[keep]], (users[keep], cols[cells[keep]])), shape=binary.shape)
    return sp.csr_array(binary + extra, dtype=np.float32)


def user_interests(
    interactions: sp.spmatrix | sp.sparray,
    features: Mapping[str, Tensor],
    valid: Mapping[str, Tensor],
    k: int,
) -> sp.csr_array:
    """Build J(u): per modality the k items with the largest sum of cosines to the user's items, united.

    Args:
        interactions: R, the TRAINING interactions, sparse ``[n_users, n_items]``.
        features: modality -> ``[n_items, d]``.
        valid: modality -> the items that have it, bool ``[n_items]``.
        k: items per modality, 1 <= k.

    Returns:
        CSR of ones, ``[n_users, n_items]``.

    Raises:
        ValueError: k < 1.

    Example:
        >>> features = {"text": torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])}
        >>> everything = {"text": torch.ones(4, dtype=torch.bool)}
        >>> user_interests(sp.csr_array([[0, 1, 0, 0]]), features, everything, k=2).toarray()
        array([[0., 1., 1., 0.]], dtype=float32)
    """
    if k < 1:
        raise ValueError(f"the number of items of interest must be at least 1, got {k}")
    binary = binary_interactions(interactions)
    active = np.flatnonzero(np.diff(binary.indptr))
    users: list[np.ndarray] = []
    items: list[np.ndarray] = []
    with torch.no_grad():
        for name, table in features.items():
            ok = usable_rows(table, valid[name])
            ids = torch.nonzero(ok).flatten()
            unit = F.normalize(table.float(), dim=1) * ok[:, None]
            candidates, on_cpu = unit[ids], unit.cpu().numpy()
            kept = min(k, ids.numel())
            block = max(1, BLOCK_NUMBERS // max(1, ids.numel(), table.shape[1]))
            for start in range(0, active.size if kept else 0, block):
                block_rows = active[start : start + block]
                taste = torch.from_numpy(binary[block_rows] @ on_cpu).to(table.device)
                # a user whose items all lack the modality has no interest in it
                some = torch.nonzero(taste.abs().sum(dim=1) > 0).flatten()
                top = (taste[some] @ candidates.T).topk(kept, dim=1).indices
                users.append(np.repeat(block_rows[some.cpu().numpy()], kept))
                items.append(ids[top.flatten()].cpu().numpy())
    rows, cols = (np.concatenate(x) if x else np.zeros(0, dtype=np.int64) for x in (users, items))
    interests = sp.csr_array((np.ones(rows.size, dtype=np.float32), (rows, cols)), shape=binary.shape)
    interests.data[:] = 1.0
    return interests


def interest_item_graphs(
    interactions: sp.spmatrix | sp.sparray,
    features: Mapping[str, Tensor],
    valid: Mapping[str, Tensor],
    k: int,
) -> dict[str, sp.csr_array]:
    """Build one directed item graph per modality that follows the users' interests (SOIL, as released).

    W_m[i, j] = (number of users u with i in I(u) and j in J(u)) * cos_m(i, j).

    Args:
        interactions: R, the TRAINING interactions, sparse ``[n_users, n_items]``.
        features: modality -> ``[n_items, d]``.
        valid: modality -> the items that have it, bool ``[n_items]``.
        k: k_i >= 1, see :func:`user_interests`.

    Returns:
        modality -> CSR ``[n_items, n_items]``, not normalized; pairs without the modality, or with a cosine
        of 0 or less, have no edge.

    Example:
        >>> features = {"text": torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [0.0, 1.0]])}
        >>> everything = {"text": torch.ones(4, dtype=torch.bool)}
        >>> graphs = interest_item_graphs(sp.csr_array([[0, 1, 0, 0]]), features, everything, k=2)
        >>> graphs["text"].toarray().round(3)[1]
        array([0., 1., 1., 0.], dtype=float32)
    """
    binary = binary_interactions(interactions)
    counts = sp.coo_array(binary.T @ user_interests(binary, features, valid, k))
    rows, cols = (torch.from_numpy(c.astype(np.int64)) for c in counts.coords)
    graphs = {}
    with torch.no_grad():
        for name, table in features.items():
            unit = F.normalize(table.float(), dim=1).cpu()
            chunk = max(1, BLOCK_NUMBERS // table.shape[1])
            cosine = torch.cat(
                [
                    (unit[r] * unit[c]).sum(dim=1)
                    for r, c in zip(rows.split(chunk), cols.split(chunk), strict=True)
                ]
            )
            ok = usable_rows(table, valid[name]).cpu()
            # a negative weight could leave a row with a degree near zero, and its few edges with weights of
            # 50 and more
            known = (ok[rows] & ok[cols] & (cosine > 0)).numpy()
            weights = counts.data * cosine.numpy()
            graphs[name] = sp.csr_array(
                (weights[known], (rows.numpy()[known], cols.numpy()[known])), shape=counts.shape
            )
    return graphs

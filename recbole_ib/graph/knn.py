"""The top-k item-item graph of cosine similarity: exact in row blocks, or searched with faiss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from logging import WARNING, getLogger
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_ib.errors import ConfigurationError
from recbole_ib.ops.linear import mixed

#: of the yaml key ``knn_search``
KNN_SEARCHES = ("auto", "exact", "faiss")
# A block of similarities holds at most this many numbers (64 MiB of float32).
BLOCK_NUMBERS = 1 << 24
#: ``auto`` searches exactly up to so many usable rows: the time of the exact search grows with their square
EXACT_LIMIT = 200_000
#: rows whose exact neighbors are computed to measure an approximate search
RECALL_SAMPLE = 200
#: the share of them that it must find; above the .95 that is asked for, because 200 rows tell it to about .01
RECALL_WANTED = 0.97
#: cosines that differ by less are equal: the two searches round differently, and a duplicate is as good as
#: the other
SAME_COSINE = 2e-6
#: rows a list that faiss' k-means looks at, and its rounds
TRAINING_ROWS, TRAINING_ROUNDS = 64, 10
FIRST_PROBES = 8
#: of the sample and of k-means; the graph follows from the features alone, whatever the seed of a run
SEED = 0
#: width of the column groups of :func:`largest`
GROUP = 64


def row_norms(features: Tensor) -> Tensor:
    """Return the lengths of the rows, in float32 and in row blocks. ``[n, d]`` -> ``[n]``.

    Example:
        >>> row_norms(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([5., 0.])
    """
    step = max(1, BLOCK_NUMBERS // max(1, features.shape[1]))
    return torch.cat([block.float().norm(dim=1) for block in features.split(step)])


def usable_rows(features: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the rows that a cosine can be taken of, bool ``[n]``.

    Those are the ``valid`` ones that are not all zero, never the padding row 0.

    Example:
        >>> usable_rows(torch.tensor([[1.0], [1.0], [0.0]]))
        tensor([False,  True, False])
    """
    ok = row_norms(features) > 0
    if valid is not None:
        ok &= valid.to(ok.device)
    ok[0] = False
    return ok


@mixed(False)  # cosines are compared with each other, and the neighbors kept for an epoch
def cosine_knn(
    features: Tensor, k: int, valid: Tensor | None = None, search: str = "exact"
) -> tuple[Tensor, Tensor, Tensor]:
    """Find every row's k most similar rows by cosine, itself among them (LATTICE; IBMRec Eq. 8-9).

    Works in row blocks, so memory is linear in the number of rows. The graph is directed: i may choose j
    without being chosen. A row that is not valid (padding, no feature, all zero) chooses itself with weight 1
    and no other row chooses it; the padding row 0 has no edge at all. The same features give the same graph,
    with every ``search``.

    Args:
        features: float ``[n, d]``; row 0 is the padding item.
        k: neighbors a row, itself included, 1 <= k.
        valid: bool ``[n]``, rows that have a feature of their own; default: rows 1.. that are not all zero.
        search: ``exact``; ``faiss``, which finds nearly all of them in lists of similar rows (IVF-Flat, as
            many lists read as it takes for 97 % of the neighbors of 200 rows; what it finds is logged);
            ``auto``, exact up to 200,000 usable rows and faiss beyond, and logged.

    Returns:
        rows, cols: int64 ``[n_edges]``, and the cosines, float32 ``[n_edges]``; sorted by row. No gradient.

    Raises:
        ValueError: k < 1, or a feature that is not finite.
        ConfigurationError: another ``search``, or faiss is needed and not installed.

    Example:
        >>> features = torch.tensor([[0.0, 0.0], [1.0, 0.0], [4.0, 3.0], [0.0, 1.0]])
        >>> rows, cols, cosines = cosine_knn(features, k=2)
        >>> list(zip(rows.tolist(), cols.tolist()))
        [(1, 1), (1, 2), (2, 2), (2, 1), (3, 3), (3, 2)]
        >>> cosines.round(decimals=2)
        tensor([1.0000, 0.8000, 1.0000, 0.8000, 1.0000, 0.6000])
    """
    if k < 1:
        raise ValueError(f"the number of neighbors must be at least 1, got {k}")
    if search not in KNN_SEARCHES:
        raise ConfigurationError(f"knn_search is {search!r}; allowed: {', '.join(KNN_SEARCHES)}")
    with torch.no_grad():
        norms = row_norms(features)
        if not bool(torch.isfinite(norms).all()):
            bad = torch.nonzero(~torch.isfinite(norms)).flatten()
            raise ValueError(f"{bad.numel()} feature rows are not finite, the first at row {int(bad[0])}")
        ok = usable_rows(features, valid)
        ids = torch.nonzero(ok).flatten()
        alone = torch.nonzero(~ok).flatten()
        alone = alone[alone > 0]
        k = min(k, ids.numel())
        if search == "auto":
            search = "exact" if ids.numel() <= EXACT_LIMIT else "faiss"
            if search == "exact":
                getLogger().info(
                    f"item graph of {ids.numel()} items by {features.shape[1]} features: exact search"
                )
        blocks = (_exact_neighbors if search == "exact" else _faiss_neighbors)(features, ids, k)
        row_parts, col_parts = [alone], [alone]
        value_parts = [torch.ones_like(alone, dtype=torch.float32)]
        for positions, neighbors, cosines in blocks:
            row_parts.append(ids[positions].repeat_interleave(k))
            col_parts.append(ids[neighbors.flatten()])
            value_parts.append(torch.where(cosines == ITSELF, torch.ones_like(cosines), cosines).flatten())
        rows, cols, values = torch.cat(row_parts), torch.cat(col_parts), torch.cat(value_parts)
        order = torch.argsort(rows, stable=True)
        return rows[order], cols[order], values[order]


#: what stands for the cosine of a row with itself while neighbors are chosen: it keeps its place beside exact
#: duplicates
ITSELF = 2.0
#: positions among the usable rows ``[b]``, those of their neighbors ``[b, k]``, and the cosines ``[b, k]``,
#: falling
Block = tuple[Tensor, Tensor, Tensor]


def _unit(features: Tensor, ids: Tensor) -> Tensor:
    """Return the given rows, scaled to length 1, float32. ``[n, d]``, ``[b]`` -> ``[b, d]``."""
    return F.normalize(features[ids].float(), dim=1)


def _blocks(features: Tensor, ids: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield all usable rows in blocks of at most BLOCK_NUMBERS numbers.

    The first one's position, and the unit rows.
    """
    step = max(1, BLOCK_NUMBERS // max(1, features.shape[1]))
    for start in range(0, ids.numel(), step):
        yield start, _unit(features, ids[start : start + step])


def _exact_neighbors(features: Tensor, ids: Tensor, k: int) -> Iterator[Block]:
    """Yield the k nearest of every usable row: each row is compared with all."""
    if not ids.numel():
        return
    unit = torch.empty(ids.numel(), features.shape[1], device=features.device)
    for start, rows in _blocks(features, ids):
        unit[start : start + rows.shape[0]] = rows
    block = min(max(1, BLOCK_NUMBERS // ids.numel()), ids.numel())
    # one piece of memory for all blocks: fresh pages cost as much time as the product of narrow features
    memory = torch.empty(block, ids.numel(), device=features.device)
    for start in range(0, ids.numel(), block):
        positions = torch.arange(start, min(start + block, ids.numel()), device=features.device)
        similarity = torch.mm(unit[positions], unit.T, out=memory[: positions.numel()])
        similarity[torch.arange(positions.numel(), device=features.device), positions] = ITSELF
        cosines, neighbors = largest(similarity, k)
        yield positions, neighbors, cosines


def largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return ``values.topk(k, dim=1)``, ties included; on the CPU faster where rows are long.

    ``[b, n]`` -> values, columns ``[b, k]``.

    The k + 1 largest numbers of a row lie in the k + 1 groups of columns with the largest maxima. Where they
    are all different, there is one answer; where some are equal, the whole row is sorted as torch does.

    Example:
        >>> top, columns = largest(torch.tensor([[1.0, 4.0, 2.0]]), k=2)
        >>> top.tolist(), columns.tolist()
        ([[4.0, 2.0]], [[1, 2]])
    """
    b, n = values.shape
    n_groups = n // GROUP
    if values.device.type != "cpu" or 4 * (k + 2) > n_groups:
        top = values.topk(k, dim=1)
        return top.values, top.indices
    grouped = values[:, : n_groups * GROUP].unflatten(1, (n_groups, GROUP))
    groups = grouped.amax(dim=2).topk(k + 1, dim=1, sorted=False).indices
    columns = (groups[:, :, None] * GROUP + torch.arange(GROUP)).flatten(1)
    rest = torch.arange(n_groups * GROUP, n).expand(b, -1)
    columns = torch.cat([columns, rest], dim=1)
    top = values.gather(1, columns).topk(k + 1, dim=1)
    best, places = top.values[:, :k].contiguous(), columns.gather(1, top.indices[:, :k])
    tied = torch.nonzero((top.values[:, :-1] == top.values[:, 1:]).any(dim=1)).flatten()
    if tied.numel():
        again = values[tied].topk(k, dim=1)
        best[tied], places[tied] = again.values, again.indices
    return best, places


# -- approximate ---------------------------------------------------------------------------------------------


def _faiss_neighbors(features: Tensor, ids: Tensor, k: int) -> Iterator[Block]:
    """Yield nearly all of the k nearest of every usable row.

    Each row is compared with those of the nearest lists.
    """
    faiss = _import_faiss()
    n, width, device = ids.numel(), features.shape[1], features.device
    if k <= 1:  # a row's first neighbor is itself
        positions = torch.arange(n, device=device)
        if k:
            yield positions, positions[:, None], torch.full((n, 1), ITSELF, device=device)
        return
    draw = np.random.default_rng(SEED)
    n_lists = min(n, round(4 * n**0.5))
    sample = torch.from_numpy(np.sort(draw.choice(n, min(n, RECALL_SAMPLE), replace=False))).to(device)
    training = torch.from_numpy(np.sort(draw.choice(n, min(n, TRAINING_ROWS * n_lists), replace=False))).to(
        device
    )
    with _threads(faiss):
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, n_lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed, index.cp.niter, index.cp.spherical = SEED, TRAINING_ROUNDS, True
        index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, TRAINING_ROWS
        index.train(_unit(features, ids[training]).cpu().numpy())
        for _, rows in _blocks(features, ids):
            index.add(rows.cpu().numpy())
        weakest = _compared_with_all(features, ids, sample, k)[1][:, -1:]
        index.nprobe, recall = min(FIRST_PROBES, n_lists), 0.0
        while True:
            cosines, _ = _search(index, _unit(features, ids[sample]), sample, k)
            # itself is no finding
            recall = float((cosines[:, 1:] >= weakest - SAME_COSINE).float().mean())
            if recall >= RECALL_WANTED or index.nprobe == n_lists:
                break
            index.nprobe = min(2 * index.nprobe, n_lists)
        getLogger().info(
            f"item graph of {n} items by {width} features: faiss (IVF-Flat, {index.nprobe} of {n_lists} "
            f"lists read), which finds {recall:.1%} of the exact neighbors of {sample.numel()} items"
        )
    for start, rows in _blocks(features, ids):
        positions = torch.arange(start, start + rows.shape[0], device=device)
        with _threads(faiss):
            cosines, neighbors = _search(index, rows, positions, k)
        # lists that hold fewer than k rows
        short = torch.nonzero((neighbors < 0).any(dim=1)).flatten()
        if short.numel():
            neighbors[short], cosines[short] = _compared_with_all(features, ids, positions[short], k)
        yield positions, neighbors, cosines


def _search(index: Any, rows: Tensor, positions: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return cosines, falling, and positions, ``[b, k]``.

    The row itself (``positions``) first, -1 where the lists have no more.
    """
    cosines, neighbors = (
        torch.from_numpy(x).to(positions.device) for x in index.search(rows.cpu().numpy(), k)
    )
    itself = neighbors == positions[:, None]
    lost = ~itself.any(dim=1)
    neighbors[lost, -1], itself[lost, -1] = positions[lost], True
    cosines[itself] = ITSELF
    cosines[neighbors < 0] = -torch.inf
    cosines, order = cosines.sort(dim=1, descending=True, stable=True)
    return cosines, neighbors.gather(1, order)


def _compared_with_all(features: Tensor, ids: Tensor, positions: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return positions and cosines ``[b, k]`` of the exact neighbors of a few rows, the row itself first.

    No table is held.
    """
    neighbor_parts, cosine_parts = [], []
    for part in positions.split(RECALL_SAMPLE):
        rows = _unit(features, ids[part])
        cosines = torch.empty(part.numel(), 0, device=rows.device)
        neighbors = torch.empty(part.numel(), 0, dtype=torch.long, device=rows.device)
        for start, others in _blocks(features, ids):
            similarity = rows @ others.T
            columns = torch.arange(start, start + others.shape[0], device=rows.device)
            similarity[part[:, None] == columns] = ITSELF
            cosines = torch.cat([cosines, similarity], dim=1)
            neighbors = torch.cat([neighbors, columns.expand(part.numel(), -1)], dim=1)
            cosines, order = cosines.topk(min(k, cosines.shape[1]), dim=1)
            neighbors = neighbors.gather(1, order)
        neighbor_parts.append(neighbors)
        cosine_parts.append(cosines)
    return torch.cat(neighbor_parts), torch.cat(cosine_parts)


def _import_faiss() -> ModuleType:
    # it tells which of its builds it loads, line by line
    getLogger("faiss.loader").setLevel(WARNING)
    try:
        import faiss
    except ImportError as error:
        raise ConfigurationError(
            f"the item graph is to be searched with faiss (knn_search: faiss, or auto above {EXACT_LIMIT:,} "
            f"items), which cannot be imported ({error}): pip install 'recbole_ib[faiss]', or set "
            "knn_search: exact, whose time grows with the square of the items"
        ) from None
    return faiss


@contextmanager
def _threads(faiss: ModuleType) -> Iterator[None]:
    """Give faiss as many threads as torch has: it would take all cores."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(torch.get_num_threads())
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def top_k_per_row(graph: sp.csr_array, k: int) -> sp.csr_array:
    """Keep every row's k largest entries of a ready graph; ties go to the smaller column.

    Args:
        graph: CSR ``[n, n]``.
        k: entries per row, 1 <= k.

    Returns:
        CSR ``[n, n]``.

    Raises:
        ValueError: k < 1.

    Example:
        >>> top_k_per_row(sp.csr_array([[3, 1, 2]]), k=2).toarray()
        array([[3, 0, 2]])
    """
    if k < 1:
        raise ValueError(f"the number of neighbors must be at least 1, got {k}")
    coo = sp.coo_array(graph)
    rows, cols = coo.coords
    order = np.lexsort((cols, -coo.data, rows))
    rows, cols, data = rows[order], cols[order], coo.data[order]
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=graph.shape[0]))])
    rank = np.arange(rows.size) - starts[rows]
    keep = rank < k
    return sp.csr_array((data[keep], (rows[keep], cols[keep])), shape=graph.shape)

"""Irrelevance injected into real features and item graphs, as operations on arrays.

All of it is deterministic in (seed, level) and nested: what is replaced at one level is replaced at every
higher one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.experiments.robustness.synthetic import clustered_factors, random_columns

KINDS = ("features", "rows", "modality", "edges")
#: of the irrelevant structure of an added modality
NOISE_FACTORS, NOISE_CLUSTERS, NOISE_WITHIN = 16, 50, 0.1


def check_level(kind: str, level: object) -> None:
    """Raise ConfigurationError for a kind of noise that there is not, or a level outside its range."""
    if kind not in KINDS:
        raise ConfigurationError(
            f"there is no noise {kind!r}.{nearest(kind, KINDS)} Allowed: {', '.join(KINDS)}"
        )
    most = 10.0 if kind == "modality" else 1.0
    if isinstance(level, bool) or not isinstance(level, (int, float)) or not 0 <= level <= most:
        what = (
            "the width of the noise over that of all other features"
            if kind == "modality"
            else "the share that is replaced"
        )
        raise ConfigurationError(f"the level of {kind} noise is {level!r}; allowed: 0 to {most:g} ({what})")


def replaced_count(level: float, n: int) -> int:
    """Return how many of n things a level replaces."""
    return round(level * n)


def cycle(order: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first ``count`` of an order, and for each of them another one of them to take from.

    Both are empty where there is no other.
    """
    chosen = order[:count] if count > 1 else order[:0]
    return chosen, np.roll(chosen, -1)


def permuted_columns(
    values: np.ndarray, usable: np.ndarray, level: float, rng: np.random.Generator
) -> np.ndarray:
    """Return a copy with the values of some columns moved to other items.

    ``round(level * d)`` columns are moved, by ONE permutation without a fixed point.

    Means, variances and the correlations among the moved columns stay; what they tell about an item does not.

    Args:
        values: ``[n, d]``.
        usable: bool ``[n]``; rows that are missing stay as they are.
        level: in [0, 1].
        rng: draws the order of the columns and the permutation, both whatever the level is.
    """
    columns = rng.permutation(values.shape[1])[: replaced_count(level, values.shape[1])]
    items = rng.permutation(np.flatnonzero(usable))
    to, source = cycle(items, items.size)
    changed = values.copy()
    changed[np.ix_(to, columns)] = values[np.ix_(source, columns)]
    return changed


def permuted_rows(values: np.ndarray, usable: np.ndarray, level: float, keys: np.ndarray) -> np.ndarray:
    """Return a copy with whole rows moved to other items.

    The rows of ``round(level * usable)`` items are moved among themselves, none to its own place.

    Args:
        values: ``[n, d]``.
        usable: bool ``[n]``.
        level: in [0, 1]; a level that chooses a single item changes nothing.
        keys: ``[n]``, a random number an item: the smallest are chosen first, so that modalities with the
            same items move alike.
    """
    items = np.flatnonzero(usable)
    items = items[np.argsort(keys[items], kind="stable")]
    to, source = cycle(items, replaced_count(level, items.size))
    changed = values.copy()
    changed[to] = values[source]
    return changed


def noise_columns(n: int, width: int, deviation: float, rng_seed: Sequence[int]) -> np.ndarray:
    """Return irrelevant features with clusters and neighbors of their own, float32 ``[n, width]``.

    A larger width keeps the first columns.
    """
    factors = clustered_factors(np.random.default_rng([*rng_seed, 1]), n, NOISE_FACTORS, NOISE_CLUSTERS)
    columns = random_columns(np.random.default_rng([*rng_seed, 2]), factors, width, NOISE_WITHIN)
    return (deviation * columns).astype(np.float32)


def rewired_edges(
    rows: np.ndarray, cols: np.ndarray, items: np.ndarray, level: float, rng: np.random.Generator
) -> np.ndarray:
    """Return new end points of edges, some of them rewired.

    ``round(level * edges)`` of the edges to OTHER items lead to uniform random items instead.

    A new end is neither the item itself nor one of its neighbors, old or new, so that no edge is doubled.
    Loops stay.

    Args:
        rows: start points, int ``[n_edges]``, sorted.
        cols: end points, int ``[n_edges]``.
        items: the nodes that an edge may lead to.
        level: in [0, 1].
        rng: draws every edge's new end and the order of the edges, whatever the level is.

    Raises:
        ConfigurationError: an item has more neighbors than there are other items.
    """
    target = cols.copy()
    starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]]) if rows.size else np.empty(0, dtype=np.int64)
    for start, stop in zip(starts, np.r_[starts[1:], rows.size], strict=True):
        edges_of_row = np.arange(start, stop)
        others = edges_of_row[cols[edges_of_row] != rows[start]]
        free = np.setdiff1d(items, np.append(cols[edges_of_row], rows[start]))
        if free.size < others.size:
            raise ConfigurationError(
                f"edges cannot be rewired: an item has {others.size} neighbors and only {free.size} other "
                "items are left to lead to; take a smaller knn_k"
            )
        target[others] = rng.choice(free, size=others.size, replace=False)
    edges = rng.permutation(np.flatnonzero(rows != cols))
    chosen = edges[: replaced_count(level, edges.size)]
    changed = cols.copy()
    changed[chosen] = target[chosen]
    return changed

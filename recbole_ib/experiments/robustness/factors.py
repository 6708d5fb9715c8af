"""Random factors, and random columns that tell them."""

from __future__ import annotations

import zlib

import numpy as np

#: standard deviation within a cluster, where the centers have 1: neighbors by cosine are those of the cluster
CLUSTER_SPREAD = 0.4


def stream(seed: int, name: str) -> np.random.Generator:
    """A random stream of its own for every name: what one part draws does not shift another."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def clustered_factors(rng: np.random.Generator, n: int, dimensions: int, clusters: int) -> np.ndarray:
    """Factors of a structure of its own: rows around ``clusters`` random centers, columns of mean 0 and variance 1, ``[n, k]``."""
    centers = rng.standard_normal((clusters, dimensions))
    rows = centers[rng.integers(clusters, size=n)] + CLUSTER_SPREAD * rng.standard_normal((n, dimensions))
    return standard(rows)


def random_columns(rng: np.random.Generator, factors: np.ndarray, width: int, noise: float) -> np.ndarray:
    """``width`` random linear maps of the factors ``[n, k]`` plus noise, of mean 0 and variance 1; more columns keep the first ones."""
    columns = np.empty((factors.shape[0], width))
    for j in range(width):
        column = factors @ rng.standard_normal(factors.shape[1])
        columns[:, j] = standard(standard(column) + noise * rng.standard_normal(factors.shape[0]))
    return columns


def standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(axis=0)) / values.std(axis=0)

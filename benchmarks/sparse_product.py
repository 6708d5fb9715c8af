"""Products of a CSR matrix with a dense block, interleaved: scipy, torch, torch's embedding_bag; the shape of Amazon Baby.

    python benchmarks/sparse_product.py [--threads 1 2 4] [--columns 64 192] [--repeats 15]

Prints medians in milliseconds and their ratio to embedding_bag's; ``graph/propagation.py`` chooses by it.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
import warnings

import numpy as np
import scipy.sparse as sp
import torch
from torch.nn import functional as F

from recbole_ib.graph import user_item_adjacency

N_USERS, N_ITEMS, N_INTERACTIONS = 19_446, 7_051, 118_551


def baby_shape(seed: int = 0) -> sp.csr_array:
    """A symmetric adjacency with power-law items, of the size of Amazon Baby's training part."""
    rng = np.random.default_rng(seed)
    weight = 1.0 / np.arange(1, N_ITEMS) ** 0.8
    items = 1 + rng.choice(N_ITEMS - 1, size=N_INTERACTIONS, p=weight / weight.sum())
    users = rng.integers(1, N_USERS, size=N_INTERACTIONS)
    return user_item_adjacency(sp.coo_array((np.ones(N_INTERACTIONS), (users, items)), shape=(N_USERS, N_ITEMS)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count() or 1])
    parser.add_argument("--columns", type=int, nargs="+", default=[64, 192])
    parser.add_argument("--repeats", type=int, default=15)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", message="Sparse")
    a = baby_shape()
    parts = (torch.from_numpy(a.indptr), torch.from_numpy(a.indices), torch.from_numpy(a.data))
    matrix = torch.sparse_csr_tensor(*parts, size=a.shape)
    crow, col, values = parts

    def bag(x):
        return F.embedding_bag(col, x, crow, mode="sum", per_sample_weights=values, include_last_offset=True)

    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {a.nnz} entries, {a.shape[0]} rows")
    print(f"{'threads':>7} {'columns':>7} {'product':<14} {'ms':>7} {'ratio':>6}")
    for threads in dict.fromkeys(given.threads):
        torch.set_num_threads(threads)
        for columns in given.columns:
            x = torch.randn(a.shape[1], columns)
            runs = {
                "embedding_bag": lambda x=x: bag(x),
                "torch": lambda x=x: matrix @ x,
                "scipy": lambda x=x: a @ x.numpy(),
            }
            times: dict[str, list[float]] = {name: [] for name in runs}
            for repeat in range(given.repeats + 2):
                for name, run in runs.items():
                    start = time.perf_counter()
                    run()
                    if repeat >= 2:  # the first two warm up
                        times[name].append(1e3 * (time.perf_counter() - start))
            median = {name: statistics.median(t) for name, t in times.items()}
            for name, value in median.items():
                print(f"{threads:>7} {columns:>7} {name:<14} {value:>7.2f} {value / median['embedding_bag']:>6.2f}")


if __name__ == "__main__":
    main()

"""The closed-form HSIC against the plain one by autograd, forward and backward, interleaved.

    python benchmarks/hsic.py [--rows 500 1500] [--width 64] [--repeats 10] [--threads 1]

Prints medians in milliseconds and the ratio plain / closed form.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from recbole_ib.bottleneck import hsic, rbf_hsic, rbf_kernel

SIGMA2 = 0.15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[500, 1500])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"torch {torch.__version__}, {given.threads} thread(s), {given.width} columns")
    print(f"{'rows':>6} {'sides':>9} {'plain ms':>9} {'closed ms':>9} {'ratio':>6}")
    for rows in given.rows:
        x = torch.randn(rows, given.width, requires_grad=True)
        y = torch.randn(rows, given.width, requires_grad=True)
        kernel = rbf_kernel(y.detach(), SIGMA2)
        cases = {
            "constant": (
                lambda x=x, k=kernel: hsic(rbf_kernel(x, SIGMA2), k),
                lambda x=x, k=kernel: rbf_hsic(x, sigma2=SIGMA2, kernel_y=k),
            ),
            "both": (
                lambda x=x, y=y: hsic(rbf_kernel(x, SIGMA2), rbf_kernel(y, SIGMA2)),
                lambda x=x, y=y: rbf_hsic(x, y, sigma2=SIGMA2),
            ),
        }
        for sides, runs in cases.items():
            times: tuple[list[float], list[float]] = ([], [])
            for repeat in range(given.repeats + 2):
                for run, kept in zip(runs, times, strict=True):
                    start = time.perf_counter()
                    run().backward()
                    if repeat >= 2:  # the first two warm up
                        kept.append(1e3 * (time.perf_counter() - start))
            plain, closed = (statistics.median(t) for t in times)
            print(f"{rows:>6} {sides:>9} {plain:>9.1f} {closed:>9.1f} {plain / closed:>6.2f}")


if __name__ == "__main__":
    main()

"""Kernel matrices."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_ib.ops.linear import mixed

#: rows at a time, when a whole kernel is computed
BLOCK_ROWS = 1024
#: numbers of a kernel that a CPU core works on at a time: 1 MiB of float32
BLOCK_NUMBERS = 1 << 18
#: of narrower rows a batch's kernel costs no more than fetching it
NARROW = 128


def rbf_kernel(x: Tensor, sigma2: float) -> Tensor:
    """The RBF kernel of unit rows: K_ij = exp(-||x_i - x_j||^2 / (2 sigma^2)) with x_i scaled to length 1.

    For unit rows ||x_i - x_j||^2 = 2 - 2 <x_i, x_j>, so K_ij = exp((<x_i, x_j> - 1) / sigma^2) (IBMRec Eq. 3).
    The scaling is needed: with raw features of 4,096 numbers and the paper's sigma^2 of .15 to .25 every entry off
    the diagonal is 0 and so is every gradient.

    Args:
        x: ``[n, d]``, no row all zero (a zero row has no direction; leave such items out).
        sigma2: sigma^2 > 0.

    Returns:
        ``[n, n]``, symmetric, entries in (0, 1].

    Raises:
        ValueError: sigma2 is not positive.
    """
    check_sigma2(sigma2)
    unit = F.normalize(x, dim=1)
    if not unit.requires_grad:  # one n x n matrix in place of three
        return unit_kernel(unit, unit, sigma2)
    return differentiable_kernel(unit, sigma2)


def differentiable_kernel(unit: Tensor, sigma2: float) -> Tensor:
    """:func:`rbf_kernel` of rows that have length 1 already, by autograd: ``[n, d]`` -> ``[n, n]``."""
    return ((unit @ unit.T - 1.0) / sigma2).exp()


def unit_kernel(x: Tensor, y: Tensor, sigma2: float) -> Tensor:
    """The entries of :func:`rbf_kernel` between rows of length 1, without a gradient: ``[n, d]``, ``[m, d]`` -> ``[n, m]``."""
    # the product adds the -1 / sigma^2 itself: one pass over the entries less for each of - and /
    shift = x.new_full((1, 1), -1.0 / sigma2)
    return torch.addmm(shift, x, y.T, alpha=1.0 / sigma2).exp_()


def row_blocks(n_columns: int, rows: Tensor) -> list[slice]:
    """Blocks of ``[len(rows), n_columns]`` numbers that stay in a CPU core's cache for several passes; one block on other devices."""
    n, step = len(rows), max(1, len(rows))
    if rows.device.type == "cpu":
        step = max(1, BLOCK_NUMBERS * torch.get_num_threads() // max(1, n_columns))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


class ConstantKernel:
    """:func:`rbf_kernel` of rows that never change: computed once for all of them, and cut out for every batch.

    The product of 1,500 rows of 4,096 numbers costs more than all else in a step of IBMRec; to fetch it costs next to nothing.

    Args:
        sigma2: sigma^2 > 0.
    """

    def __init__(self, sigma2: float):
        self.sigma2 = check_sigma2(sigma2)
        self._whole: Tensor | None = None

    @staticmethod
    def worth(n_rows: int, width: int, most_bytes: float) -> bool:
        """Whether the whole kernel, in float32, fits ``most_bytes``, and its rows are so wide that to fetch is cheaper than to compute."""
        return width >= NARROW and 4.0 * n_rows**2 <= most_bytes

    @torch.no_grad()
    @mixed(False)  # kept for the run
    def compute(self, table: Tensor) -> None:
        """K of all rows of ``table`` ``[N, d]``, for :meth:`of`; once."""
        if self._whole is not None:
            return
        unit = F.normalize(table.float(), dim=1)
        self._whole = unit.new_empty(unit.shape[0], unit.shape[0])
        for start in range(0, unit.shape[0], BLOCK_ROWS):
            here = slice(start, start + BLOCK_ROWS)
            self._whole[here] = unit_kernel(unit[here], unit, self.sigma2)

    def of(self, rows: Tensor) -> Tensor:
        """K of some rows, int64 ``[n]``: ``[n, n]``, without gradient."""
        self._whole = self._whole.to(rows.device)  # a model may move after its first batch
        kernel = self._whole.new_empty(rows.numel(), rows.numel())
        # whole rows first, then the columns of those few: 4 times as fast on a CPU as both at once
        for here in row_blocks(self._whole.shape[1], rows):
            torch.index_select(self._whole.index_select(0, rows[here]), 1, rows, out=kernel[here])
        return kernel

    @property
    def known(self) -> bool:
        """Whether :meth:`compute` has been called."""
        return self._whole is not None


def check_sigma2(sigma2: float) -> float:
    """Return sigma2, or raise ValueError where it is not a positive number."""
    if not sigma2 > 0:
        raise ValueError(f"sigma^2 of the RBF kernel must be positive, got {sigma2}")
    return float(sigma2)


def center(kernel: Tensor) -> Tensor:
    """H K H with H = I - 11'/n for a symmetric K, by row and total means instead of matrix products. ``[n, n]``."""
    means = kernel.mean(dim=0)
    return kernel - (means - means.mean()) - means[:, None]

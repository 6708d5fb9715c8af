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
    """Return the RBF kernel of unit rows.

    K_ij = exp(-||x_i - x_j||^2 / (2 sigma^2)) with x_i scaled to length 1.

    For unit rows ||x_i - x_j||^2 = 2 - 2 <x_i, x_j>, so K_ij = exp((<x_i, x_j> - 1) / sigma^2) (IBMRec
    Eq. 3). The scaling is needed: with raw features of 4,096 numbers and the paper's sigma^2 of .15 to .25
    every entry off the diagonal is 0 and so is every gradient.

    Args:
        x: ``[n, d]``, no row all zero (a zero row has no direction; leave such items out).
        sigma2: sigma^2 > 0.

    Returns:
        ``[n, n]``, symmetric, entries in (0, 1].

    Raises:
        ValueError: sigma2 is not positive.

    Example:
        >>> rbf_kernel(torch.tensor([[2.0, 0.0], [0.0, 3.0]]), sigma2=1.0).round(decimals=3)
        tensor([[1.0000, 0.3680],
                [0.3680, 1.0000]])
    """
    check_sigma2(sigma2)
    unit = F.normalize(x, dim=1)
    if not unit.requires_grad:  # one n x n matrix in place of three
        return unit_kernel(unit, unit, sigma2)
    return differentiable_kernel(unit, sigma2)


def differentiable_kernel(unit: Tensor, sigma2: float) -> Tensor:
    """Return :func:`rbf_kernel` of rows of length 1, by autograd: ``[n, d]`` -> ``[n, n]``.

    Example:
        >>> differentiable_kernel(torch.eye(2), sigma2=1.0).round(decimals=3)
        tensor([[1.0000, 0.3680],
                [0.3680, 1.0000]])
    """
    return ((unit @ unit.T - 1.0) / sigma2).exp()


def unit_kernel(x: Tensor, y: Tensor, sigma2: float) -> Tensor:
    """Return the entries of :func:`rbf_kernel` between rows of length 1, without a gradient.

    ``[n, d]``, ``[m, d]`` -> ``[n, m]``.

    Example:
        >>> unit_kernel(torch.eye(2), torch.tensor([[0.0, 1.0]]), sigma2=1.0).round(decimals=3)
        tensor([[0.3680],
                [1.0000]])
    """
    # the product adds the -1 / sigma^2 itself: one pass over the entries less for each of - and /
    shift = x.new_full((1, 1), -1.0 / sigma2)
    return torch.addmm(shift, x, y.T, alpha=1.0 / sigma2).exp_()


def row_blocks(n_columns: int, rows: Tensor) -> list[slice]:
    """Return blocks of ``[len(rows), n_columns]`` numbers that stay in a CPU core's cache for several passes.

    One block on other devices.

    Example:
        >>> row_blocks(10, torch.ones(3, 4))
        [slice(0, 3, None)]
    """
    n, step = len(rows), max(1, len(rows))
    if rows.device.type == "cpu":
        step = max(1, BLOCK_NUMBERS * torch.get_num_threads() // max(1, n_columns))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


class ConstantKernel:
    """Kernel of rows that never change: :func:`rbf_kernel` of all of them at once, cut out for every batch.

    The product of 1,500 rows of 4,096 numbers costs more than all else in a step of IBMRec; to fetch it costs
    next to nothing.

    Args:
        sigma2: sigma^2 > 0.

    Example:
        >>> kernel = ConstantKernel(sigma2=1.0)
        >>> kernel.compute(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
        >>> kernel.of(torch.tensor([0, 2]))
        tensor([[1., 1.],
                [1., 1.]])
    """

    def __init__(self, sigma2: float):
        self.sigma2 = check_sigma2(sigma2)
        self._whole: Tensor | None = None

    @staticmethod
    def worth(n_rows: int, width: int, most_bytes: float) -> bool:
        """Return whether it pays to keep the whole kernel.

        In float32 it must fit ``most_bytes``, and its rows be so wide that to fetch is cheaper than to
        compute.
        """
        return width >= NARROW and 4.0 * n_rows**2 <= most_bytes

    @torch.no_grad()
    @mixed(False)  # kept for the run
    def compute(self, table: Tensor) -> None:
        """Compute K of all rows of ``table`` ``[N, d]``, for :meth:`of`; once."""
        if self._whole is not None:
            return
        unit = F.normalize(table.float(), dim=1)
        self._whole = unit.new_empty(unit.shape[0], unit.shape[0])
        for start in range(0, unit.shape[0], BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            self._whole[block] = unit_kernel(unit[block], unit, self.sigma2)

    def of(self, rows: Tensor) -> Tensor:
        """Return K of some rows, int64 ``[n]``: ``[n, n]``, without gradient.

        Raises:
            ValueError: before :meth:`compute`.
        """
        if self._whole is None:
            raise ValueError("the kernel of all rows is not computed yet: call compute(table) first")
        self._whole = self._whole.to(rows.device)  # a model may move after its first batch
        kernel = self._whole.new_empty(rows.numel(), rows.numel())
        # whole rows first, then the columns of those few: 4 times as fast on a CPU as both at once
        for block in row_blocks(self._whole.shape[1], rows):
            torch.index_select(self._whole.index_select(0, rows[block]), 1, rows, out=kernel[block])
        return kernel

    @property
    def known(self) -> bool:
        """Whether :meth:`compute` has been called."""
        return self._whole is not None


def check_sigma2(sigma2: float) -> float:
    """Return sigma2.

    Raises:
        ValueError: it is not a positive number.

    Example:
        >>> check_sigma2(0.15)
        0.15
    """
    if not sigma2 > 0:
        raise ValueError(f"sigma^2 of the RBF kernel must be positive, got {sigma2}")
    return float(sigma2)


def center(kernel: Tensor) -> Tensor:
    """Return H K H with H = I - 11'/n for a symmetric K, ``[n, n]``.

    By row and total means instead of matrix products.

    Example:
        >>> center(torch.eye(2))
        tensor([[ 0.5000, -0.5000],
                [-0.5000,  0.5000]])
    """
    means = kernel.mean(dim=0)
    return kernel - (means - means.mean()) - means[:, None]

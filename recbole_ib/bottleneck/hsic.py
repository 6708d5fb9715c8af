"""The Hilbert-Schmidt independence criterion (Gretton et al. 2005; IBMRec Eq. 2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbole_ib.bottleneck.kernels import center, check_sigma2, differentiable_kernel, row_blocks, unit_kernel
from recbole_ib.ops.normalize import unit_rows


def hsic(kernel_x: Tensor, kernel_y: Tensor) -> Tensor:
    """Return the biased estimate HSIC = (n - 1)^-2 Tr(K_X H K_Y H), by autograd.

    The plain form of :func:`rbf_hsic`.

    Tr(K_X H K_Y H) = sum((H K_X H) * K_Y), so no product of two n x n matrices is made. About 1/n, not 0, for
    independent rows with a narrow kernel: compare with a permutation of the rows, not with zero.

    Args:
        kernel_x: ``[n, n]``, symmetric, of n >= 2 rows.
        kernel_y: ``[n, n]``, symmetric, of the same rows.

    Returns:
        A scalar >= 0.

    Raises:
        ValueError: other shapes.

    Example:
        >>> hsic(torch.eye(2), torch.eye(2))
        tensor(1.)
        >>> hsic(torch.eye(2), torch.ones(2, 2))
        tensor(0.)
    """
    _check(kernel_x, kernel_y)
    n = kernel_x.shape[0]
    return (center(kernel_x) * kernel_y).sum() / (n - 1) ** 2


def rbf_hsic(x: Tensor, y: Tensor | None = None, *, sigma2: float, kernel_y: Tensor | None = None) -> Tensor:
    """Return HSIC of unit rows under one RBF kernel, with a closed-form gradient, block by block.

    The passes over n x n numbers stay in the cache.

    The value is ``hsic(rbf_kernel(x), rbf_kernel(y))``; with W = K_X * (H K_Y H) and unit rows x its gradient
    is dHSIC/dx = 2 / (sigma^2 (n - 1)^2) W x, because dK_ij = K_ij d<x_i, x_j> / sigma^2.

    Args:
        x: ``[n, d]``, n >= 2.
        y: ``[n, e]``, the same rows seen otherwise; or
        kernel_y: ``[n, n]``, its kernel, a constant without gradient.
        sigma2: sigma^2 > 0.

    Returns:
        A scalar.

    Raises:
        ValueError: sigma2 <= 0, fewer than two rows, not exactly one of y and kernel_y, or another number of
            rows.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> round(rbf_hsic(x, 2 * x, sigma2=1.0).item(), 4)  # (1 - exp(-1))^2
        0.3996
    """
    check_sigma2(sigma2)
    other = y if kernel_y is None else kernel_y
    if other is None or (y is not None and kernel_y is not None):
        raise ValueError("give exactly one of y and kernel_y")
    if x.ndim != 2 or x.shape[0] < 2 or other.ndim != 2 or other.shape[0] != x.shape[0]:
        raise ValueError(
            f"HSIC needs at least 2 rows and the same ones on both sides, got {tuple(x.shape)} and "
            f"{tuple(other.shape)}"
        )
    x = unit_rows(x)
    if kernel_y is not None:
        return _ConstantSide.apply(x, kernel_y, sigma2)
    return _TwoSides.apply(x, unit_rows(other), sigma2)


def _check(kernel_x: Tensor, kernel_y: Tensor) -> None:
    if kernel_x.shape != kernel_y.shape or kernel_x.ndim != 2 or kernel_x.shape[0] != kernel_x.shape[1]:
        raise ValueError(
            f"two square kernels of one size are needed, got {kernel_x.shape} and {kernel_y.shape}"
        )
    if kernel_x.shape[0] < 2:
        raise ValueError("HSIC needs at least 2 rows")


class _ConstantSide(torch.autograd.Function):
    """HSIC with one constant side: the value and, while a block of the kernel is at hand, W x.

    No n x n matrix is held but the constant one.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel_y: Tensor, sigma2: float) -> Tensor:
        n = x.shape[0]
        kernel_y = kernel_y.to(x.dtype)
        products, means = _Products(x), kernel_y.mean(dim=0)
        for block in row_blocks(n, x):
            products.add(
                block,
                _centered(kernel_y[block, block.start :], means, block),
                unit_kernel(x[block], x[block.start :], sigma2),
            )
        ctx.save_for_backward(x, kernel_y, products.rows)
        ctx.sigma2, ctx.scale = sigma2, 2.0 / sigma2 / (n - 1) ** 2
        return products.total / (n - 1) ** 2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, kernel_y, product = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to have a gradient
            plain = hsic(differentiable_kernel(x, ctx.sigma2), kernel_y)
            return *torch.autograd.grad(plain, (x,), grad, create_graph=True), None, None
        return (grad * ctx.scale) * product, None, None


class _TwoSides(torch.autograd.Function):
    """As :class:`_ConstantSide`, for both sides; the halves of both kernels are held in between."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, sigma2: float) -> Tensor:
        n, blocks = x.shape[0], row_blocks(x.shape[0], x)
        kernels, means = [], []
        for side in (x, y):
            kernels.append([unit_kernel(side[block], side[block.start :], sigma2) for block in blocks])
            sums = side.new_zeros(n)
            for block, half in zip(blocks, kernels[-1], strict=True):
                sums[block] += half.sum(dim=1)
                sums[block.stop :] += half[:, block.stop - block.start :].sum(dim=0)
            means.append(sums / n)
        by_x, by_y = _Products(x), _Products(y)
        for block, of_x, of_y in zip(blocks, *kernels, strict=True):
            by_x.add(block, _centered(of_y, means[1], block), of_x)
            by_y.add(block, _centered(of_x, means[0], block), of_y)
        ctx.save_for_backward(x, y, by_x.rows, by_y.rows)
        ctx.sigma2, ctx.scale = sigma2, 2.0 / sigma2 / (n - 1) ** 2
        return by_x.total / (n - 1) ** 2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, *products = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = hsic(differentiable_kernel(x, ctx.sigma2), differentiable_kernel(y, ctx.sigma2))
            needed = [
                side if need else None for side, need in zip((x, y), ctx.needs_input_grad, strict=False)
            ]
            gradients = iter(
                torch.autograd.grad(
                    plain, [side for side in needed if side is not None], grad, create_graph=True
                )
            )
            return *(None if side is None else next(gradients) for side in needed), None
        factor = grad * ctx.scale
        return *(factor * product for product in products), None


def _centered(half: Tensor, means: Tensor, block: slice) -> Tensor:
    """Some rows of H K H, from the diagonal on; ``means``: those of K's rows."""
    return (half - (means[block.start :] - means.mean())).sub_(means[block, None])


class _Products:
    """Sum of W, and W x, of a symmetric W = C * K, from blocks of rows that begin at the diagonal.

    Half of C and K is never computed.
    """

    def __init__(self, x: Tensor):
        self.x, self.rows, self.total = x, torch.zeros_like(x), x.new_zeros(())

    def add(self, block: slice, centered: Tensor, kernel: Tensor) -> None:
        """The rows ``block``, columns ``block.start`` on; ``centered`` is overwritten."""
        weights, below = centered.mul_(kernel), slice(block.stop, None)
        beyond = weights[:, block.stop - block.start :]
        self.total += weights.sum() + beyond.sum()
        self.rows[block].addmm_(weights, self.x[block.start :])
        self.rows[below].addmm_(beyond.T, self.x[block])

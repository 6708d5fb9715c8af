"""The Hilbert-Schmidt independence criterion (Gretton et al. 2005; IBMRec Eq. 2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_ib.bottleneck.kernels import centre, check_sigma2, unit_kernel


def hsic(kernel_x: Tensor, kernel_y: Tensor) -> Tensor:
    """The biased estimate HSIC = (n - 1)^-2 Tr(K_X H K_Y H), by autograd: the plain form of :func:`rbf_hsic`.

    Tr(K_X H K_Y H) = sum((H K_X H) * K_Y), so no product of two n x n matrices is made. About 1/n, not 0, for
    independent rows with a narrow kernel: compare with a permutation of the rows, not with zero.

    Args:
        kernel_x, kernel_y: ``[n, n]``, symmetric, of the same n >= 2 rows.

    Returns:
        A scalar >= 0.

    Raises:
        ValueError: other shapes.
    """
    _check(kernel_x, kernel_y)
    n = kernel_x.shape[0]
    return (centre(kernel_x) * kernel_y).sum() / (n - 1) ** 2


def rbf_hsic(x: Tensor, y: Tensor | None = None, *, sigma2: float, kernel_y: Tensor | None = None) -> Tensor:
    """HSIC of unit rows under one RBF kernel, with a closed-form gradient: 2 instead of 9 passes over n x n numbers.

    The value is ``hsic(rbf_kernel(x), rbf_kernel(y))``; with W = K_X * (H K_Y H) and unit rows x its gradient is
    dHSIC/dx = 2 / (sigma^2 (n - 1)^2) W x, because dK_ij = K_ij d<x_i, x_j> / sigma^2.

    Args:
        x: ``[n, d]``, n >= 2.
        y: ``[n, e]``, the same rows seen otherwise; or
        kernel_y: ``[n, n]``, its kernel, a constant without gradient.
        sigma2: sigma^2 > 0.

    Returns:
        A scalar.

    Raises:
        ValueError: sigma2 <= 0, fewer than two rows, not exactly one of y and kernel_y, or another number of rows.
    """
    check_sigma2(sigma2)
    if (y is None) == (kernel_y is None):
        raise ValueError("give exactly one of y and kernel_y")
    other = y if kernel_y is None else kernel_y
    if x.ndim != 2 or x.shape[0] < 2 or other.ndim != 2 or other.shape[0] != x.shape[0]:
        raise ValueError(
            f"HSIC needs at least 2 rows and the same ones on both sides, got {tuple(x.shape)} and {tuple(other.shape)}"
        )
    x = F.normalize(x, dim=1)
    if kernel_y is not None:
        return _ConstantSide.apply(x, kernel_y, sigma2)
    return _TwoSides.apply(x, F.normalize(y, dim=1), sigma2)


def _check(kernel_x: Tensor, kernel_y: Tensor) -> None:
    if kernel_x.shape != kernel_y.shape or kernel_x.ndim != 2 or kernel_x.shape[0] != kernel_x.shape[1]:
        raise ValueError(f"two square kernels of one size are needed, got {kernel_x.shape} and {kernel_y.shape}")
    if kernel_x.shape[0] < 2:
        raise ValueError("HSIC needs at least 2 rows")


class _ConstantSide(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, kernel_y: Tensor, sigma2: float) -> Tensor:
        n = x.shape[0]
        weights = unit_kernel(x, x, sigma2).mul_(centre(kernel_y))
        ctx.save_for_backward(x, weights)
        ctx.scale = 1.0 / (n - 1) ** 2
        ctx.sigma2 = sigma2
        return weights.sum() * ctx.scale

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, weights = ctx.saved_tensors
        return (grad * 2.0 * ctx.scale / ctx.sigma2) * (weights @ x), None, None


class _TwoSides(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, sigma2: float) -> Tensor:
        n = x.shape[0]
        kernel_x, kernel_y = unit_kernel(x, x, sigma2), unit_kernel(y, y, sigma2)
        ctx.scale = 1.0 / (n - 1) ** 2
        ctx.sigma2 = sigma2
        weights_x = kernel_x * centre(kernel_y)
        value = weights_x.sum() * ctx.scale
        ctx.save_for_backward(x, y, weights_x, centre(kernel_x).mul_(kernel_y))
        return value

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, y, weights_x, weights_y = ctx.saved_tensors
        factor = grad * 2.0 * ctx.scale / ctx.sigma2
        return factor * (weights_x @ x), factor * (weights_y @ y), None

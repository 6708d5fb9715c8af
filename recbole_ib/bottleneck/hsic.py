"""The Hilbert-Schmidt independence criterion (Gretton et al. 2005; IBMRec Eq. 2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recbole_ib.bottleneck.kernels import center, check_sigma2, differentiable_kernel, row_blocks, unit_kernel
from recbole_ib.ops.normalize import unit_rows

BIASED, UNBIASED, NORMALIZED = "biased", "unbiased", "normalized"
#: biased: the papers'; unbiased: 0 in the mean for independent rows; normalized: between 0 and 1 besides
HSIC_ESTIMATORS = (BIASED, UNBIASED, NORMALIZED)
#: no product of two HSIC(X, X) divides below it: rows that are all alike have none
SMALLEST_NORM = 1e-16


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


def unbiased_hsic(kernel_x: Tensor, kernel_y: Tensor) -> Tensor:
    """Return the unbiased estimate of HSIC, by autograd (Song et al., JMLR 2012, Eq. 5).

    [Tr(K~ L~) + 1'K~1 1'L~1 / ((n-1)(n-2)) - 2/(n-2) 1'K~L~1] / (n(n-3)), K~ and L~ the kernels with a zero
    diagonal. Its mean over independent rows is 0, whatever n and the kernel's width; so it may be negative.

    Args:
        kernel_x: ``[n, n]``, symmetric, of n >= 4 rows.
        kernel_y: ``[n, n]``, symmetric, of the same rows.

    Returns:
        A scalar.

    Raises:
        ValueError: other shapes.

    Example:
        >>> kernel = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]])
        >>> round(unbiased_hsic(kernel, kernel).item(), 4)
        0.6667
    """
    _check(kernel_x, kernel_y, UNBIASED)
    n = kernel_x.shape[0]
    k, other = (kernel - torch.diag(torch.diagonal(kernel)) for kernel in (kernel_x, kernel_y))
    trace, by_sums = (k * other).sum(), k.sum() * other.sum() / ((n - 1) * (n - 2))
    return (trace + by_sums - 2.0 / (n - 2) * (k.sum(dim=0) @ other.sum(dim=1))) / (n * (n - 3))


def rbf_hsic(
    x: Tensor,
    y: Tensor | None = None,
    *,
    sigma2: float,
    kernel_y: Tensor | None = None,
    estimator: str = BIASED,
) -> Tensor:
    """Return HSIC of unit rows under one RBF kernel, with a closed-form gradient, block by block.

    The passes over n x n numbers stay in the cache.

    ``biased``: ``hsic(rbf_kernel(x), rbf_kernel(y))``; with W = K_X * (H K_Y H) and unit rows x its gradient
    is dHSIC/dx = 2 / (sigma^2 (n - 1)^2) W x, because dK_ij = K_ij d<x_i, x_j> / sigma^2.

    ``unbiased``: :func:`unbiased_hsic` of the same kernels, whose W has the U-centered K_Y without its
    diagonal and whose gradient has n (n - 3) in the place of (n - 1)^2.

    ``normalized``: HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)) of unbiased estimates, the centered kernel
    alignment without its bias (Kornblith et al., ICML 2019; Murphy et al. 2024): 1 for equal rows, 0 in the
    mean for independent ones, so that a weight means the same for any rows and any sigma^2.

    Args:
        x: ``[n, d]``, n >= 2; n >= 4 for the estimates that are not biased.
        y: ``[n, e]``, the same rows seen otherwise; or
        kernel_y: ``[n, n]``, its kernel, a constant without gradient.
        sigma2: sigma^2 > 0.
        estimator: one of :data:`HSIC_ESTIMATORS`.

    Returns:
        A scalar.

    Raises:
        ValueError: sigma2 <= 0, too few rows, not exactly one of y and kernel_y, another number of rows, or
            an unknown estimator.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> round(rbf_hsic(x, 2 * x, sigma2=1.0).item(), 4)  # (1 - exp(-1))^2
        0.3996
    """
    check_sigma2(sigma2)
    other = y if kernel_y is None else kernel_y
    if other is None or (y is not None and kernel_y is not None):
        raise ValueError("give exactly one of y and kernel_y")
    if x.ndim != 2 or x.shape[0] < least_rows(estimator) or other.ndim != 2 or other.shape[0] != x.shape[0]:
        raise ValueError(
            f"HSIC needs at least {least_rows(estimator)} rows and the same ones on both sides, got "
            f"{tuple(x.shape)} and {tuple(other.shape)}"
        )
    x = unit_rows(x)
    given = x.new_tensor(()) if kernel_y is not None else unit_rows(other)
    form = _form(estimator, x.shape[0])
    if kernel_y is not None:
        side = _NormalizedSide if estimator == NORMALIZED else _ConstantSide
        return side.apply(x, kernel_y, sigma2, form)
    value = _TwoSides.apply(x, given, sigma2, form)
    if estimator != NORMALIZED:
        return value
    square = _TwoSides.apply(x, x, sigma2, form) * _TwoSides.apply(given, given, sigma2, form)
    return value * square.clamp_min(SMALLEST_NORM).rsqrt()


def least_rows(estimator: str) -> int:
    """Return how many rows an estimate needs.

    Raises:
        ValueError: an unknown estimator.

    Example:
        >>> least_rows("unbiased")
        4
    """
    if estimator not in HSIC_ESTIMATORS:
        raise ValueError(f"the HSIC estimator must be one of {', '.join(HSIC_ESTIMATORS)}, got {estimator!r}")
    return 2 if estimator == BIASED else 4


class _Form(NamedTuple):
    """An estimate as ``scale * sum(K_X * C(K_Y))``.

    C takes ``row share`` of every row's and column's sum and adds ``whole share`` of all entries' sum;
    without the diagonal (``hollow``) in K and C.
    """

    plain: Callable[[Tensor, Tensor], Tensor]
    hollow: bool
    row_share: float
    whole_share: float
    scale: float

    def shares(self, sums: Tensor, diagonal: Tensor) -> tuple[Tensor, Tensor]:
        """Return what C takes of every row and adds to every entry, given the kernel's row sums."""
        sums = sums - diagonal if self.hollow else sums
        return sums * self.row_share, sums.sum() * self.whole_share

    def centered(self, half: Tensor, shares: tuple[Tensor, Tensor], block: slice) -> Tensor:
        """Return some rows of C(K), from the diagonal on, given those of K."""
        rows, whole = shares
        centered = (half - (rows[block.start :] - whole)).sub_(rows[block, None])
        if self.hollow:
            centered.diagonal().zero_()
        return centered


def _form(estimator: str, n: int) -> _Form:
    if estimator == BIASED:
        return _Form(hsic, False, 1.0 / n, 1.0 / n**2, 1.0 / (n - 1) ** 2)
    return _Form(unbiased_hsic, True, 1.0 / (n - 2), 1.0 / ((n - 1) * (n - 2)), 1.0 / (n * (n - 3)))


def _check(kernel_x: Tensor, kernel_y: Tensor, estimator: str = BIASED) -> None:
    if kernel_x.shape != kernel_y.shape or kernel_x.ndim != 2 or kernel_x.shape[0] != kernel_x.shape[1]:
        raise ValueError(
            f"two square kernels of one size are needed, got {kernel_x.shape} and {kernel_y.shape}"
        )
    if kernel_x.shape[0] < least_rows(estimator):
        raise ValueError(f"HSIC needs at least {least_rows(estimator)} rows")


class _ConstantSide(torch.autograd.Function):
    """HSIC with one constant side: the value and, while a block of the kernel is at hand, W x.

    No n x n matrix is held but the constant one.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel_y: Tensor, sigma2: float, form: _Form) -> Tensor:
        kernel_y = kernel_y.to(x.dtype)
        products, shares = _Products(x), form.shares(kernel_y.sum(dim=0), kernel_y.diagonal())
        for block in row_blocks(x.shape[0], x):
            products.add(
                block,
                form.centered(kernel_y[block, block.start :], shares, block),
                unit_kernel(x[block], x[block.start :], sigma2),
            )
        ctx.save_for_backward(x, kernel_y, products.rows)
        ctx.sigma2, ctx.form = sigma2, form
        return products.total * form.scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, kernel_y, product = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to have a gradient
            plain = ctx.form.plain(differentiable_kernel(x, ctx.sigma2), kernel_y)
            return *torch.autograd.grad(plain, (x,), grad, create_graph=True), None, None, None
        return (grad * (2.0 / ctx.sigma2 * ctx.form.scale)) * product, None, None, None


class _NormalizedSide(torch.autograd.Function):
    """A / sqrt(B C) with one constant side: A = HSIC(X, Y), B = HSIC(X, X), C = HSIC(Y, Y).

    One pass over K_X serves A and B. With W of A and V = K_X * C(K_X) of B the gradient is
    2 scale / sigma^2 (W x / sqrt(B C) - A / B V x / sqrt(B C)).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel_y: Tensor, sigma2: float, form: _Form) -> Tensor:
        kernel_y, blocks = kernel_y.to(x.dtype), row_blocks(x.shape[0], x)
        halves, sums = _half_kernel(x, sigma2, blocks)
        of_x = form.shares(sums, torch.cat([half.diagonal() for half in halves]))
        of_y = form.shares(kernel_y.sum(dim=0), kernel_y.diagonal())
        cross, own, square = _Products(x), _Products(x), x.new_zeros(())
        for block, half in zip(blocks, halves, strict=True):
            other = kernel_y[block, block.start :]
            centered = form.centered(other, of_y, block)
            weights = centered * other
            square += weights.sum() + weights[:, block.stop - block.start :].sum()
            cross.add(block, centered, half)
            own.add(block, form.centered(half, of_x, block), half)
        product = own.total * form.scale * square * form.scale
        root = product.clamp_min(SMALLEST_NORM).rsqrt()
        # where the rows are all alike the norm is a constant
        share = torch.where(product > SMALLEST_NORM, cross.total / own.total, torch.zeros_like(product))
        ctx.save_for_backward(x, kernel_y, (cross.rows - share * own.rows) * root)
        ctx.sigma2, ctx.form = sigma2, form
        return cross.total * form.scale * root

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, kernel_y, product = ctx.saved_tensors
        if torch.is_grad_enabled():
            kernel_x, plain = differentiable_kernel(x, ctx.sigma2), ctx.form.plain
            square = plain(kernel_x, kernel_x) * plain(kernel_y, kernel_y)
            value = plain(kernel_x, kernel_y) * square.clamp_min(SMALLEST_NORM).rsqrt()
            return *torch.autograd.grad(value, (x,), grad, create_graph=True), None, None, None
        return (grad * (2.0 / ctx.sigma2 * ctx.form.scale)) * product, None, None, None


def _half_kernel(x: Tensor, sigma2: float, blocks: list[slice]) -> tuple[list[Tensor], Tensor]:
    """Return K_X from the diagonal on, block by block, and the sums of its whole rows."""
    halves = [unit_kernel(x[block], x[block.start :], sigma2) for block in blocks]
    sums = x.new_zeros(x.shape[0])
    for block, half in zip(blocks, halves, strict=True):
        sums[block] += half.sum(dim=1)
        sums[block.stop :] += half[:, block.stop - block.start :].sum(dim=0)
    return halves, sums


class _TwoSides(torch.autograd.Function):
    """As :class:`_ConstantSide`, for both sides; the halves of both kernels are held in between."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, sigma2: float, form: _Form) -> Tensor:
        blocks = row_blocks(x.shape[0], x)
        kernels, shares = [], []
        for side in (x, y):
            halves, sums = _half_kernel(side, sigma2, blocks)
            kernels.append(halves)
            shares.append(form.shares(sums, torch.cat([half.diagonal() for half in halves])))
        by_x, by_y = _Products(x), _Products(y)
        for block, of_x, of_y in zip(blocks, *kernels, strict=True):
            by_x.add(block, form.centered(of_y, shares[1], block), of_x)
            by_y.add(block, form.centered(of_x, shares[0], block), of_y)
        ctx.save_for_backward(x, y, by_x.rows, by_y.rows)
        ctx.sigma2, ctx.form = sigma2, form
        return by_x.total * form.scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, *products = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = ctx.form.plain(differentiable_kernel(x, ctx.sigma2), differentiable_kernel(y, ctx.sigma2))
            needed = [
                side if need else None for side, need in zip((x, y), ctx.needs_input_grad, strict=False)
            ]
            gradients = iter(
                torch.autograd.grad(
                    plain, [side for side in needed if side is not None], grad, create_graph=True
                )
            )
            return *(None if side is None else next(gradients) for side in needed), None, None
        factor = grad * (2.0 / ctx.sigma2 * ctx.form.scale)
        return *(factor * product for product in products), None, None


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

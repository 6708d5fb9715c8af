"""Estimates of mutual information between the paired rows of two matrices, in nats."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def donsker_varadhan(joint: Tensor, product: Tensor) -> Tensor:
    """Return the Donsker-Varadhan bound E_p(x,y)[f] - log E_p(x)p(y)[exp f] <= I(x; y).

    Donsker & Varadhan 1983; MINE, Belghazi et al., ICML 2018, Eq. 10.

    Equality holds for f = log p(x,y) / (p(x) p(y)) + any constant. Finite samples carry noise, so
    that a value may lie above I.

    Args:
        joint: f of pairs that belong together, ``[n]``, n >= 1.
        product: f of pairs drawn independently, ``[m]``, m >= 1.

    Returns:
        A scalar.

    Raises:
        ValueError: other shapes.

    Example:
        >>> donsker_varadhan(torch.tensor([2.0, 2.0]), torch.zeros(3))
        tensor(2.)
    """
    if joint.ndim != 1 or product.ndim != 1 or not joint.numel() or not product.numel():
        raise ValueError(
            f"the critic's values must be two vectors, not empty, got {tuple(joint.shape)} and "
            f"{tuple(product.shape)}"
        )
    return joint.mean() - log_mean_exp(product)


def club_bound(y: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return mean_i log q(y_i|x_i) - mean_ij log q(y_j|x_i) of a Gaussian q (CLUB, Cheng et al., ICML 2020).

    Their Eq. 7-8: an upper bound of I(x; y) where q(y|x) = p(y|x). The normalizer of q cancels, and with
    c = mean_j y_j, v = mean_j (y_j - c)^2

        mean_j (y_j - mu_i)^2 = v + (mu_i - c)^2,

    so the sum over all n^2 pairs is, exactly and without n x n x d numbers,

        -1/2 mean_i sum_d [(y_i - c)^2 - v - 2 (mu_i - c) (y_i - c)] / s_i^2.

    Args:
        y: ``[n, d]``, n >= 1.
        mean: mu_i, the mean of q(y|x_i), ``[n, d]``.
        log_variance: log s_i^2 of q(y|x_i), ``[n, d]``.

    Returns:
        A scalar; below 0 where q predicts worse than by chance.

    Raises:
        ValueError: other shapes.

    Example:
        >>> y = torch.tensor([[1.0], [-1.0]])
        >>> club_bound(y, mean=y, log_variance=torch.zeros(2, 1))
        tensor(1.)
    """
    if y.ndim != 2 or not y.shape[0] or mean.shape != y.shape or log_variance.shape != y.shape:
        shapes = ", ".join(str(tuple(t.shape)) for t in (y, mean, log_variance))
        raise ValueError(f"y, the mean and the log variance need one shape [n, d], n >= 1, got {shapes}")
    center = y.mean(dim=0)
    offset = y - center
    square = offset.square()
    excess = square - square.mean(dim=0) - 2.0 * (mean - center) * offset
    return -0.5 * (excess * torch.exp(-log_variance)).sum(dim=1).mean()


def infonce_bound(scores: Tensor) -> Tensor:
    """Return mean_i [s_ii - log sum_j exp s_ij] + log n <= min(log n, I).

    van den Oord et al. 2018; Poole et al., ICML 2019, Eq. 10.

    The bound by log n holds for every matrix, the one by I in expectation.

    Args:
        scores: s_ij = f(x_i, y_j), ``[n, n]``, n >= 1.

    Returns:
        A scalar.

    Raises:
        ValueError: other shapes.

    Example:
        >>> round(infonce_bound(10 * torch.eye(4)).item(), 2)  # log 4, nearly
        1.39
    """
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or not scores.shape[0]:
        raise ValueError(f"the scores must be [n, n], n >= 1, got {tuple(scores.shape)}")
    return scores.log_softmax(dim=1).diagonal().mean() + math.log(scores.shape[0])


@torch.no_grad()
def gaussian_information(x: Tensor, y: Tensor, *, ridge: float = 1e-6) -> Tensor:
    """Estimate I of jointly Gaussian rows from their canonical correlations rho_k.

    -1/2 sum_k log(1 - rho_k^2) - d_x d_y / (2 n), at least 0.

    The first term is Gelfand & Yaglom (1957). Sample correlations of independent rows are not 0: 2 n times
    the first term is about chi^2 with d_x d_y degrees of freedom (Bartlett 1938), whose mean is the second
    term. A diagnostic, without gradient: it sees linear dependence alone, and means little unless n is many
    times d_x + d_y.

    Args:
        x: ``[n, d_x]``.
        y: ``[n, d_y]``, the same rows seen otherwise.
        ridge: added to the variance of every coordinate, which is 1 after scaling. Coordinates that say the
            same would have a singular covariance; rows that determine each other get about -1/2 log(2
            ridge) a coordinate instead of infinity.

    Returns:
        A scalar >= 0 in float64; 0 for n < 2.

    Raises:
        ValueError: other shapes, or a ridge that is not positive.

    Example:
        >>> x = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
        >>> gaussian_information(x, torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]))
        tensor(0., dtype=torch.float64)
    """
    check_pair(x, y)
    if not ridge > 0:
        raise ValueError(f"the ridge must be positive, got {ridge}")
    n = x.shape[0]
    if n < 2:
        return torch.zeros((), dtype=torch.double, device=x.device)
    x, y = _unit_spread(x.double()), _unit_spread(y.double())
    root_x, root_y = (torch.linalg.cholesky(z.T @ z / n + ridge * _eye(z)) for z in (x, y))
    # L_x^-1 C_xy L_y^-T, whose singular values are the canonical correlations
    half = torch.linalg.solve_triangular(root_x, x.T @ y / n, upper=False)
    whitened = torch.linalg.solve_triangular(root_y, half.T, upper=False)
    squares = torch.linalg.svdvals(whitened).square()
    information = -0.5 * torch.log1p(-squares).sum()
    return (information - x.shape[1] * y.shape[1] / (2.0 * n)).clamp(min=0.0)


def check_pair(x: Tensor, y: Tensor, x_dim: int | None = None, y_dim: int | None = None) -> None:
    """Check that x and y are matrices of as many rows each, and of the given widths.

    Raises:
        ValueError: they are not.

    Example:
        >>> check_pair(torch.ones(3, 2), torch.ones(3, 4), x_dim=2, y_dim=4)
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[0] != y.shape[0]:
        raise ValueError(
            f"x and y must be [n, d] with the same rows, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if x_dim is not None and (x.shape[1], y.shape[1]) != (x_dim, y_dim):
        raise ValueError(
            f"x and y must be {x_dim} and {y_dim} wide, got {tuple(x.shape)} and {tuple(y.shape)}"
        )


def log_mean_exp(values: Tensor) -> Tensor:
    """Return log(1/n sum_i exp v_i) of ``[n]``.

    Example:
        >>> log_mean_exp(torch.full((3,), 2.0))
        tensor(2.)
    """
    return torch.logsumexp(values, dim=0) - math.log(values.shape[0])


def _unit_spread(x: Tensor) -> Tensor:
    """Scale every column to mean 0 and variance 1; only one whose spread is rounding alone becomes 0."""
    centered = x - x.mean(dim=0)
    spread = centered.square().mean(dim=0).sqrt()
    varies = spread > 1e-12 * x.abs().amax(dim=0)
    return torch.where(
        varies, centered / spread.where(varies, torch.ones_like(spread)), torch.zeros_like(centered)
    )


def _eye(x: Tensor) -> Tensor:
    return torch.eye(x.shape[1], dtype=x.dtype, device=x.device)

"""The variational bottleneck of Gaussian latents: rate, draw and log-variance head (MRdIB's L_MIB)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from recbole_ib.ops.linear import linear


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the rate KL(N(mu, diag s^2) || N(0, I)) of every row (Kingma & Welling 2014, App. B).

    1/2 sum_d (mu^2 + s^2 - 1 - log s^2).

    Args:
        mean: mu, ``[n, d]``.
        log_variance: log s^2, ``[n, d]``.

    Returns:
        ``[n]``, >= 0.

    Raises:
        ValueError: other shapes.

    Example:
        >>> gaussian_kl(torch.tensor([[0.0, 0.0], [1.0, 2.0]]), torch.zeros(2, 2))
        tensor([0.0000, 2.5000])
    """
    return _rates(mean, log_variance).sum(dim=1)


def priced_rate(mean: Tensor, log_variance: Tensor, free_bits: float = 0.0) -> Tensor:
    """Return the mean rate of some rows, beyond what is free in each of the d numbers (Kingma et al. 2016).

    sum_d max(f, mean_i KL_id) - d f, with KL_id as in :func:`gaussian_kl`: a number whose rate is below f
    has no gradient, so a latent is not driven to the prior altogether.

    Args:
        mean: mu, ``[n, d]``, n >= 1.
        log_variance: log s^2, ``[n, d]``.
        free_bits: f >= 0, in nats.

    Returns:
        A scalar >= 0, in nats a row.

    Example:
        >>> priced_rate(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2), free_bits=0.5)
        tensor(1.5000)
    """
    if not free_bits:
        return gaussian_kl(mean, log_variance).mean()
    return (_rates(mean, log_variance).mean(dim=0) - free_bits).clamp_min(0.0).sum()


def _rates(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL of every number, ``[n, d]``."""
    _check(mean, log_variance)
    if mean.ndim != 2:
        raise ValueError(f"the mean and the log variance must be [n, d], got {tuple(mean.shape)}")
    # expm1: exp(l) - 1 loses all its digits around l = 0, which is where this term pulls to
    return 0.5 * (mean.square() + torch.expm1(log_variance) - log_variance)


def reparameterize(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Draw z = mu + s * eps with eps ~ N(0, I) from torch's global generator (Kingma & Welling 2014, Eq. 10).

    Args:
        mean: mu, ``[..., d]``.
        log_variance: log s^2, of the same shape.

    Returns:
        z, of the same shape, with gradients to both.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> mean = torch.tensor([[1.0, 2.0]])
        >>> reparameterize(mean, torch.full((1, 2), -100.0)).round(decimals=3)
        tensor([[1., 2.]])
    """
    _check(mean, log_variance)
    return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)


def _check(mean: Tensor, log_variance: Tensor) -> None:
    if mean.shape != log_variance.shape:
        raise ValueError(
            f"the mean and the log variance need one shape, got {tuple(mean.shape)} and "
            f"{tuple(log_variance.shape)}"
        )


class LogVarianceHead(nn.Module):
    """Linear head for a log variance, bounded smoothly.

    log s^2 = low + (high - low) * sigmoid(4 h / (high - low)), h = W x + b.

    The slope is 1 in the middle of the range and above 0 everywhere inside it, where a clamp would stop the
    gradient. W starts at zero and b so that every item has the log variance ``initial``; W still moves at the
    first step, because the gradient of a single linear layer does not pass through W.

    W and b are plain parameters and not an ``nn.Linear``: RecBole's models initialize every ``nn.Linear`` in
    their tree anew (``self.apply(xavier_...)``) after building it, and the chosen start would be lost.

    Args:
        in_dim: the width of the features x.
        out_dim: d, the width of the latent.
        bound: (low, high) of the log variance. The default allows standard deviations of 0.0009 to 7.4 around
            the prior's 1.
        initial: the log variance at the start, strictly inside the bound. Choose it small against the scale
            of the backbone's own latents, whose signal is drowned otherwise; the default is a standard
            deviation of 0.01.

    Raises:
        ValueError: not low < initial < high.

    Example:
        >>> head = LogVarianceHead(in_dim=3, out_dim=2, initial=-4.0)
        >>> head(torch.ones(1, 3)).detach().round(decimals=3)
        tensor([[-4., -4.]])
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        bound: tuple[float, float] = (-14.0, 4.0),
        initial: float = 2.0 * math.log(0.01),
    ):
        super().__init__()
        low, high = (float(b) for b in bound)
        if not low < initial < high:
            raise ValueError(
                f"the initial log variance must lie inside its bound, got {initial} and ({low}, {high})"
            )
        self.low, self.high, self.initial = low, high, float(initial)
        self.weight = nn.Parameter(torch.empty(out_dim, in_dim))
        self.bias = nn.Parameter(torch.empty(out_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set W to zero and b to the inverse of ``initial``."""
        share = (self.initial - self.low) / (self.high - self.low)
        nn.init.zeros_(self.weight)
        nn.init.constant_(self.bias, 0.25 * (self.high - self.low) * math.log(share / (1.0 - share)))

    def forward(self, features: Tensor, scale: Tensor | None = None) -> Tensor:
        """Return log s^2 in [low, high].

        Args:
            features: x, ``[n, in_dim]``; constant ones may be bfloat16, see
                :func:`recbole_ib.ops.linear.linear`.
            scale: by which each row of x is multiplied first, ``[n, 1]``. It is applied to W x, which is
                narrower.

        Returns:
            ``[n, out_dim]``.
        """
        width = self.high - self.low
        h = linear(features, self.weight, self.bias if scale is None else None)
        h = h if scale is None else torch.addcmul(self.bias, h, scale)
        return self.low + width * torch.sigmoid(h * (4.0 / width))

    def extra_repr(self) -> str:
        """Return what ``repr`` shows: the widths, the bound and the start."""
        out_dim, in_dim = self.weight.shape
        return f"in_dim={in_dim}, out_dim={out_dim}, bound=({self.low}, {self.high}), initial={self.initial}"

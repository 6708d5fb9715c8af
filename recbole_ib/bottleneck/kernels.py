"""Kernel matrices."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


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
    return ((unit @ unit.T - 1.0) / sigma2).exp()


def check_sigma2(sigma2: float) -> float:
    """Return sigma2, or raise ValueError where it is not a positive number."""
    if not sigma2 > 0:
        raise ValueError(f"sigma^2 of the RBF kernel must be positive, got {sigma2}")
    return float(sigma2)


def centre(kernel: Tensor) -> Tensor:
    """H K H with H = I - 11'/n for a symmetric K, by row and total means instead of matrix products. ``[n, n]``."""
    means = kernel.mean(dim=0)
    return kernel - means - means[:, None] + means.mean()

"""Alignment of two representations: normalized HSIC with a median kernel, and shares of variance."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

#: squared distances of unit rows below this are rounding of float32 latents, not distances
SAME_ROW = 1e-12


class Alignment(NamedTuple):
    """Result of :func:`alignment`, three scalars.

    Attributes:
        hsic: HSIC.
        normalized: nHSIC, in [0, 1].
        independent: the mean of nHSIC over all permutations of the rows.
    """

    hsic: Tensor
    normalized: Tensor
    independent: Tensor


# -- measures ------------------------------------------------------------------------------------------------


def median_rbf_kernel(x: Tensor) -> Tensor:
    """Return the RBF kernel of unit rows, whose width is the median distance.

    K_ij = exp(-||x_i - x_j||^2 / (2 sigma^2)), sigma^2 = median of ||x_i - x_j||^2, i != j (Gretton et al.,
    JMLR 2012).

    The width follows the spread of the rows, so a kernel of one model compares with that of another. In
    float64: rows in a narrow cone differ in digits that float32 does not have. Where more than half of the
    pairs are the same row, sigma^2 is the mean.

    Args:
        x: ``[n, d]``, n >= 2; a zero row stays one, at distance 1 from all others.

    Returns:
        ``[n, n]``, float64; all ones where all rows have one direction.

    Raises:
        ValueError: fewer than two rows.

    Example:
        >>> median_rbf_kernel(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])).round(decimals=3)
        tensor([[1.0000, 0.6070, 0.3680],
                [0.6070, 1.0000, 0.6070],
                [0.3680, 0.6070, 1.0000]], dtype=torch.float64)
    """
    if x.ndim != 2 or x.shape[0] < 2:
        raise ValueError(f"a kernel needs at least 2 rows, got {tuple(x.shape)}")
    unit = F.normalize(x.double(), dim=1)
    square = unit.square().sum(dim=1)
    distances = square[:, None] + square - 2 * (unit @ unit.T)
    distances[distances < SAME_ROW] = 0.0
    distances.fill_diagonal_(0.0)
    n = x.shape[0]
    apart = distances[~torch.eye(n, dtype=torch.bool, device=x.device)]
    median = apart.median()
    width = torch.where(median > 0, median, apart.mean())
    # all rows alike: any width gives ones
    width = torch.where(width > 0, width, torch.ones_like(width))
    return (distances / (-2 * width)).exp()


def alignment(centered_x: Tensor, centered_y: Tensor) -> Alignment:
    """Measure the alignment of two representations by their centered kernels.

    HSIC = <A, B> / (n - 1)^2 and nHSIC = HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y)),
    with A = H K_X H and B = H K_Y H.

    nHSIC is the centered kernel alignment (Cortes et al., JMLR 2012; Kornblith et al., ICML 2019), in [0, 1];
    0 where one side is constant. ``independent`` is its mean over ALL permutations of the rows of y, what
    rows without any dependence give: E <A, P B P'> = tr A tr B / (n - 1), since the rows of A and B sum to
    zero, so that the diagonal gives tr A tr B / n and the rest tr A tr B / (n (n - 1)).

    Args:
        centered_x: ``[n, n]``, a kernel of n >= 2 rows after :func:`recbole_ib.bottleneck.kernels.center`.
        centered_y: the same of y, for the same rows.

    Raises:
        ValueError: other shapes.

    Example:
        >>> a = torch.tensor([[0.5, -0.5], [-0.5, 0.5]])
        >>> [round(float(number), 3) for number in alignment(a, a)]
        [1.0, 1.0, 1.0]
    """
    n = centered_x.shape[0]
    if centered_x.shape != (n, n) or centered_y.shape != (n, n) or n < 2:
        raise ValueError(
            f"two square kernels of one size are needed, got {tuple(centered_x.shape)} and "
            f"{tuple(centered_y.shape)}"
        )
    product = (centered_x * centered_y).sum()
    scale = centered_x.norm() * centered_y.norm()
    # a constant side has a kernel of ones, which centering leaves with rounding alone
    scale = torch.where(scale > SAME_ROW, scale, torch.full_like(scale, torch.inf))
    return Alignment(
        product / (n - 1) ** 2,
        product / scale,
        centered_x.diagonal().sum() * centered_y.diagonal().sum() / (n - 1) / scale,
    )


def variance_share(scores: Tensor, without: Tensor) -> Tensor:
    """Return the part of the scores' spread over items that ``without`` lacks.

    mean_u Var_i(s_ui - s'_ui) / mean_u Var_i(s_ui).

    Args:
        scores: s, ``[users, items]``.
        without: s', of the same users and items, with one part of the model held constant.

    Returns:
        A scalar >= 0, 0 where the scores do not differ at all. Shares of several parts sum to 1 only where
        their contributions are uncorrelated; one that others work against is above 1.

    Example:
        >>> scores = torch.tensor([[1.0, 2.0, 3.0]])
        >>> variance_share(scores, 0.5 * scores)
        tensor(0.2500, dtype=torch.float64)
    """
    whole = scores.double().var(dim=1).mean()
    lost = (scores.double() - without.double()).var(dim=1).mean()
    return lost / whole if whole > 0 else torch.zeros_like(whole)


def mean_row(table: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the rows in ``mask``, in the place of every row: ``[n, d]``.

    Example:
        >>> mean_row(torch.tensor([[1.0], [3.0], [9.0]]), torch.tensor([True, True, False]))
        tensor([[2.],
                [2.],
                [2.]])
    """
    # summed in float64: the mean of equal rows is that row to the last digit, and holding it constant changes
    # nothing
    return table[mask].double().mean(dim=0).to(table.dtype).expand_as(table).contiguous()


def sample_ids(mask: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Return at most n of the positions that are True, sorted, drawn by the generator.

    Example:
        >>> sample_ids(torch.tensor([True, False, True]), 5, torch.Generator())
        tensor([0, 2])
    """
    ids = torch.nonzero(mask.cpu()).flatten()
    return ids[torch.randperm(ids.numel(), generator=generator)[:n]].sort().values

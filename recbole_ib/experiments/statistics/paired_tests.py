"""Paired tests over users: t, Wilcoxon signed-rank, Holm's correction, and how large the differences are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

#: digits of a difference that count: sums in another order differ in the last ones, and would part equal
#: ranks
DECIMALS = 12


@dataclass(frozen=True)
class Paired:
    """A paired comparison; NaN where a value is undefined.

    n: pairs; equal: pairs without a difference; difference: its mean; low, high: 95 % confidence interval of
    the mean; t, p_t: the t-test; w, p_w: Wilcoxon's; d_z, rank_biserial: effect sizes.
    """

    n: int
    equal: int
    difference: float
    low: float
    high: float
    t: float
    p_t: float
    w: float
    p_w: float
    d_z: float
    rank_biserial: float


def paired(a: np.ndarray, b: np.ndarray) -> Paired:
    r"""Compare the values of the same users under two models, two-sided.

    With :math:`d_i = a_i - b_i` over n users, mean :math:`\bar d` and standard deviation s (n - 1 in the
    denominator):

    - :math:`t = \bar d / (s / \sqrt n)` with n - 1 degrees of freedom;
    - Wilcoxon's W is the smaller of W+ and W-, the sums of the ranks of :math:`|d_i|` over positive and
      negative differences; users without a difference are left out first (``zero_method="wilcox"``), equal
      :math:`|d_i|` share their mean rank. Its p is exact where scipy's ``auto`` takes it so (few users
      without ties), and the normal approximation otherwise;
    - Cohen's :math:`d_z = \bar d / s`;
    - the matched-pairs rank-biserial correlation :math:`(W_+ - W_-) / (W_+ + W_-)`, over users WITH a
      difference.

    One user, or no difference at all, allows no test: everything but the means is NaN. A difference that is
    the same for every user has no t and no d_z.

    Args:
        a: the first model's values, ``[n_users]``, finite.
        b: the second model's, in the same order of users.
    """
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"paired values must be two vectors of one length, got {a.shape} and {b.shape}")
    d = np.round(np.asarray(a, dtype=float) - np.asarray(b, dtype=float), DECIMALS)
    n, none = len(d), float("nan")
    mean = float(d.mean()) if n else none
    low = high = t = p_t = w = p_w = d_z = rank_biserial = none
    moved = d[d != 0]
    if n > 1 and len(moved):
        ranks = stats.rankdata(np.abs(moved))
        plus, minus = float(ranks[moved > 0].sum()), float(ranks[moved < 0].sum())
        rank_biserial = (plus - minus) / (plus + minus)
        w, p_w = min(plus, minus), float(stats.wilcoxon(d, zero_method="wilcox", method="auto").pvalue)
        if np.ptp(d) > 0:
            s = float(d.std(ddof=1))
            d_z, t = mean / s, mean / (s / np.sqrt(n))
            p_t = float(2 * stats.t.sf(abs(t), n - 1))
            half = float(stats.t.ppf(0.975, n - 1)) * s / np.sqrt(n)
            low, high = mean - half, mean + half
    return Paired(n, n - len(moved), mean, low, high, t, p_t, w, p_w, d_z, rank_biserial)


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    r"""Return p values after Holm's step-down correction.

    It keeps the chance of any false finding among m tests below the level.

    For the sorted :math:`p_{(1)} \le ... \le p_{(m)}`:
    :math:`\tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1)\, p_{(j)})`.

    Args:
        p: ``[m]``; NaN stands for a test that could not be made: it stays NaN and does not count in m.

    Returns:
        ``[m]``, in the order given.
    """
    p = np.asarray(p, dtype=float)
    corrected = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = np.minimum(1.0, p[order] * np.arange(len(order), 0, -1))
    corrected[order] = np.maximum.accumulate(steps)
    return corrected


def effect_word(d_z: float) -> str:
    """Return Cohen's words for the size of :math:`d_z`.

    Below .2 very small, then small, from .5 medium, from .8 large.
    """
    size = abs(d_z)
    return "very small" if size < 0.2 else "small" if size < 0.5 else "medium" if size < 0.8 else "large"

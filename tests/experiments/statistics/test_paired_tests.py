"""Tests over users against naive references, their error rates on data without and with a difference, and undefined cases."""

import math

import numpy as np
import pytest
from scipy import stats

from recbole_ib.experiments.statistics.paired_tests import effect_word, holm, paired


def naive_holm(p):
    """Step down by hand: the smallest p against m, the next against m - 1, never smaller than one before."""
    order, corrected, largest = sorted(range(len(p)), key=p.__getitem__), [0.0] * len(p), 0.0
    for step, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - step) * p[i]))
        corrected[i] = largest
    return corrected


def naive_ranks(values):
    return [sum(v < w for v in values) + (sum(v == w for v in values) + 1) / 2 for w in values]


@pytest.mark.parametrize("m", [1, 2, 3, 10, 36])
def test_holm_is_the_step_down_by_hand(m):
    for seed in range(20):
        p = np.random.default_rng(seed).random(m) ** 3
        np.testing.assert_allclose(holm(p), naive_holm(list(p)), rtol=0, atol=1e-15)


def test_holm_of_a_textbook_case():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_a_test_that_was_not_made_does_not_count_in_holm():
    corrected = holm([0.01, np.nan, 0.03])
    np.testing.assert_allclose(corrected[[0, 2]], holm([0.01, 0.03]))
    assert np.isnan(corrected[1])
    assert holm([]).shape == (0,)


@pytest.mark.parametrize("n", [12, 40, 300])
@pytest.mark.parametrize("kind", ["continuous", "recall"])
def test_statistics_are_those_of_scipy_and_effects_those_of_their_equations(n, kind):
    rng = np.random.default_rng(n)
    a, b = rng.random(n), rng.random(n)
    if kind == "recall":
        size = rng.integers(1, 5, n)
        a, b = rng.binomial(size, 0.5) / size, rng.binomial(size, 0.4) / size
    found, d = paired(a, b), np.round(a - b, 12)
    t, w = stats.ttest_rel(a, b), stats.wilcoxon(d)
    assert found.t == pytest.approx(t.statistic)
    assert found.p_t == pytest.approx(t.pvalue)
    interval = t.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.w == w.statistic
    assert found.p_w == w.pvalue
    mean = sum(d) / n
    sd = math.sqrt(sum((x - mean) ** 2 for x in d) / (n - 1))
    assert found.difference == pytest.approx(mean)
    assert found.d_z == pytest.approx(mean / sd)
    moved = [x for x in d if x != 0]
    ranks = naive_ranks([abs(x) for x in moved])
    plus = sum(r for r, x in zip(ranks, moved, strict=True) if x > 0)
    minus = sum(r for r, x in zip(ranks, moved, strict=True) if x < 0)
    assert found.rank_biserial == pytest.approx((plus - minus) / (plus + minus))
    assert (found.n, found.equal) == (n, n - len(moved))


def test_turning_the_pair_turns_signs_and_keeps_p():
    a, b = np.random.default_rng(0).random((2, 60))
    one, other = paired(a, b), paired(b, a)
    assert (one.p_t, one.p_w, one.w) == (other.p_t, other.p_w, other.w)
    assert (one.t, one.d_z, one.rank_biserial) == pytest.approx((-other.t, -other.d_z, -other.rank_biserial))
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_last_digits_of_a_difference_part_no_ties():
    a, b = np.array([0.3, 0.2, 0.4, 0.1, 0.7]), np.array([0.2, 0.1, 0.3, 0.2, 0.6])
    assert len(set(a - b)) > 2
    assert paired(a, b).rank_biserial == pytest.approx((12 - 3) / 15)


@pytest.mark.parametrize(
    ("a", "b"), [([0.5, 0.2, 0.1], [0.5, 0.2, 0.1]), ([0.5], [0.1]), ([], [])], ids=["identical", "one user", "nobody"]
)
def test_undefined_tests_are_nan_and_neither_0_nor_1(a, b):
    found = paired(np.array(a), np.array(b))
    assert all(np.isnan(v) for v in (found.t, found.p_t, found.w, found.p_w, found.d_z, found.rank_biserial, found.low))
    assert found.n == len(a)


def test_the_same_difference_for_every_user_has_no_t_but_ranks():
    found = paired(np.full(30, 0.4), np.full(30, 0.3))
    assert all(np.isnan(v) for v in (found.t, found.p_t, found.d_z))
    assert found.rank_biserial == 1
    assert found.p_w < 1e-4


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((3, 1), (3, 1))])
def test_values_that_do_not_pair_are_refused(shapes):
    with pytest.raises(ValueError, match="one length"):
        paired(*(np.zeros(shape) for shape in shapes))


def simulate(repeats: int, n: int, shift: float):
    """p of all pairs of four models with recall-like values of n users; the first is better by ``shift``."""
    rng, raw, corrected = np.random.default_rng(11), [], []
    for _ in range(repeats):
        size, taste = rng.integers(1, 9, n), rng.beta(2, 4, n)
        models = [rng.binomial(size, np.clip(taste + (shift if m == 0 else 0), 0, 1)) / size for m in range(4)]
        pairs = [paired(models[i], models[j]) for i in range(4) for j in range(i + 1, 4)]
        p = np.array([[x.p_t, x.p_w] for x in pairs])
        raw.append(p)
        corrected.append(np.stack([holm(p[:, k]) for k in range(2)], axis=1))
    return np.array(raw), np.array(corrected)


def test_without_a_difference_five_percent_are_below_before_and_at_most_five_families_after_holm():
    raw, corrected = simulate(400, 80, 0.0)
    share, families = (raw < 0.05).mean(axis=(0, 1)), (corrected < 0.05).any(axis=1).mean(axis=0)
    # standard errors: about .007 of the share (the pairs of a family hang together), .011 of the families
    assert np.all(np.abs(share - 0.05) < 0.02), share
    assert np.all(families <= 0.05 + 2.3 * 0.011), families
    assert np.all((raw < 0.05).any(axis=1).mean(axis=0) > 0.1)


def test_a_planted_difference_is_found_and_only_that():
    _, corrected = simulate(60, 400, 0.1)
    with_first, others = corrected[:, :3], corrected[:, 3:]
    assert (with_first < 0.05).mean() > 0.95
    assert (others < 0.05).mean() < 0.05


@pytest.mark.parametrize(("d_z", "word"), [(0.1, "very small"), (-0.2, "small"), (0.5, "medium"), (-1.3, "large")])
def test_words_of_effects(d_z, word):
    assert effect_word(d_z) == word

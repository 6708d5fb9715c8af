"""The probe against closed forms on known linear mixtures."""

import numpy as np
import pytest

from recbole_ib.errors import ConfigurationError
from recbole_ib.experiments.robustness.linear_probe import aligned_rows, explained_variance, heldout_r2, probe_rows
from recbole_ib.experiments.robustness.synthetic import IRRELEVANT, RELEVANT

N = 3000


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    return rng.standard_normal((N, 3)), rng.standard_normal((N, 5)), rng


def test_a_full_mixture_is_recovered_and_an_independent_one_is_not(drawn):
    factors, other, rng = drawn
    assert heldout_r2(factors @ rng.standard_normal((3, 8)), factors) > 0.999
    assert heldout_r2(other, factors) < 0.01


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_noise_leaves_one_over_one_plus_its_variance(drawn, sigma):
    factors, other, _ = drawn
    assert heldout_r2(factors + sigma * other[:, :3], factors) == pytest.approx(1 / (1 + sigma**2), abs=0.03)


def test_factors_count_equally(drawn):
    factors, _, _ = drawn
    assert heldout_r2(factors[:, :1], factors) == pytest.approx(1 / 3, abs=0.01)


def test_recovery_does_not_see_scale_but_share_does(drawn):
    factors, other, _ = drawn
    latents = np.hstack([1e-2 * factors, other])
    assert heldout_r2(latents, factors) > 0.99
    assert heldout_r2(1e6 * latents, factors) == pytest.approx(heldout_r2(latents, factors), abs=1e-6)
    assert explained_variance(latents, factors) == pytest.approx(3e-4 / (3e-4 + 5), abs=2e-3)


@pytest.mark.parametrize("a", [0.5, 1.0, 3.0])
def test_share_is_the_factors_part_of_the_variance(drawn, a):
    factors, other, rng = drawn
    mixed = np.hstack([a * factors, other]) @ np.linalg.qr(rng.standard_normal((8, 8)))[0]
    assert explained_variance(mixed, factors) == pytest.approx(3 * a**2 / (3 * a**2 + 5), abs=0.02)


def test_share_of_independent_factors_is_not_lifted_by_their_number():
    rng = np.random.default_rng(1)
    shares = [explained_variance(rng.standard_normal((100, 20)), rng.standard_normal((100, 30))) for _ in range(20)]
    # unadjusted it would be 30 / 99
    assert np.mean(shares) < 0.03


def test_constant_latents_hold_nothing(drawn):
    assert heldout_r2(np.ones((N, 4)), drawn[0]) == 0
    assert explained_variance(np.ones((N, 4)), drawn[0]) == 0


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ConfigurationError, match="same n"):
        heldout_r2(np.zeros((20, 2)), np.zeros((19, 2)))
    with pytest.raises(ConfigurationError, match="at least 10"):
        heldout_r2(np.zeros((9, 2)), np.zeros((9, 2)))
    with pytest.raises(ConfigurationError, match="more than 16 rows"):
        explained_variance(np.random.default_rng(0).standard_normal((12, 2)), np.random.default_rng(0).standard_normal((12, 15)))


def test_parts_arealigned_rows_by_token_and_named_by_part():
    rng = np.random.default_rng(0)
    tokens = [f"i{i}" for i in range(200)]
    truth = {part: rng.standard_normal((200, 2)) for part in (*RELEVANT, *IRRELEVANT)}
    truth["synergistic"] = truth["synergistic"][:, :0]
    inside = rng.permutation(200)[:150]
    table = np.vstack([np.full(2, 99.0), truth["redundant"][inside]])  # row 0 is padding
    tables, aligned = aligned_rows({"items": table}, ["[PAD]", *(tokens[i] for i in inside)], tokens, truth)
    found = probe_rows(tables, aligned)
    assert found["items_r2_redundant"] > 0.999
    assert found["items_share_redundant"] > 0.999
    assert found["items_r2_irrelevant"] < 0.05
    assert "items_r2_synergistic" not in found

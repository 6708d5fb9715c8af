"""Donsker-Varadhan, CLUB, InfoNCE and canonical correlations: known informations, naive loops, wrong shapes."""

import math

import pytest
import torch
from torch.distributions import Normal

from recbole_ib.bottleneck import (
    CLUB,
    club_bound,
    donsker_varadhan,
    gaussian_information,
    infonce_bound,
)
from tests.support.gaussians import GAUSSIANS, draw, information, log_ratio, random_matrix, train

# ---- Donsker-Varadhan


def test_donsker_varadhan_equals_the_definition_for_other_numbers_of_pairs():
    joint, product = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([0.1, -0.3])
    expected = 0.5 - math.log((math.exp(0.1) + math.exp(-0.3)) / 2)
    assert float(donsker_varadhan(joint, product)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("d", "rho"), GAUSSIANS)
def test_donsker_varadhan_of_the_optimal_critic_is_the_information(d, rho):
    torch.manual_seed(0)
    x, y = draw(400_000, d, rho)
    joint, product = log_ratio(x, y, rho), log_ratio(x, y[torch.randperm(len(y))], rho)
    assert float(donsker_varadhan(joint, product)) == pytest.approx(information(d, rho), abs=0.02)
    # any other critic lies below: here one that is off by a factor
    if rho:
        assert float(donsker_varadhan(0.5 * joint, 0.5 * product)) < information(d, rho) - 0.05


def test_donsker_varadhan_is_blind_to_a_constant_and_safe_far_out():
    torch.manual_seed(0)
    joint, product = random_matrix(9), random_matrix(11)
    expected = donsker_varadhan(joint, product)
    for constant in (5.0, 1e4, -1e4):
        torch.testing.assert_close(donsker_varadhan(joint + constant, product + constant), expected, rtol=1e-9, atol=1e-9)
    assert torch.isfinite(donsker_varadhan(torch.tensor([3e4]), torch.tensor([2e4, -2e4])))


def test_donsker_varadhan_gradient():
    torch.manual_seed(0)
    pair = random_matrix(5, requires_grad=True), random_matrix(7, requires_grad=True)
    assert torch.autograd.gradcheck(donsker_varadhan, pair)


@pytest.mark.parametrize(("joint", "product"), [((3, 1), (3,)), ((3,), (3, 1)), ((0,), (3,)), ((3,), (0,)), ((), ())])
def test_donsker_varadhan_refuses_other_shapes(joint, product):
    with pytest.raises(ValueError, match="two vectors, not empty, got"):
        donsker_varadhan(torch.zeros(joint), torch.zeros(product))


# ---- CLUB


def naive_club(y, mean, log_variance):
    """The mean over all n^2 pairs, one by one, with the whole log density."""
    n, scale = len(y), (0.5 * log_variance).exp()
    positive = sum(Normal(mean[i], scale[i]).log_prob(y[i]).sum() for i in range(n)) / n
    return positive - sum(Normal(mean[i], scale[i]).log_prob(y[j]).sum() for i in range(n) for j in range(n)) / n**2


@pytest.mark.parametrize("shift", [0.0, 100.0])
@pytest.mark.parametrize("n", [1, 2, 9])
def test_club_equals_the_mean_over_all_pairs(n, shift):
    torch.manual_seed(0)
    y, mean, log_variance = random_matrix(n, 3) + shift, random_matrix(n, 3) + shift, random_matrix(n, 3)
    expected = naive_club(y, mean, log_variance)
    torch.testing.assert_close(club_bound(y, mean, log_variance), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("d", "rho"), GAUSSIANS)
def test_club_with_the_exact_q_has_its_closed_form(d, rho):
    """q(y|x) = N(rho x, 1 - rho^2): pairs are off by 1 - rho^2, other rows by 1 + rho^2; in all d rho^2 / (1 - rho^2)."""
    torch.manual_seed(0)
    x, y = draw(400_000, d, rho, torch.double)
    found = club_bound(y, rho * x, torch.full_like(y, math.log(1 - rho**2)))
    assert float(found) == pytest.approx(d * rho**2 / (1 - rho**2), rel=0.01, abs=1e-12)
    assert float(found) >= information(d, rho)


@pytest.mark.parametrize(("d", "rho"), GAUSSIANS)
def test_club_bounds_the_information_of_gaussians_from_above(d, rho):
    """A learned q: within 10 % + .02 of the value for the exact q, which lies above the information."""
    torch.manual_seed(0)
    club = CLUB(d, d)
    train(club, 500, 1.0, d, rho)
    with torch.no_grad():
        found = float(club(*draw(50_000, d, rho)))
    assert found == pytest.approx(d * rho**2 / (1 - rho**2), rel=0.1, abs=0.02)
    assert found > information(d, rho) - 0.01


def test_club_critic_loss_is_the_negative_log_likelihood():
    torch.manual_seed(0)
    club = CLUB(3, 2, hidden_dim=8).double()
    x, y = random_matrix(9, 3), random_matrix(9, 2)
    # rows that are scaled already
    x, y = ((t - t.mean(dim=0)) / t.std(dim=0, unbiased=False) for t in (x, y))
    mean, log_variance = club.q(x)
    expected = -Normal(mean, (0.5 * log_variance).exp()).log_prob(y).sum(dim=1).mean()
    torch.testing.assert_close(club.critic_loss(x, y), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(club(x, y), naive_club(y, mean, log_variance), rtol=1e-6, atol=1e-6)


def test_club_gradient():
    torch.manual_seed(0)
    club = CLUB(3, 2, hidden_dim=8).double()
    assert torch.autograd.gradcheck(club, (random_matrix(7, 3, requires_grad=True), random_matrix(7, 2, requires_grad=True)))
    assert torch.autograd.gradcheck(club_bound, tuple(random_matrix(5, 3, requires_grad=True) for _ in range(3)))


def test_club_of_rows_that_determine_each_other_stays_finite():
    """q's variance cannot shrink without end, nor can the gradient of the encoders grow."""
    torch.manual_seed(0)
    club = CLUB(2, 2)
    optimizer = torch.optim.Adam(club.parameters(), lr=1e-2)
    x = torch.randn(256, 2, requires_grad=True)
    for _ in range(300):
        optimizer.zero_grad()
        club.critic_loss(x, x).backward()
        optimizer.step()
    value = club(x, x)
    value.backward()
    assert 10.0 < float(value.detach()) < 2 * math.exp(CLUB(1, 1).q.BOUND)
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("shapes", [((5, 2), (5, 3), (5, 2)), ((5, 2), (5, 2), (4, 2)), ((0, 2),) * 3, ((5,),) * 3])
def test_club_bound_refuses_other_shapes(shapes):
    with pytest.raises(ValueError, match=r"one shape \[n, d\], n >= 1, got \("):
        club_bound(*(torch.zeros(shape) for shape in shapes))


# ---- InfoNCE


def test_infonce_equals_the_naive_loop():
    torch.manual_seed(0)
    scores = random_matrix(6, 6)
    expected = sum(math.log(math.exp(float(scores[i, i])) / (sum(math.exp(float(s)) for s in scores[i]) / 6)) for i in range(6))
    assert float(infonce_bound(scores)) == pytest.approx(expected / 6, rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 50])
@pytest.mark.parametrize("size", [0.0, 1.0, 30.0, 1e4])
def test_infonce_never_exceeds_log_n(n, size):
    torch.manual_seed(0)
    for _ in range(20):
        assert float(infonce_bound(size * random_matrix(n, n))) <= math.log(n) + 1e-12
    assert float(infonce_bound(1e4 * torch.eye(n))) == pytest.approx(math.log(n), abs=1e-6)


def test_infonce_is_zero_where_nothing_is_told():
    assert float(infonce_bound(torch.full((8, 8), 3.0))) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("d", "rho"), GAUSSIANS)
def test_infonce_of_the_optimal_critic_approaches_the_information_from_below(d, rho):
    torch.manual_seed(0)
    means = []
    for n in (8, 512):
        values = []
        for _ in range(8192 // n):
            x, y = draw(n, d, rho)
            values.append(infonce_bound(log_ratio(x[:, None], y[None], rho)))
        means.append(float(torch.stack(values).mean()))
    # .02: the noise of 8192 rows
    assert means[0] <= information(d, rho) + 0.02
    assert information(d, rho) * 0.93 - 0.02 < means[1] < information(d, rho) + 0.02
    if rho == 0.8:
        # few rows hold little information: no more than log 8, and here clearly less than the truth
        assert means[0] < means[1] - 0.05


@pytest.mark.parametrize("shape", [(3,), (3, 4), (0, 0), (2, 3, 3)])
def test_infonce_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"\[n, n\], n >= 1, got \("):
        infonce_bound(torch.zeros(shape))


# ---- canonical correlations


@pytest.mark.parametrize(("d", "rho"), GAUSSIANS)
def test_gaussian_information_is_the_known_value(d, rho):
    torch.manual_seed(0)
    found = gaussian_information(*draw(100_000, d, rho))
    assert found.dtype == torch.double
    assert float(found) == pytest.approx(information(d, rho), abs=0.01)


def test_gaussian_information_equals_the_log_determinants():
    """-1/2 sum log(1 - rho_k^2) = 1/2 log(|C_x| |C_y| / |C|), without any canonical correlation."""
    torch.manual_seed(0)
    x = random_matrix(200, 3)
    y = x @ random_matrix(3, 5) + random_matrix(200, 5)
    logdet = [torch.logdet(torch.cov(z.T)) for z in (x, y, torch.cat([x, y], dim=1))]
    expected = 0.5 * (logdet[0] + logdet[1] - logdet[2]) - 3 * 5 / 400
    assert float(gaussian_information(x, y, ridge=1e-12)) == pytest.approx(float(expected), rel=1e-6)
    assert float(gaussian_information(y, x)) == pytest.approx(float(gaussian_information(x, y)), rel=1e-9)


def test_gaussian_information_is_blind_to_mixing_scale_and_shift():
    torch.manual_seed(0)
    x, y = draw(2000, 3, 0.7)
    expected = float(gaussian_information(x, y))
    assert expected > 0.5
    mixed = x.double() @ random_matrix(3, 3)
    assert float(gaussian_information(1e-6 * mixed + 4.0, 1e5 * y)) == pytest.approx(expected, rel=1e-3)


def test_bias_correction_takes_away_what_independent_rows_have():
    """64-wide independent rows of 3,000 items look like .68 nats without it; the mean over draws is near 0 with it."""
    torch.manual_seed(0)
    found = [float(gaussian_information(torch.randn(3000, 64), torch.randn(3000, 64))) for _ in range(5)]
    assert max(found) < 0.08
    assert float(gaussian_information(torch.randn(50, 3), torch.randn(50, 3))) >= 0.0


def test_gaussian_information_of_singular_rows_is_finite():
    torch.manual_seed(0)
    x = torch.randn(500, 2)
    twice = torch.cat([x, x, torch.ones(500, 1)], dim=1)
    y = 0.8 * x + 0.6 * torch.randn(500, 2)
    # a repeated and a constant coordinate add nothing but their share of the bias
    expected = float(gaussian_information(x, y)) - (5 - 2) * 2 / 1000
    assert float(gaussian_information(twice, y)) == pytest.approx(expected, abs=1e-4)
    same = float(gaussian_information(x, x))
    assert same == pytest.approx(-math.log(2e-6), rel=0.01)
    assert float(gaussian_information(torch.ones(9, 2), torch.randn(9, 2))) == 0.0
    assert math.isfinite(float(gaussian_information(torch.randn(5, 8), torch.randn(5, 9))))


@pytest.mark.parametrize("n", [0, 1])
def test_gaussian_information_of_too_few_rows_is_zero(n):
    assert float(gaussian_information(torch.randn(n, 3), torch.randn(n, 2))) == 0.0


def test_gaussian_information_refuses_wrong_input():
    with pytest.raises(ValueError, match=r"the same rows, got \(5, 3\) and \(4, 3\)"):
        gaussian_information(torch.zeros(5, 3), torch.zeros(4, 3))
    with pytest.raises(ValueError, match="ridge must be positive, got 0"):
        gaussian_information(torch.zeros(5, 3), torch.zeros(5, 3), ridge=0.0)
    x = torch.randn(5, 3, requires_grad=True)
    assert not gaussian_information(x, x).requires_grad

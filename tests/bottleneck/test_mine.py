"""MINE, and what it shares with CLUB: bounds of known informations, its average, gradients of both sides."""

import copy
import math

import pytest
import torch

from recbole_ib.bottleneck import (
    CLUB,
    MINE,
    critics,
    donsker_varadhan,
)
from tests.support.gaussians import GAUSSIANS, draw, information, log_ratio, random_matrix, train


@pytest.mark.parametrize(("d", "rho"), GAUSSIANS)
def test_mine_finds_the_information_of_gaussians_from_below(d, rho):
    """Within .05 nats + 5 % under the truth; above it by no more than .03, the noise of a large sample (see the next test)."""
    torch.manual_seed(0)
    mine = MINE(d, d)
    train(mine, 400, 1.0, d, rho)
    with torch.no_grad():
        found = float(mine(*draw(100_000, d, rho)))
    truth = information(d, rho)
    assert 0.95 * truth - 0.05 < found < truth + 0.03


def test_sampling_noise_of_the_bound_is_within_the_allowance():
    """The .03 above: the exact critic on samples of that size scatters by less than half of it."""
    torch.manual_seed(0)
    values = []
    for _ in range(20):
        x, y = draw(100_000, 3, 0.8)
        values.append(donsker_varadhan(log_ratio(x, y, 0.8), log_ratio(x, y.roll(1, dims=0), 0.8)))
    assert float(torch.stack(values).std()) < 0.015


@pytest.mark.parametrize("estimator", [MINE, CLUB])
def test_latents_of_any_scale_give_one_estimate(estimator):
    """A backbone's latents may be as small as 0.01, its features as large as 50."""
    values = []
    for scale in (1.0, 0.01, 50.0):
        torch.manual_seed(0)
        critic = estimator(2, 2)
        train(critic, 60, scale, 2, 0.8)
        x, y = draw(5000, 2, 0.8)
        torch.manual_seed(1)
        values.append(float(critic(scale * x + scale, y / scale).detach()))
    assert values[0] > 0.5
    assert values[1:] == pytest.approx(values[:1] * 2, rel=0.02)


def test_mine_pairs_no_row_with_its_own_partner():
    """The critic sees every row once with its partner and once with another's, and every partner twice."""
    n = 40
    for size in (2, 3, n):
        for _ in range(20):
            cycle = critics._random_cycle(size, torch.device("cpu"))
            assert torch.equal(cycle.sort().values, torch.arange(size))
            assert (cycle != torch.arange(size)).all()
    mine = MINE(1, 1)
    seen = []
    mine.critic.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    rows = torch.arange(float(n))[:, None]
    mine(rows, rows)
    joint, product = seen[0].split(n)
    assert torch.equal(joint[:, 0], joint[:, 1])
    assert torch.equal(joint[:, 0], product[:, 0])
    assert torch.equal(product[:, 1].sort().values, joint[:, 1])
    assert (product[:, 0] != product[:, 1]).all()


def test_shuffles_reach_every_other_row_evenly():
    torch.manual_seed(0)
    counts = torch.zeros(5, 5)
    for _ in range(4000):
        counts[torch.arange(5), critics._random_cycle(5, torch.device("cpu"))] += 1
    assert counts.diagonal().sum() == 0
    # 1000 each, standard deviation 27
    assert (counts[~torch.eye(5, dtype=torch.bool)] - 1000).abs().max() < 140


@pytest.mark.parametrize("estimator", [MINE, CLUB])
def test_each_side_has_its_own_gradient(estimator):
    torch.manual_seed(0)
    critic = estimator(3, 2)
    x, y = torch.randn(20, 3, requires_grad=True), torch.randn(20, 2, requires_grad=True)
    critic(x, y).backward()
    assert all((t.grad != 0).any() for t in (x, y))
    assert all(p.grad is None for p in critic.parameters())
    x.grad = y.grad = None
    critic.critic_loss(x, y).backward()
    assert x.grad is None
    assert y.grad is None
    assert all((p.grad != 0).any() for p in critic.parameters())


@pytest.mark.parametrize("estimator", [MINE, CLUB])
@pytest.mark.parametrize("n", [0, 1])
def test_too_few_rows_are_zero_with_a_gradient(estimator, n):
    critic = estimator(3, 2)
    before = {name: value.clone() for name, value in critic.state_dict().items()}
    x, y = torch.randn(n, 3, requires_grad=True), torch.randn(n, 2, requires_grad=True)
    for value, leaves in ((critic(x, y), (x, y)), (critic.critic_loss(x, y), tuple(critic.parameters()))):
        assert value.shape == ()
        assert float(value.detach()) == 0.0
        assert all((g == 0).all() for g in torch.autograd.grad(value, leaves))
    assert all(torch.equal(value, before[name]) for name, value in critic.state_dict().items())


@pytest.mark.parametrize("estimator", [MINE, CLUB])
@pytest.mark.parametrize("method", ["forward", "critic_loss"])
def test_wrong_rows_are_refused(estimator, method):
    call = getattr(estimator(3, 2), method)
    with pytest.raises(ValueError, match=r"the same rows, got \(5, 3\) and \(4, 2\)"):
        call(torch.zeros(5, 3), torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"\[n, d\] with the same rows, got \(5,\) and \(5, 2\)"):
        call(torch.zeros(5), torch.zeros(5, 2))
    with pytest.raises(ValueError, match=r"3 and 2 wide, got \(5, 2\) and \(5, 3\)"):
        call(torch.zeros(5, 2), torch.zeros(5, 3))


@pytest.mark.parametrize("estimator", [MINE, CLUB])
def test_constant_rows_give_finite_values_and_gradients(estimator):
    critic = estimator(3, 2)
    x, y = torch.ones(6, 3, requires_grad=True), torch.randn(6, 2, requires_grad=True)
    for value, leaves in ((critic(x, y), (x, y)), (critic.critic_loss(x, y), tuple(critic.parameters()))):
        assert torch.isfinite(value)
        assert all(torch.isfinite(g).all() for g in torch.autograd.grad(value, leaves))


def mine_and_batch(ema=0.99):
    torch.manual_seed(0)
    return MINE(3, 2, hidden_dim=8, ema=ema).double(), random_matrix(12, 3), random_matrix(12, 2)


def seeded(call, *arguments):
    """The call with one and the same shuffle."""
    torch.manual_seed(7)
    return call(*arguments)


def values_of(mine, x, y):
    """f of the joint and of the product pairs, with the gradient to the critic."""
    return seeded(mine._values, x, y, dict(mine.critic.named_parameters()))


def gradient(value, mine):
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, tuple(mine.parameters()))])


def test_critic_loss_is_minus_the_bound():
    mine, x, y = mine_and_batch()
    for _ in range(3):
        torch.testing.assert_close(seeded(mine.critic_loss, x, y), -seeded(mine.forward, x, y))


@pytest.mark.parametrize("case", ["nothing averaged yet", "no past", "an average that equals the batch"])
def test_corrected_gradient_is_the_plain_one_where_the_average_is_the_batch_mean(case):
    mine, x, y = mine_and_batch(ema=0.0 if case == "no past" else 0.9)
    joint, product = values_of(mine, x, y)
    if case == "no past":
        mine.log_ema.fill_(5.0)
    elif case == "an average that equals the batch":
        mine.log_ema.copy_(product.detach().exp().mean().log())
    plain = gradient(-donsker_varadhan(joint, product), mine)
    torch.testing.assert_close(gradient(seeded(mine.critic_loss, x, y), mine), plain)


def test_corrected_gradient_divides_by_the_average_instead_of_the_batch_mean():
    """Belghazi et al., Eq. 12, written out: -(grad E[f] - grad E[e^f] / EMA)."""
    mine, x, y = mine_and_batch(ema=0.9)
    mine.log_ema.fill_(math.log(3.0))
    joint, product = values_of(mine, x, y)
    average = 0.9 * 3.0 + 0.1 * float(product.detach().exp().mean())
    expected = gradient(-(joint.mean() - product.exp().mean() / average), mine)
    torch.testing.assert_close(gradient(seeded(mine.critic_loss, x, y), mine), expected)
    assert float(mine.log_ema) == pytest.approx(math.log(average), rel=1e-12)


def test_average_moves_in_training_mode_of_critic_loss_alone():
    mine, x, y = mine_and_batch()
    mine(x, y)
    mine.eval()
    mine.critic_loss(x, y)
    assert float(mine.log_ema) == -math.inf
    mine.train()
    mine.critic_loss(x, y)
    first = mine.log_ema.clone()
    assert torch.isfinite(first)
    assert not first.requires_grad
    mine.eval()
    mine.critic_loss(x, 2.0 * y)
    mine(x, 2.0 * y)
    assert torch.equal(mine.log_ema, first)


@pytest.mark.parametrize("size", [1e3, 1e4, -1e4])
def test_large_critic_values_stay_finite(size):
    """e^1000 is beyond float32 and float64: the average is kept in logs."""
    torch.manual_seed(0)
    mine = MINE(3, 2)
    x, y = torch.randn(12, 3), torch.randn(12, 2)
    mine.critic_loss(x, y)
    torch.nn.init.constant_(mine.critic[-1].bias, size)
    mine.critic[-1].weight.data *= 100.0
    for mode in (False, True, True):
        mine.train(mode)
        loss = mine.critic_loss(x, y)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient(loss, mine)).all()
    assert torch.isfinite(mine.log_ema)
    assert torch.isfinite(mine(x, y))


def test_resumed_run_goes_on_exactly():
    """The average is in the state dict: a run from a checkpoint takes the steps that the uninterrupted one takes."""

    def steps(mine, optimizer, n):
        for _ in range(n):
            optimizer.zero_grad()
            mine.critic_loss(*draw(32, 2, 0.8)).backward()
            optimizer.step()

    torch.manual_seed(0)
    mine = MINE(2, 2, hidden_dim=8)
    optimizer = torch.optim.Adam(mine.parameters(), lr=1e-2)
    steps(mine, optimizer, 5)
    saved = {name: value.clone() for name, value in mine.state_dict().items()}
    moments = copy.deepcopy(optimizer.state_dict())
    assert "log_ema" in saved

    resumed = MINE(2, 2, hidden_dim=8)
    resumed.load_state_dict(saved)
    again = torch.optim.Adam(resumed.parameters(), lr=1e-2)
    again.load_state_dict(moments)
    torch.manual_seed(5)
    steps(resumed, again, 5)
    torch.manual_seed(5)
    steps(mine, optimizer, 5)
    for name, value in mine.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert not torch.equal(mine.log_ema, saved["log_ema"])


def test_mine_forgets_its_average_when_reset():
    mine, x, y = mine_and_batch()
    mine.critic_loss(x, y)
    mine.reset_parameters()
    assert float(mine.log_ema) == -math.inf


@pytest.mark.parametrize("ema", [-0.1, 1.0, math.nan])
def test_ema_outside_its_range_is_refused(ema):
    with pytest.raises(ValueError, match=r"\[0, 1\), got"):
        MINE(2, 2, ema=ema)


def test_mine_gradient_to_the_encoders():
    mine, x, y = mine_and_batch()
    x, y = x.requires_grad_(), y.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: seeded(mine.forward, a, b), (x, y))

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from recbole_ib.bottleneck import LogVarianceHead, gaussian_kl, priced_rate, reparameterize


def doubles(*shape, **options):
    return torch.randn(*shape, dtype=torch.double, **options)


@pytest.mark.parametrize("shape", [(7, 4), (1, 1), (5, 64)])
@pytest.mark.parametrize("scale", [0.01, 1.0, 6.0])
def test_kl_equals_that_of_torch_row_by_row(shape, scale):
    torch.manual_seed(0)
    mean, log_variance = scale * doubles(shape), scale * doubles(shape)
    posterior = Independent(Normal(mean, (0.5 * log_variance).exp()), 1)
    prior = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    found = gaussian_kl(mean, log_variance)
    assert found.shape == shape[:1]
    torch.testing.assert_close(found, kl_divergence(posterior, prior), rtol=1e-10, atol=1e-12)


def test_kl_of_no_rows_is_empty():
    assert gaussian_kl(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0,)


def test_kl_equals_the_mean_log_ratio_of_draws():
    """KL is E_q[log q - log p]; the draws are those of reparameterize, so the two functions mean one distribution."""
    torch.manual_seed(0)
    mean, log_variance = torch.tensor([[0.5, -1.0]]).double(), torch.tensor([[0.3, -1.2]]).double()
    z = reparameterize(mean.expand(400_000, 2), log_variance.expand(400_000, 2))
    ratio = Normal(mean, (0.5 * log_variance).exp()).log_prob(z) - Normal(0.0, 1.0).log_prob(z)
    assert float(ratio.sum(dim=1).mean()) == pytest.approx(float(gaussian_kl(mean, log_variance)), abs=0.01)


def test_kl_is_zero_at_the_prior_alone_and_keeps_its_digits_there():
    assert torch.equal(gaussian_kl(torch.zeros(3, 4), torch.zeros(3, 4)), torch.zeros(3))
    # 1/2 (e^l - 1 - l) is l^2 / 4 for a small l; in float32 e^l - 1 would be off by half of it
    small = gaussian_kl(torch.zeros(1, 1), torch.full((1, 1), 1e-3))
    assert float(small) == pytest.approx(2.5e-7, rel=1e-2)
    torch.manual_seed(0)
    assert (gaussian_kl(torch.randn(200, 8), 3.0 * torch.randn(200, 8)) > 0).all()


def test_kl_gradient():
    torch.manual_seed(0)
    mean, log_variance = doubles(5, 3, requires_grad=True), doubles(5, 3, requires_grad=True)
    assert torch.autograd.gradcheck(gaussian_kl, (mean, log_variance))
    found = torch.autograd.grad(gaussian_kl(mean, log_variance).sum(), (mean, log_variance))
    torch.testing.assert_close(found[0], mean.detach())
    torch.testing.assert_close(found[1], 0.5 * (log_variance.detach().exp() - 1.0))


def test_draws_have_the_mean_and_variance():
    torch.manual_seed(0)
    mean, log_variance = torch.tensor([-2.0, 0.0, 0.01]), torch.tensor([0.0, 2.0 * math.log(3.0), 2.0 * math.log(0.01)])
    n = 200_000
    z = reparameterize(mean.expand(n, 3), log_variance.expand(n, 3))
    noise = (z - mean) / (0.5 * log_variance).exp()
    # five standard errors
    assert noise.mean(dim=0).abs().max() < 5 / math.sqrt(n)
    assert (noise.square().mean(dim=0) - 1.0).abs().max() < 5 * math.sqrt(2 / n)
    assert (noise.T @ noise / n - torch.eye(3)).fill_diagonal_(0.0).abs().max() < 5 / math.sqrt(n)


def test_draws_follow_the_global_generator_and_differ_from_each_other():
    mean, log_variance = torch.zeros(6, 3), torch.zeros(6, 3)
    torch.manual_seed(3)
    first, second = reparameterize(mean, log_variance), reparameterize(mean, log_variance)
    torch.manual_seed(3)
    assert torch.equal(first, reparameterize(mean, log_variance))
    assert not torch.equal(first, second)


def test_gradient_of_a_draw():
    """dz/dmu = 1 and dz/dlog s^2 = s eps / 2 = (z - mu) / 2."""
    torch.manual_seed(0)
    mean, log_variance = doubles(5, 3, requires_grad=True), doubles(5, 3, requires_grad=True)
    z = reparameterize(mean, log_variance)
    to_mean, to_log_variance = torch.autograd.grad(z.sum(), (mean, log_variance))
    torch.testing.assert_close(to_mean, torch.ones_like(mean))
    torch.testing.assert_close(to_log_variance, 0.5 * (z - mean).detach())


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"one shape, got \(3, 2\) and \(3, 1\)"):
        gaussian_kl(torch.zeros(3, 2), torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"\[n, d\], got \(4,\)"):
        gaussian_kl(torch.zeros(4), torch.zeros(4))
    with pytest.raises(ValueError, match=r"one shape, got \(3, 2\) and \(2, 2\)"):
        reparameterize(torch.zeros(3, 2), torch.zeros(2, 2))


@pytest.mark.parametrize(("bound", "initial"), [((-14.0, 4.0), 2 * math.log(0.01)), ((-8.0, 4.0), -6.0), ((-1.0, 1.0), 0.99)])
def test_head_starts_at_the_chosen_log_variance_for_every_item(bound, initial):
    torch.manual_seed(0)
    head = LogVarianceHead(5, 3, bound, initial)
    torch.testing.assert_close(head(100.0 * torch.randn(7, 5)), torch.full((7, 3), initial))


def test_head_survives_an_initialization_of_all_linear_layers():
    """RecBole's models apply one to their whole tree after building it: the chosen start has to outlive it."""

    def initialize(module):
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            torch.nn.init.xavier_normal_(module.weight)
            if getattr(module, "bias", None) is not None:
                torch.nn.init.zeros_(module.bias)

    head = LogVarianceHead(5, 3, initial=-6.0)
    head.apply(initialize)
    torch.testing.assert_close(head(torch.randn(7, 5)), torch.full((7, 3), -6.0))


@pytest.mark.parametrize("size", [0.1, 1.0, 10.0, 1e4])
def test_head_stays_within_its_bound(size):
    torch.manual_seed(0)
    head = LogVarianceHead(5, 3, (-8.0, 4.0), -6.0)
    torch.nn.init.normal_(head.weight, std=size)
    log_variance = head(torch.randn(200, 5))
    assert torch.isfinite(log_variance).all()
    assert log_variance.min() >= -8.0
    assert log_variance.max() <= 4.0
    if size > 1:
        # all of the range can be reached
        assert log_variance.min() < -7.9
        assert log_variance.max() > 3.9


def test_head_has_gradients_across_its_whole_range():
    """Unit slope in the middle, and still a gradient 0.1 off either end, where a clamp of the linear output has just lost it."""
    head = LogVarianceHead(1, 1, (-8.0, 4.0), -6.0).double()
    torch.nn.init.ones_(head.weight)
    torch.nn.init.zeros_(head.bias)
    features = torch.linspace(-15.0, 15.0, 301, dtype=torch.double)[:, None].requires_grad_()
    log_variance = head(features)
    slope = torch.autograd.grad(log_variance.sum(), features)[0].squeeze(1)
    assert float(slope[150]) == pytest.approx(1.0)
    assert slope.max() == slope[150]
    inside = (log_variance.detach().squeeze(1) > -7.9) & (log_variance.detach().squeeze(1) < 3.9)
    assert slope[inside].min() > 0.03
    assert (slope > 0).all()


def test_head_learns_from_its_start():
    """W starts at zero and still has a gradient: the head can tell items apart after training."""
    torch.manual_seed(0)
    head = LogVarianceHead(4, 1)
    features = torch.randn(300, 4)
    target = -3.0 + features[:, :1]
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for step in range(300):
        loss = (head(features) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            assert all((p.grad != 0).any() for p in head.parameters())
        optimizer.step()
    assert float(loss.detach()) < 0.02


def test_head_resets_to_its_start_and_names_itself():
    head = LogVarianceHead(5, 3, (-8.0, 4.0), -6.0)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    head.reset_parameters()
    torch.testing.assert_close(head(torch.randn(7, 5)), torch.full((7, 3), -6.0))
    assert repr(head) == "LogVarianceHead(in_dim=5, out_dim=3, bound=(-8.0, 4.0), initial=-6.0)"


@pytest.mark.parametrize(
    ("bound", "initial"), [((-8.0, 4.0), -8.0), ((-8.0, 4.0), 5.0), ((4.0, -8.0), 0.0), ((-8.0, 4.0), math.nan)]
)
def test_head_refuses_a_start_outside_its_bound(bound, initial):
    with pytest.raises(ValueError, match="must lie inside its bound, got"):
        LogVarianceHead(5, 3, bound, initial)


def test_scaled_rows_are_rows_scaled_first():
    torch.manual_seed(0)
    head = LogVarianceHead(7, 3)
    torch.nn.init.normal_(head.weight)
    x, scale = torch.randn(5, 7), torch.rand(5, 1)
    torch.testing.assert_close(head(x, scale), head(x * scale))


def test_priced_rate_is_the_mean_rate_beyond_what_is_free():
    torch.manual_seed(0)
    mean, log_variance = torch.randn(7, 3, dtype=torch.double), torch.randn(7, 3, dtype=torch.double)
    expected = 0.0
    for d in range(3):
        rate = sum(float(m) ** 2 + math.exp(float(v)) - 1 - float(v) for m, v in zip(mean[:, d], log_variance[:, d], strict=True))
        expected += max(0.0, rate / 14 - 0.9)
    assert float(priced_rate(mean, log_variance, 0.9)) == pytest.approx(expected, rel=1e-9)
    assert float(priced_rate(mean, log_variance)) == pytest.approx(float(gaussian_kl(mean, log_variance).mean()))
    leaves = [x.requires_grad_() for x in (mean, log_variance)]
    assert torch.autograd.gradcheck(lambda m, v: priced_rate(m, v, 0.9), leaves)


def test_what_is_free_is_kept_and_the_rest_is_forgotten():
    """Minimized alone, the rate of every number falls to the free bits, and not to 0."""
    torch.manual_seed(0)
    for free in (0.0, 0.4):
        mean = torch.randn(50, 2).requires_grad_()
        optimizer = torch.optim.SGD([mean], lr=1.0)
        for _ in range(400):
            optimizer.zero_grad()
            priced_rate(mean, torch.zeros(50, 2), free).backward()
            optimizer.step()
        left = 0.5 * mean.detach().square().mean(dim=0)
        torch.testing.assert_close(left, torch.full((2,), free), atol=0.02, rtol=0.0)

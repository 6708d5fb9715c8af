import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from recbole_ib.bottleneck import (
    CLUB,
    MINE,
    REDUNDANCY_ESTIMATORS,
    Redundancy,
    UniqueDecoders,
    gaussian_information,
    rbf_hsic,
    residuals,
)

#: names as users may give them: a dot, and a name that a ModuleDict has for itself
IN_DIMS = {"visual.clip": 5, "keys": 3, "audio": 4}


def latents(n=12, in_dims=IN_DIMS, grad=True):
    return {name: torch.randn(n, width, requires_grad=grad) for name, width in in_dims.items()}


# ---- unique


def test_decoders_keep_names_order_and_shapes():
    torch.manual_seed(0)
    decoders = UniqueDecoders(IN_DIMS, out_dim=7, hidden_dim=6)
    given = latents()
    found = decoders(dict(reversed(given.items())))
    assert list(found) == list(IN_DIMS)
    for (name, out), decoder in zip(found.items(), decoders.decoders, strict=True):
        assert out.shape == (12, 7)
        torch.testing.assert_close(out, decoder(given[name]))
    # items of one modality may be others than those of the next
    rows = decoders({"visual.clip": torch.randn(2, 5), "keys": torch.randn(0, 3), "audio": torch.randn(9, 4)})
    assert [out.shape[0] for out in rows.values()] == [2, 0, 9]


def test_decoders_are_independent():
    """A modality's output moves its own decoder and its own latent, and nothing else at all."""
    torch.manual_seed(0)
    decoders = UniqueDecoders(IN_DIMS, out_dim=7)
    given = latents()
    for k, name in enumerate(IN_DIMS):
        outputs = decoders(given)
        leaves = [*given.values(), *decoders.parameters()]
        found = torch.autograd.grad(outputs[name].square().sum(), leaves, allow_unused=True)
        own = {id(given[name]), *(id(p) for p in decoders.decoders[k].parameters())}
        for leaf, gradient in zip(leaves, found, strict=True):
            if id(leaf) in own:
                assert (gradient != 0).any()
            else:
                assert gradient is None
    assert len({id(p) for p in decoders.parameters()}) == 4 * len(IN_DIMS)


def test_decoders_start_different_and_are_not_linear():
    torch.manual_seed(0)
    decoders = UniqueDecoders({"a": 4, "b": 4}, out_dim=4)
    z = torch.randn(9, 4)
    out = decoders({"a": z, "b": z})
    assert not torch.allclose(out["a"], out["b"])
    twice = decoders({"a": -z, "b": z})
    assert not torch.allclose(twice["a"], -out["a"])


def test_decoders_round_trip_and_reset():
    torch.manual_seed(0)
    decoders, other = UniqueDecoders(IN_DIMS, 7), UniqueDecoders(IN_DIMS, 7)
    other.load_state_dict(decoders.state_dict())
    given = latents()
    expected = decoders(given)
    for name, out in other(given).items():
        assert torch.equal(out, expected[name])
    other.reset_parameters()
    assert not torch.equal(other(given)["audio"], expected["audio"])
    assert "visual.clip" in repr(decoders)


@pytest.mark.parametrize("build", [lambda: UniqueDecoders(IN_DIMS, 7), lambda: Redundancy(IN_DIMS, "mine")])
def test_other_latents_are_refused(build):
    module = build()
    given = latents()
    with pytest.raises(ValueError, match=r"latents of .*'audio'.* are needed, got \['visual.clip', 'keys'\]"):
        module({name: z for name, z in given.items() if name != "audio"})
    with pytest.raises(ValueError, match=r"are needed, got .*'extra'"):
        module({**given, "extra": torch.zeros(12, 2)})
    with pytest.raises(ValueError, match=r"of 'keys' must be \[n, 3\], got \(12, 4\)"):
        module({**given, "keys": torch.zeros(12, 4)})


def test_decoders_need_a_modality():
    with pytest.raises(ValueError, match="at least one"):
        UniqueDecoders({}, 7)


# ---- redundant


def test_redundancy_refuses_what_it_cannot_estimate():
    with pytest.raises(ValueError, match=r"redundancy needs at least two modalities, got \['visual'\]"):
        Redundancy({"visual": 4}, "mine")
    with pytest.raises(ValueError, match="must be one of mine, club, hsic, got 'vclub'"):
        Redundancy(IN_DIMS, "vclub")
    with pytest.raises(ValueError, match="positive, got 0"):
        Redundancy(IN_DIMS, "hsic", sigma2=0)


@pytest.mark.parametrize(("estimator", "critic"), [("mine", MINE), ("club", CLUB), ("hsic", None)])
def test_one_critic_for_every_pair(estimator, critic):
    redundancy = Redundancy(IN_DIMS, estimator, hidden_dim=8)
    assert redundancy.pairs == [("visual.clip", "keys"), ("visual.clip", "audio"), ("keys", "audio")]
    assert redundancy.has_critic == (critic is not None)
    assert bool(list(redundancy.parameters())) == redundancy.has_critic
    if critic is not None:
        assert [(type(c), c.x_dim, c.y_dim) for c in redundancy.critics] == [(critic, 5, 3), (critic, 5, 4), (critic, 3, 4)]
    assert len(Redundancy({"a": 2, "b": 2}, estimator).pairs) == 1


@pytest.mark.parametrize("estimator", REDUNDANCY_ESTIMATORS)
def test_value_is_the_sum_of_the_estimates_of_all_pairs(estimator):
    torch.manual_seed(0)
    redundancy, given = Redundancy(IN_DIMS, estimator, sigma2=0.7), latents(40)
    state = torch.get_rng_state()
    estimates = redundancy.estimates(given)
    # watching a run must not change it
    assert torch.equal(torch.get_rng_state(), state)
    value = redundancy(given)
    assert list(estimates) == ["visual.clip|keys", "visual.clip|audio", "keys|audio"]
    assert not any(e.requires_grad for e in estimates.values())
    torch.testing.assert_close(value, sum(estimates.values()))
    torch.set_rng_state(state)
    for k, (a, b) in enumerate(redundancy.pairs):
        expected = {
            "mine": lambda x, y, k=k: redundancy.critics[k](x, y).relu(),
            "club": lambda x, y, k=k: redundancy.critics[k](x, y),
            "hsic": lambda x, y: rbf_hsic(x, y, sigma2=0.7),
        }[estimator](given[a], given[b])
        torch.testing.assert_close(estimates[f"{a}|{b}"], expected.detach())


@pytest.mark.parametrize("estimator", REDUNDANCY_ESTIMATORS)
def test_gradients_reach_all_latents_and_no_critic(estimator):
    torch.manual_seed(0)
    base = torch.randn(60, 3)
    given = {name: torch.randn(60, width) for name, width in IN_DIMS.items()}
    for z in given.values():
        z[:, :3] += 3.0 * base
        z.requires_grad_()
    redundancy = Redundancy(IN_DIMS, estimator)
    optimizer = torch.optim.Adam(redundancy.parameters(), lr=1e-2) if redundancy.has_critic else None
    for _ in range(30 if optimizer else 0):
        optimizer.zero_grad()
        redundancy.critic_loss(given).backward()
        optimizer.step()
    redundancy.zero_grad()
    assert all(z.grad is None for z in given.values())
    redundancy(given).backward()
    assert all(torch.isfinite(z.grad).all() and (z.grad != 0).any() for z in given.values())
    assert all(p.grad is None for p in redundancy.parameters())


def test_critic_loss_is_the_sum_over_the_pairs():
    torch.manual_seed(0)
    redundancy, given = Redundancy(IN_DIMS, "club"), latents()
    expected = sum(c.critic_loss(given[a], given[b]) for (a, b), c in zip(redundancy.pairs, redundancy.critics, strict=True))
    found = redundancy.critic_loss(given)
    torch.testing.assert_close(found, expected)
    found.backward()
    assert all((p.grad != 0).any() for p in redundancy.parameters())


def test_hsic_has_nothing_to_train():
    loss = Redundancy(IN_DIMS, "hsic").critic_loss(latents())
    assert loss.shape == ()
    assert float(loss) == 0.0


def test_mine_stops_at_zero_in_every_pair():
    """An untrained critic on independent rows is often below 0: no pair may be, nor give a gradient there."""
    floored = 0
    for seed in range(20):
        torch.manual_seed(seed)
        redundancy, given = Redundancy({"a": 4, "b": 4}, "mine"), latents(in_dims={"a": 4, "b": 4})
        state = torch.get_rng_state()
        value = redundancy(given)
        torch.set_rng_state(state)
        raw = float(redundancy.critics[0](*given.values()).detach())
        assert float(value.detach()) == pytest.approx(max(raw, 0.0))
        found = torch.autograd.grad(value, list(given.values()))
        assert all((g != 0).any() == (raw > 0) for g in found)
        floored += raw < 0
    assert 0 < floored < 20


def test_club_is_taken_as_it_is():
    values = []
    for seed in range(10):
        torch.manual_seed(seed)
        values.append(float(Redundancy({"a": 4, "b": 4}, "club")(latents(in_dims={"a": 4, "b": 4})).detach()))
    assert min(values) < 0 < max(values)


@pytest.mark.parametrize("estimator", REDUNDANCY_ESTIMATORS)
@pytest.mark.parametrize("n", [0, 1])
def test_too_few_items_are_zero_with_a_gradient(estimator, n):
    redundancy, given = Redundancy(IN_DIMS, estimator), latents(n)
    value = redundancy(given)
    assert value.shape == ()
    assert float(value.detach()) == 0.0
    assert all((g == 0).all() for g in torch.autograd.grad(value, list(given.values())))
    assert float(redundancy.critic_loss(given).detach()) == 0.0
    assert [float(e) for e in redundancy.estimates(given).values()] == [0.0] * 3


@pytest.mark.parametrize("estimator", REDUNDANCY_ESTIMATORS)
def test_zero_rows_have_finite_gradients(estimator):
    torch.manual_seed(0)
    given = latents(10, grad=False)
    given["keys"][3] = 0.0
    given["audio"][:] = 0.0
    for z in given.values():
        z.requires_grad_()
    value = Redundancy(IN_DIMS, estimator)(given)
    assert torch.isfinite(value)
    # unit rows divide by their length: 1e12 would be finite, and end a training
    assert all(g.abs().max() < 1e6 for g in torch.autograd.grad(value, list(given.values())))


def test_hsic_leaves_out_items_without_a_modality():
    torch.manual_seed(0)
    given = latents(10, {"a": 4, "b": 3}, grad=False)
    given["a"][3], given["b"][7] = 0.0, 0.0
    rows = [0, 1, 2, 4, 5, 6, 8, 9]
    found = Redundancy({"a": 4, "b": 3}, "hsic", sigma2=0.5)(given)
    torch.testing.assert_close(found, rbf_hsic(given["a"][rows], given["b"][rows], sigma2=0.5))


@pytest.mark.parametrize("estimator", REDUNDANCY_ESTIMATORS)
def test_other_numbers_of_rows_are_refused(estimator):
    redundancy, given = Redundancy(IN_DIMS, estimator), latents()
    given["audio"] = torch.zeros(11, 4)
    with pytest.raises(ValueError, match=r"same rows, got \(12, 5\) and \(11, 4\)"):
        redundancy(given)


def test_redundancy_round_trip_and_reset():
    torch.manual_seed(0)
    redundancy, other = Redundancy(IN_DIMS, "mine"), Redundancy(IN_DIMS, "mine")
    redundancy.critic_loss(latents())
    other.load_state_dict(redundancy.state_dict())
    assert all(a.log_ema == b.log_ema > -float("inf") for a, b in zip(redundancy.critics, other.critics, strict=True))
    other.reset_parameters()
    assert all(c.log_ema == -float("inf") for c in other.critics)
    assert "estimator='mine'" in repr(redundancy)


def read_out(x, y):
    """R^2 of linear read-outs of y's whitened coordinates from x: the mean squared canonical correlation."""
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    y = y @ torch.linalg.inv(torch.linalg.cholesky(y.T @ y / len(y))).T
    rest = y - x @ torch.linalg.lstsq(x, y).solution
    return 1.0 - float(rest.square().sum() / y.square().sum())


def disentangled(estimator, weight, seed=1):
    """Encode two modalities that share two numbers and hold two of their own each, which are their targets.

    x_m = M_m [s, u_m], z_m = W_m x_m + .3 eps. Encoders and decoders minimize sum_m |D_m(z_m) - u_m|^2 + weight * redundancy, a
    step each beside one of the critic, which learns faster than they do.

    Returns, before and after: I(z_a; z_b), R^2 between the latents, R^2 of the targets.
    """
    torch.manual_seed(seed)
    mixing = {m: torch.linalg.qr(torch.randn(4, 4))[0] for m in "ab"}
    encoders, decoders = ({m: torch.nn.Linear(4, width) for m in "ab"} for width in (4, 2))
    for encoder in encoders.values():
        torch.nn.init.orthogonal_(encoder.weight)
    redundancy = Redundancy({"a": 4, "b": 4}, estimator)
    parameters = [p for group in (encoders, decoders) for layer in group.values() for p in layer.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    critic_optimizer = torch.optim.Adam(redundancy.parameters(), lr=1e-2) if redundancy.has_critic else None

    def draw(n):
        shared, own = torch.randn(n, 2), {m: torch.randn(n, 2) for m in "ab"}
        clean = {m: encoders[m](torch.cat([shared, own[m]], dim=1) @ mixing[m]) for m in "ab"}
        return own, {m: z + 0.3 * torch.randn_like(z) for m, z in clean.items()}

    @torch.no_grad()
    def state():
        own, z = draw(4000)
        targets = sum(read_out(z[m], own[m]) for m in "ab") / 2
        return float(gaussian_information(z["a"], z["b"])), read_out(z["a"], z["b"]), targets

    before = state()
    for _ in range(500):
        own, z = draw(256)
        if critic_optimizer:
            critic_optimizer.zero_grad()
            redundancy.critic_loss(z).backward()
            critic_optimizer.step()
        loss = weight * redundancy(z) + sum((decoders[m](z[m]) - own[m]).square().mean() for m in "ab")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return before, state()


@pytest.mark.parametrize(("estimator", "weight"), [("mine", 0.3), ("club", 0.1), ("hsic", 30.0)])
def test_encoders_that_minimize_redundancy_give_up_what_they_share_and_keep_their_own(estimator, weight):
    """The latents are jointly Gaussian, so I is known: 1.8 nats before. Prediction alone leaves more than .8 (next test)."""
    before, after = disentangled(estimator, weight)
    assert before[0] > 1.7
    assert before[1] > 0.4
    assert after[0] < 0.3
    assert after[1] < 0.12
    assert after[2] > 0.94


def test_without_redundancy_the_latents_keep_sharing():
    before, after = disentangled("hsic", 0.0)
    assert before[0] > 1.7
    assert after[0] > 0.8
    assert after[1] > 0.2
    assert after[2] > 0.94


def test_residuals_are_those_of_a_ridge_regression():
    torch.manual_seed(0)
    rows, given = torch.randn(30, 4, dtype=torch.double), torch.randn(30, 3, dtype=torch.double) + 2.0
    centered = (given - given.mean(dim=0)).numpy()
    alpha = 0.05 * np.trace(centered.T @ centered) / 3
    expected = rows.numpy() - Ridge(alpha=alpha).fit(given.numpy(), rows.numpy()).predict(given.numpy())
    np.testing.assert_allclose(residuals(rows, given, ridge=0.05).numpy(), expected, atol=1e-10)
    assert torch.autograd.gradcheck(lambda z: residuals(z, given), (rows.requires_grad_(),))
    assert bool(torch.isfinite(residuals(rows, torch.zeros(30, 3, dtype=torch.double))).all())


def test_given_what_interactions_tell_only_the_irrelevant_redundancy_is_left():
    """Both latents show a relevant and an irrelevant factor; given the relevant one, HSIC falls where nothing else is shared."""
    torch.manual_seed(0)
    relevant, irrelevant = torch.randn(300, 2), torch.randn(300, 2)

    def shared(*parts):
        both = [torch.cat([p + 0.1 * torch.randn_like(p) for p in parts], dim=1) for _ in range(2)]
        plain = rbf_hsic(*both, sigma2=1.0, estimator="normalized")
        left = [residuals(z, relevant) for z in both]
        return float(plain), float(rbf_hsic(*left, sigma2=1.0, estimator="normalized"))

    plain, left = shared(relevant)
    assert plain > 0.9
    assert left < 0.05
    plain, left = shared(relevant, irrelevant)
    assert plain > 0.9
    assert left > 0.8

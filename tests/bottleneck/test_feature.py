import math

import pytest
import torch
from torch.nn import functional as F

from recbole_ib.bottleneck import FeatureBottleneck, hsic, median_sigma2, rbf_hsic, rbf_kernel


def test_is_the_sum_over_modalities():
    torch.manual_seed(0)
    features = {"a": torch.randn(9, 5), "b": torch.randn(7, 4)}
    latents = {"a": torch.randn(9, 6), "b": torch.randn(7, 6)}
    expected = sum(hsic(rbf_kernel(latents[m], 0.2), rbf_kernel(features[m], 0.2)) for m in features)
    torch.testing.assert_close(FeatureBottleneck(0.2)(latents, features), expected)


def test_has_no_parameters_and_adds_nothing_to_the_state_dict():
    fib = FeatureBottleneck(0.2)
    assert list(fib.parameters()) == []
    assert fib.state_dict() == {}


def test_fewer_than_two_items_give_zero_with_a_gradient():
    z = torch.randn(1, 3, requires_grad=True)
    loss = FeatureBottleneck(0.2)({"a": z}, {"a": torch.randn(1, 2)})
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert torch.equal(z.grad, torch.zeros(1, 3))


def test_sigma2_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        FeatureBottleneck(0.0)


def explained(z, cluster):
    """The share of z's variance that lies between the clusters."""
    z = z - z.mean(dim=0)
    centers = torch.stack([z[cluster == k].mean(dim=0) for k in range(int(cluster.max()) + 1)])
    return float(centers[cluster].square().sum() / z.square().sum())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_removes_planted_irrelevant_structure_and_keeps_what_the_task_needs(seed):
    """Features hold weak clusters that the task asks for and strong ones that it does not; the paper's alpha and sigma^2."""
    torch.manual_seed(seed)
    n = 300
    relevant, irrelevant = torch.randint(4, (n,)), torch.randint(5, (n,))
    features = torch.cat([F.one_hot(relevant, 4).float(), 1.5 * F.one_hot(irrelevant, 5).float(), 0.3 * torch.randn(n, 6)], dim=1)
    start = torch.randn(15, 8) / 15**0.5
    share, accuracy, dependence = {}, {}, {}
    for weight in (0.0, 1.0):
        projection, read_out = torch.nn.Parameter(start.clone()), torch.nn.Linear(8, 4)
        fib = FeatureBottleneck(0.25)
        optimizer = torch.optim.Adam([projection, *read_out.parameters()], lr=0.02)
        for _ in range(300):
            z = features @ projection
            logits = read_out(F.normalize(z, dim=1)) / 0.2
            loss = fib({"m": z}, {"m": features})
            optimizer.zero_grad()
            (F.cross_entropy(logits, relevant) + weight * loss).backward()
            optimizer.step()
        share[weight] = explained(F.normalize(z.detach(), dim=1), irrelevant)
        accuracy[weight] = float((logits.argmax(dim=1) == relevant).float().mean())
        dependence[weight] = float(loss.detach())
    assert share[1.0] < 0.5 * share[0.0]
    assert dependence[1.0] < 0.6 * dependence[0.0]
    assert accuracy[1.0] == accuracy[0.0] == 1.0


@pytest.mark.parametrize("estimator", ["unbiased", "normalized"])
def test_every_modality_has_its_own_width_and_the_chosen_estimate(estimator):
    torch.manual_seed(0)
    features = {"a": torch.randn(9, 5), "b": torch.randn(7, 4)}
    latents = {"a": torch.randn(9, 6), "b": torch.randn(7, 6)}
    sigma2 = {"a": 0.2, "b": 0.9}
    expected = sum(rbf_hsic(latents[m], features[m], sigma2=sigma2[m], estimator=estimator) for m in features)
    torch.testing.assert_close(FeatureBottleneck(sigma2, estimator)(latents, features), expected)
    few = {m: z[:3].requires_grad_() for m, z in latents.items()}
    assert float(FeatureBottleneck(sigma2, estimator)(few, {m: x[:3] for m, x in features.items()}).detach()) == 0.0


def test_median_sigma2_makes_the_median_entry_exp_minus_one():
    torch.manual_seed(0)
    x = torch.randn(41, 6) + 2.0
    kernel = rbf_kernel(x, median_sigma2(x))
    entries = kernel[~torch.eye(41, dtype=torch.bool)]
    assert float(entries.median()) == pytest.approx(math.exp(-1), rel=1e-3)
    assert median_sigma2(torch.ones(4, 3)) == 1.0

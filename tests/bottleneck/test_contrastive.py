import math

import pytest
import torch

from recbole_ib.bottleneck import conditional_contrast


def test_equals_the_naive_loop():
    torch.manual_seed(0)
    users, items, positives = torch.randn(5, 4), torch.randn(3, 4), torch.tensor([0, 2, 1, 1, 0])
    total = 0.0
    for a, i in enumerate(positives):
        scores = [math.exp(float(torch.cosine_similarity(users[a], z, dim=0)) / 0.2) for z in items]
        total -= math.log(scores[i] / sum(scores))
    assert float(conditional_contrast(users, items, positives, 0.2)) == pytest.approx(total / 5, rel=1e-5)


def test_gradient():
    users, items = (torch.randn(n, 3, dtype=torch.double, requires_grad=True) for n in (4, 3))
    positives = torch.tensor([0, 1, 2, 0])
    assert torch.autograd.gradcheck(lambda u, z: conditional_contrast(u, z, positives, 0.5), (users, items))


def test_is_log_n_when_nothing_is_told_and_bounds_the_information():
    """InfoNCE: log n - L never exceeds log n, and is 0 where all items look alike."""
    users, positives = torch.randn(64, 4), torch.arange(64) % 8
    assert float(conditional_contrast(users, torch.ones(8, 4), positives, 0.2)) == pytest.approx(math.log(8), rel=1e-5)
    aligned = torch.eye(8)
    loss = float(conditional_contrast(aligned[positives], aligned, positives, 0.05))
    assert 0 <= math.log(8) - loss <= math.log(8)
    assert loss < 1e-6


def test_training_aligns_users_with_their_items():
    torch.manual_seed(0)
    users = torch.randn(20, 8, requires_grad=True)
    items, positives = torch.randn(5, 8), torch.arange(20) % 5
    optimizer = torch.optim.Adam([users], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        conditional_contrast(users, items, positives, 0.2).backward()
        optimizer.step()
    best = (torch.nn.functional.normalize(users, dim=1) @ torch.nn.functional.normalize(items, dim=1).T).argmax(dim=1)
    assert torch.equal(best, positives)


def test_temperature_must_be_positive():
    with pytest.raises(ValueError, match="temperature"):
        conditional_contrast(torch.ones(1, 1), torch.ones(1, 1), torch.tensor([0]), 0.0)

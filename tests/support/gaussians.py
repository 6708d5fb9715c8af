"""Correlated Gaussians, whose information is known, and estimators trained on them."""

import math

import torch

#: (d, rho) of the Gaussians: every coordinate of y has the correlation rho with the same one of x
GAUSSIANS = [(2, 0.0), (4, 0.5), (2, 0.8), (3, 0.8)]


def draw(n, d, rho, dtype=torch.float):
    x, noise = torch.randn(n, d, dtype=dtype), torch.randn(n, d, dtype=dtype)
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def information(d, rho):
    return -0.5 * d * math.log(1 - rho**2)


def log_ratio(x, y, rho):
    """log p(x, y) / (p(x) p(y)): the critic at which the Donsker-Varadhan bound and InfoNCE are tight."""
    variance = 1 - rho**2
    terms = (y.square() - (y - rho * x).square() / variance) / 2 - 0.5 * math.log(variance)
    return terms.sum(dim=-1)


def train(estimator, steps, scale, d, rho):
    optimizer = torch.optim.Adam(estimator.parameters(), lr=3e-3)
    for _ in range(steps):
        x, y = draw(512, d, rho)
        optimizer.zero_grad()
        estimator.critic_loss(scale * x, y / scale).backward()
        optimizer.step()


def random_matrix(*shape, **options):
    return torch.randn(*shape, dtype=torch.double, **options)

"""GIB's keys: which edges are gated, what their rows sum to, their prior, and the published gate."""

import pytest
import torch

from recbole_ib.bottleneck.graph import bernoulli_kl
from recbole_ib.model.bottlenecks.gib import gated
from tests.support.training import computed, first_batch, named

SHARED = ["VLATTICE", "LATTICE", "FREEDOM"]


def step_of(build, monkeypatch, name, **settings):
    _, model, train, _, _ = build(name, bottleneck="gib", **settings)
    model.pre_epoch(0)
    passes = computed(monkeypatch, model)
    losses = named(model.calculate_loss(first_batch(train)))
    return model, passes[0], losses


@pytest.mark.parametrize("name", SHARED)
def test_loops_are_left_alone_and_rows_keep_their_sum(build, monkeypatch, name):
    _, step, _ = step_of(build, monkeypatch, name, gate_self_loops=False, gate_rows="kept")
    s = step.graph.structure
    loops = s.rows == s.cols
    torch.testing.assert_close(step.refined.weights[loops], step.graph.weights[loops])
    assert not torch.allclose(step.refined.weights[~loops], step.graph.weights[~loops], rtol=0.01)
    torch.testing.assert_close(s.row_sums(step.refined.weights), s.row_sums(step.graph.weights), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*SHARED, "MGCN"])
def test_the_prior_is_the_rate_of_every_graphs_gates(build, monkeypatch, name):
    model, step, losses = step_of(build, monkeypatch, name, gate_prior_weight=0.3, gate_prior=0.8, gib_weight=0)
    graphs = gated(step.refined)
    assert len(graphs) == (2 if name == "MGCN" else 1)
    expected = 0.3 * sum(bernoulli_kl(graph.probabilities, 0.8) for graph in graphs.values())
    torch.testing.assert_close(losses["prior"], expected)
    assert "gib" not in losses
    gradients = torch.autograd.grad(losses["prior"], list(model.ib.parameters()), allow_unused=True)
    assert any(g is not None and bool(g.any()) for g in gradients)


def test_a_prior_alone_opens_the_gates(build):
    settings = {"gate_prior_weight": 1.0, "gate_prior": 0.9, "gib_weight": 0, "gate_start": 0.3, "gate_bias": 0.0}
    _, model, train, _, _ = build("VLATTICE", bottleneck="gib", **settings)
    optimizer = torch.optim.Adam(model.ib.parameters(), lr=0.02)
    batch = first_batch(train)
    for _ in range(150):
        optimizer.zero_grad()
        named(model.calculate_loss(batch))["prior"].backward()
        optimizer.step()
    model.eval()
    mean = model.ib["gib"].diagnostics(model, torch.arange(1, 10))["gate/mean"]
    assert 0.85 < float(mean.detach()) < 0.96


def test_by_default_a_gate_starts_open_and_never_closes(build):
    """So that a bottleneck begins as its backbone."""
    _, model, _, _, _ = build("VLATTICE", bottleneck="gib")
    gate = model.ib["gib"].gates["shared"].gate
    with torch.no_grad():
        gate.output.weight.zero_()
    model.eval()
    assert float(model.ib["gib"].diagnostics(model, torch.arange(1, 10))["gate/mean"]) == pytest.approx(1.0)
    with torch.no_grad():
        gate.output.bias.fill_(-30.0)
    assert float(model.ib["gib"].diagnostics(model, torch.arange(1, 10))["gate/mean"]) == pytest.approx(0.5)


def test_the_published_gate_trains_everything_but_itself(build, monkeypatch):
    model, _, losses = step_of(build, monkeypatch, "VLATTICE", gate="published")
    sum(losses.values()).backward()
    assert all(p.grad is None or not bool(p.grad.any()) for p in model.ib.parameters())
    assert float(model.item_embedding.weight.grad.norm()) > 0
    model.eval()
    first, second = (model.forward()[1] for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0.0, atol=0.0)

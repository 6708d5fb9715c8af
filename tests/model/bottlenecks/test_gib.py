"""GIB's keys: which edges are gated, what their rows sum to, their prior, and the published gate."""

from types import SimpleNamespace

import pytest
import torch

from recbole_ib.bottleneck.graph import GraphBottleneck, bernoulli_kl
from recbole_ib.graph.propagation import EdgeGraph, EdgeStructure
from recbole_ib.model.bottlenecks.gib import gated
from recbole_ib.model.types import Encoded, Outputs
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


@pytest.mark.parametrize("name", [*SHARED, "MGCN"])
def test_neighbors_are_asked_for_the_users(build, monkeypatch, name):
    """The loss against a loop over pairs, and what it moves."""
    settings = {"neighbors_weight": 0.7, "neighbors_temperature": 0.3, "gib_weight": 0}
    model, step, losses = step_of(build, monkeypatch, name, **settings)
    likes = model.ib["gib"].known_items
    users, item0 = step.outputs.user.detach(), step.encoded.item0.detach()
    rows, expected = step.item_rows(step.items), 0.0
    for graph in gated(step.refined).values():
        s = graph.structure
        told = torch.zeros(s.n_nodes, item0.shape[1])
        for row, col, weight in zip(s.rows.tolist(), s.cols.tolist(), graph.weights.detach(), strict=True):
            if row != col:
                told[row] += weight * item0[col]
        told = told[rows]
        terms = []
        for user, item in zip(step.users.tolist(), step.positives.tolist(), strict=True):
            known = set(likes.items[likes.pointers[user] : likes.pointers[user + 1]].tolist()) - {item}
            scores = torch.nn.functional.cosine_similarity(users[user][None], told) / 0.3
            allowed = torch.tensor([int(i) not in known for i in step.items])
            own = int((step.items == item).nonzero())
            terms.append(scores[allowed].logsumexp(0) - scores[own])
        expected += 0.7 * torch.stack(terms).mean()
    torch.testing.assert_close(losses["neighbors"].detach(), expected, rtol=1e-4, atol=1e-5)
    losses["neighbors"].backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in model.ib.parameters())
    assert model.user_embedding.weight.grad is None or not bool(model.user_embedding.weight.grad.any())


def test_neighbors_open_the_edges_that_tell_and_close_the_others(build):
    """Planted: every item has as many neighbors of its own group, whose users like it, as of others."""
    _, model, _, _, _ = build("VLATTICE", bottleneck="gib", neighbors_weight=1.0)
    gib, generator = model.ib["gib"], torch.Generator().manual_seed(0)
    groups, n = 4, 48
    of_item, centers = torch.arange(n) % groups, torch.eye(groups, model.item_embedding.weight.shape[1])
    near = [(i, (i + groups * step) % n) for i in range(n) for step in (1, 2)]
    far = [(i, (i + step) % n) for i in range(n) for step in (1, 2)]
    rows, cols = torch.tensor([*near, *far]).T
    graph = EdgeGraph(EdgeStructure(rows, cols, n), torch.full((rows.numel(),), 0.25))
    good = of_item[graph.structure.rows] == of_item[graph.structure.cols]
    item0 = centers[of_item] + 0.1 * torch.randn(n, centers.shape[1], generator=generator)
    torch.manual_seed(0)
    bottleneck = GraphBottleneck(item0.shape[1], 1.0, 16, 0.2, bias=0.5, self_loops=False)
    optimizer = torch.optim.Adam(bottleneck.parameters(), lr=0.02)
    batch = SimpleNamespace(
        users=of_item, positives=torch.arange(n), item_rows=lambda items: items,
        outputs=Outputs(centers, None), encoded=Encoded(None, None, None, item0),
    )  # fmt: skip
    nobody = SimpleNamespace(among=lambda users, items: None)
    for _ in range(150):
        batch.refined = bottleneck.refine(graph, item0)
        optimizer.zero_grad()
        gib.neighbors_loss(batch, nobody).backward()
        optimizer.step()
    gates = bottleneck.eval().refine(graph, item0).gates.detach()
    assert float(gates[good].mean()) > 0.95
    assert float(gates[~good].mean()) < 0.75

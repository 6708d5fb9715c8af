import pytest
import torch

from recbole_ib.bottleneck import ConcreteEdgeGate
from recbole_ib.bottleneck import gate as module
from recbole_ib.graph import EdgeStructure


@pytest.fixture
def structure():
    return EdgeStructure(torch.tensor([0, 0, 1, 2, 3]), torch.tensor([1, 2, 0, 2, 1]), 4)


def test_logits_equal_an_mlp_on_the_concatenated_pair(structure):
    gate, h = ConcreteEdgeGate(3, hidden_dim=7), torch.randn(4, 3)
    first = torch.cat([gate.target.weight, gate.source.weight], dim=1)
    for edge, (i, j) in enumerate(zip(structure.rows, structure.cols, strict=True)):
        hidden = torch.relu(first @ torch.cat([h[i], h[j]]) + gate.target.bias)
        expected = gate.output.weight[0] @ hidden + gate.output.bias[0]
        torch.testing.assert_close(gate.logits(h, structure)[edge], expected)


def test_gradient_reaches_the_mlp_and_the_nodes(structure):
    gate, h = ConcreteEdgeGate(3), torch.randn(4, 3, requires_grad=True)
    gate(h, structure).square().sum().backward()
    assert h.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in gate.parameters())


def test_gradient_of_the_logits_is_exact(structure):
    gate = ConcreteEdgeGate(3, hidden_dim=4)
    h = torch.randn(4, 3, requires_grad=True)
    (got,) = torch.autograd.grad(gate.logits(h, structure).sin().sum(), h)
    pair = torch.relu(gate.target(h)[structure.rows] + gate.source(h)[structure.cols])
    (expected,) = torch.autograd.grad(gate.output(pair).squeeze(1).sin().sum(), h)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("block", [1, 3, 7, 4096])
@pytest.mark.parametrize("most_kept", [0, 10**6])
def test_neither_blocks_nor_what_is_kept_changes_a_gradient(block, most_kept, monkeypatch):
    """Hubs, nodes without edges at either end, and blocks that end within a node's edges."""
    monkeypatch.setattr(module, "EDGES_A_BLOCK", block)
    monkeypatch.setattr(module, "MOST_KEPT", most_kept)
    torch.manual_seed(block)
    n, d = 12, 5
    pairs = torch.nonzero(torch.rand(n, n) < torch.linspace(0, 0.9, n)[:, None])
    structure = EdgeStructure(pairs[:, 0], pairs[:, 1], n)
    a, b, w = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((n, d), (n, d), (d,)))
    weights = torch.randn(structure.n_edges, dtype=torch.float64)
    got = module._EdgePerceptron.apply(a, b, w, structure)
    expected = torch.relu(a[structure.rows] + b[structure.cols]) @ w
    torch.testing.assert_close(got, expected)
    grads = [torch.autograd.grad((out * weights).sum(), (a, b, w)) for out in (got, expected)]
    for mine, plain in zip(*grads, strict=True):
        torch.testing.assert_close(mine, plain)
    empty = EdgeStructure(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), n)
    none = module._EdgePerceptron.apply(a, b, w, empty)
    none.sum().backward()
    assert none.shape == (0,)
    assert not a.grad.any()


def test_evaluation_is_deterministic_and_training_is_not(structure):
    gate, h = ConcreteEdgeGate(3), torch.randn(4, 3)
    assert not torch.equal(gate(h, structure), gate(h, structure))
    gate.eval()
    torch.testing.assert_close(gate(h, structure), torch.sigmoid(gate.logits(h, structure)))
    torch.testing.assert_close(gate(h, structure), gate(h, structure))


@pytest.mark.parametrize("logit", [-1.5, 0.0, 2.0])
def test_draws_follow_the_concrete_distribution(logit):
    """P(rho > x) = sigmoid(logit - t * log(x / (1 - x))), at three points; P(rho > 1/2) = sigmoid(logit) for every t."""
    n, temperature = 40_000, 0.2
    structure = EdgeStructure(torch.arange(n), torch.arange(n), n)
    gate = ConcreteEdgeGate(1, hidden_dim=1, temperature=temperature)
    with torch.no_grad():
        for p in gate.parameters():
            p.zero_()
        gate.output.bias.fill_(logit)
        torch.manual_seed(0)
        rho = gate(torch.zeros(n, 1), structure)
    for point in (0.2, 0.5, 0.9):
        expected = torch.sigmoid(torch.tensor(logit) - temperature * torch.logit(torch.tensor(point)))
        assert float((rho > point).float().mean()) == pytest.approx(float(expected), abs=0.01)


def test_bias_is_a_floor_and_values_stay_in_range(structure):
    gate, h = ConcreteEdgeGate(3, bias=0.5), 50 * torch.randn(4, 3)
    for mode in (True, False):
        rho = gate.train(mode)(h, structure).detach()
        assert float(rho.min()) >= 0.5
        assert float(rho.max()) <= 1.0


@pytest.mark.parametrize(
    ("setting", "value"), [("temperature", 0.0), ("bias", 1.0), ("bias", -0.1), ("start", 0.0), ("start", 1.0)]
)
def test_settings_outside_their_range_are_refused(setting, value):
    with pytest.raises(ValueError, match=setting):
        ConcreteEdgeGate(3, **{setting: value})


@pytest.mark.parametrize("start", [0.5, 0.9])
def test_edges_start_around_a_chosen_probability(structure, start):
    gate = ConcreteEdgeGate(3, start=start).eval()
    rho = gate(1e-3 * torch.randn(4, 3), structure)
    torch.testing.assert_close(rho, torch.full_like(rho, start), atol=1e-2, rtol=0)

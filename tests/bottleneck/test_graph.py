import pytest
import torch
from torch.nn import functional as F

from recbole_ib.bottleneck import GraphBottleneck, hsic, rbf_kernel
from recbole_ib.bottleneck.graph import bernoulli_kl
from recbole_ib.graph import EdgeGraph, EdgeStructure


def bottleneck(node_dim=3, bias=0.0):
    return GraphBottleneck(node_dim, sigma2=0.3, hidden_dim=16, temperature=0.2, bias=bias)


def test_loss_is_hsic_with_gradient_on_both_sides():
    torch.manual_seed(0)
    y, y0 = (torch.randn(9, 4, requires_grad=True) for _ in range(2))
    loss = bottleneck()(y, y0)
    torch.testing.assert_close(loss, hsic(rbf_kernel(y, 0.3), rbf_kernel(y0, 0.3)))
    loss.backward()
    assert y.grad.abs().sum() > 0
    assert y0.grad.abs().sum() > 0


def test_a_mask_of_ones_leaves_the_graph_and_gives_hsic_of_y_with_itself():
    torch.manual_seed(0)
    structure = EdgeStructure(torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0]), 3)
    graph, gib, h = EdgeGraph(structure, torch.rand(3)), bottleneck(), torch.randn(3, 3)
    with torch.no_grad():
        gib.gate.output.bias.fill_(1e4)
    refined = gib.eval().refine(graph, h)
    torch.testing.assert_close(refined.weights, graph.weights)
    x = torch.randn(3, 5)
    y, y0 = refined.propagate(x), graph.propagate(x)
    torch.testing.assert_close(gib(y, y0), hsic(rbf_kernel(y0, 0.3), rbf_kernel(y0, 0.3)))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_learns_to_drop_planted_wrong_edges(seed):
    """Half of the edges link items of different groups; the task needs the neighbors' group. The gate must tell them apart."""
    torch.manual_seed(seed)
    n, groups = 120, 4
    group = torch.arange(n) % groups
    rows = torch.arange(n).repeat_interleave(6)
    right = torch.stack([torch.nonzero(group == g).flatten()[torch.randperm(n // groups)[:3]] for g in group])
    wrong = torch.stack([torch.nonzero(group != g).flatten()[torch.randperm(n - n // groups)[:3]] for g in group])
    key = torch.unique(rows * n + torch.cat([right, wrong], dim=1).flatten())
    structure = EdgeStructure(key // n, key % n, n)
    graph = EdgeGraph(structure, structure.normalize(torch.ones(structure.n_edges)))
    nodes = F.one_hot(group, groups).float() + 0.3 * torch.randn(n, groups)
    gib = bottleneck(groups)
    optimizer = torch.optim.Adam(gib.parameters(), lr=0.02)
    for _ in range(150):
        refined = gib.refine(graph, nodes)
        y, y0 = refined.propagate(nodes), graph.propagate(nodes)
        loss = F.cross_entropy(F.normalize(y, dim=1) / 0.2, group) + 0.5 * gib(y, y0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    rho = gib.eval().gate(nodes, structure).detach()
    same = group[structure.rows] == group[structure.cols]
    assert float(rho[same].mean()) > float(rho[~same].mean()) + 0.3


def graph_with_loops():
    """Four items: every row has a loop and two neighbors, with weights of their own."""
    rows = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
    cols = torch.tensor([0, 1, 2, 1, 0, 3, 2, 0, 3, 3, 1, 2])
    structure = EdgeStructure(rows, cols, 4)
    return EdgeGraph(structure, 0.2 + torch.rand(structure.n_edges))


def gates_of(**settings):
    torch.manual_seed(0)
    return GraphBottleneck(3, sigma2=0.3, hidden_dim=8, temperature=0.5, bias=0.0, **settings)


def test_loops_that_are_not_gated_keep_their_weight():
    gib, graph, nodes = gates_of(self_loops=False), graph_with_loops(), torch.randn(4, 3)
    refined = gib.refine(graph, nodes)
    loops = graph.structure.rows == graph.structure.cols
    torch.testing.assert_close(refined.weights[loops], graph.weights[loops])
    assert bool((refined.weights[~loops] < graph.weights[~loops]).all())
    assert refined.probabilities.shape == refined.gates.shape == (8,)
    torch.testing.assert_close(refined.weights[~loops], graph.weights[~loops] * refined.gates)


@pytest.mark.parametrize("self_loops", [True, False])
def test_kept_rows_move_weight_between_neighbors(self_loops):
    gib, graph, nodes = gates_of(self_loops=self_loops, rows="kept"), graph_with_loops(), torch.randn(4, 3)
    refined = gib.refine(graph, nodes)
    s = graph.structure
    torch.testing.assert_close(s.row_sums(refined.weights), s.row_sums(graph.weights))
    loops = s.rows == s.cols
    same = torch.isclose(refined.weights[loops], graph.weights[loops])
    assert bool(same.all()) != self_loops
    # the shares of a row's gated edges are those of S * rho
    of_row = (s.rows == 0) & (~loops if not self_loops else torch.ones_like(loops))
    gated = refined.gates if self_loops else torch.ones(s.n_edges).masked_scatter(~loops, refined.gates)
    wanted = (graph.weights * gated)[of_row]
    torch.testing.assert_close(refined.weights[of_row] / refined.weights[of_row].sum(), wanted / wanted.sum())


def test_rows_whose_gates_are_all_closed_are_finite():
    gib, graph = gates_of(rows="kept").eval(), graph_with_loops()
    with torch.no_grad():
        gib.gate.output.bias.fill_(-200.0)
    nodes = torch.randn(4, 3, requires_grad=True)
    refined = gib.refine(graph, nodes)
    assert bool(torch.isfinite(refined.weights).all())
    for bias in (-200.0, -60.0, -30.0):
        with torch.no_grad():
            gib.gate.output.bias.fill_(bias)
        gradient = torch.autograd.grad(gib.refine(graph, nodes).weights.sum(), [nodes, *gib.parameters()])
        assert all(bool(torch.isfinite(g).all()) for g in gradient)


def test_the_published_gate_is_neither_clipped_nor_trained():
    gib, graph, nodes = gates_of(kind="published"), graph_with_loops(), torch.randn(4, 3, requires_grad=True)
    refined = gib.refine(graph, nodes)
    assert not refined.gates.requires_grad
    assert not refined.weights.requires_grad
    drawn = torch.stack([gib.refine(graph, nodes).gates for _ in range(300)])
    assert 0.5 <= float(drawn.min()) < 0.55
    assert 1.45 < float(drawn.max()) <= 1.5
    gib.eval()
    logits = gib.gate.logits(nodes, graph.structure).detach()
    torch.testing.assert_close(gib.refine(graph, nodes).gates, 0.5 + torch.sigmoid(logits / 0.5))


def test_bernoulli_kl_is_that_of_torch_and_pulls_gates_to_the_prior():
    p = torch.tensor([0.1, 0.5, 0.9])
    bernoulli = torch.distributions.Bernoulli
    expected = torch.distributions.kl_divergence(bernoulli(p), bernoulli(torch.tensor(0.7))).mean()
    torch.testing.assert_close(bernoulli_kl(p, 0.7), expected)
    assert float(bernoulli_kl(torch.full((4,), 0.7), 0.7)) == pytest.approx(0.0, abs=1e-7)
    logits = torch.randn(6, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: bernoulli_kl(torch.sigmoid(x), 0.7), (logits,))
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        bernoulli_kl(torch.sigmoid(logits), 0.7).backward()
        optimizer.step()
    torch.testing.assert_close(torch.sigmoid(logits).detach(), torch.full((6,), 0.7, dtype=torch.double), atol=0.01, rtol=0.0)
    assert float(bernoulli_kl(torch.zeros(0), 0.7)) == 0.0


def test_unknown_words_and_priors_are_refused():
    with pytest.raises(ValueError, match="concrete, published"):
        gates_of(kind="hard")
    with pytest.raises(ValueError, match="free, kept"):
        gates_of(rows="sum")
    with pytest.raises(ValueError, match="prior"):
        bernoulli_kl(torch.ones(1), 1.0)

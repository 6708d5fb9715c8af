import pytest
import torch
from torch.nn import functional as F

from recbole_ib.bottleneck import GraphBottleneck, hsic, rbf_kernel
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

import pytest
import torch

from recbole_ib.graph import EdgeStructure, edge_scores, edge_softmax


def structure(n=7):
    """Node 0 has no edge, node 1 a single one, node 6 none of its own but is a neighbor."""
    rows = [1, 2, 2, 2, 3, 3, 4, 4, 5, 5, 5, 5]
    cols = [2, 1, 3, 6, 2, 4, 3, 6, 1, 2, 3, 5]
    return EdgeStructure(torch.tensor(rows[::-1]), torch.tensor(cols[::-1]), n)


def naive_softmax(s, scores):
    out = []
    for row, score in zip(s.rows.tolist(), scores, strict=True):
        others = [x for r, x in zip(s.rows.tolist(), scores, strict=True) if r == row]
        out.append(torch.exp(score) / sum(torch.exp(x) for x in others))
    return torch.stack(out)


def test_scores_equal_the_loop():
    s, a, b = structure(), torch.randn(7, 3), torch.randn(7, 3)
    expected = torch.stack([a[r] @ b[c] for r, c in zip(s.rows.tolist(), s.cols.tolist(), strict=True)])
    torch.testing.assert_close(edge_scores(s, a, b), expected)


@pytest.mark.parametrize("same", [False, True])
def test_gradient_of_the_scores_is_exact(same):
    s = structure()
    a, b = (torch.randn(7, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    if same:
        assert torch.autograd.gradcheck(lambda x: edge_scores(s, x, x), (a,))
    else:
        assert torch.autograd.gradcheck(lambda x, y: edge_scores(s, x, y), (a, b))


def test_only_the_gradient_that_is_asked_for_is_computed():
    s, a, b = structure(), torch.randn(7, 3), torch.randn(7, 3, requires_grad=True)
    edge_scores(s, a, b).sum().backward()
    assert a.grad is None
    torch.testing.assert_close(b.grad, torch.zeros(7, 3).index_add(0, s.cols, a[s.rows]))


def test_softmax_equals_the_loop():
    s = structure()
    scores = torch.randn(s.n_edges)
    got = edge_softmax(s, scores)
    torch.testing.assert_close(got, naive_softmax(s, scores))
    torch.testing.assert_close(s.row_sums(got), torch.tensor([0.0, 1, 1, 1, 1, 1, 0]))


def test_gradient_of_the_softmax_is_exact():
    s = structure()
    scores = torch.randn(s.n_edges, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: edge_softmax(s, x), (scores,))


def test_softmax_of_large_scores_is_finite():
    s = structure()
    scores = torch.linspace(-1e4, 1e4, s.n_edges, requires_grad=True)
    weights = edge_softmax(s, scores)
    weights.square().sum().backward()
    assert bool(torch.isfinite(weights).all())
    assert bool(torch.isfinite(scores.grad).all())


def test_input_is_not_changed():
    s = structure()
    scores = torch.randn(s.n_edges)
    before = scores.clone()
    edge_softmax(s, scores)
    assert torch.equal(scores, before)


def test_gradients_have_a_gradient():
    """InvRL penalizes gradients: those of the scores and of the softmax must be differentiable, and right."""
    s = structure()
    a, b = (torch.randn(7, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradgradcheck(lambda x, y: edge_scores(s, x, y), (a, b))
    scores = torch.randn(s.n_edges, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: edge_softmax(s, x), (scores,))
    assert torch.autograd.gradgradcheck(lambda x: edge_softmax(s, x), (scores,))

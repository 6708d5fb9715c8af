import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_ib.graph import EdgeGraph, EdgeStructure, SparseMatrix, mean_propagation


def random_matrix(n, m, seed=0, symmetric=False):
    a = sp.random(n, m, density=0.3, random_state=seed, dtype=np.float32)
    return sp.csr_matrix((a + a.T) / 2 if symmetric else a).astype(np.float32)


@pytest.mark.parametrize("symmetric", [True, False])
def test_product_and_gradient_equal_dense_autograd(symmetric):
    a = random_matrix(6, 6, symmetric=symmetric)
    dense = torch.from_numpy(a.toarray())
    x = torch.randn(6, 3, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    weight = torch.randn(6, 3)
    (SparseMatrix(a, symmetric)(x) * weight).sum().backward()
    (dense @ y * weight).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_rectangular_product():
    a = random_matrix(4, 7)
    x = torch.randn(7, 2, requires_grad=True)
    SparseMatrix(a)(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.from_numpy(a.toarray()).T @ torch.ones(4, 2))


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("symmetric", [True, False])
def test_mean_propagation_equals_the_loop(layers, symmetric):
    a = random_matrix(8, 8, symmetric=symmetric)
    dense = torch.from_numpy(a.toarray())
    x = torch.randn(8, 3, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    weight = torch.randn(8, 3)
    got = mean_propagation(SparseMatrix(a, symmetric), x, layers)
    expected = sum(torch.linalg.matrix_power(dense, k) @ y for k in range(layers + 1)) / (layers + 1)
    torch.testing.assert_close(got, expected)
    (got * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_input_is_not_changed():
    x = torch.randn(8, 3)
    before = x.clone()
    mean_propagation(SparseMatrix(random_matrix(8, 8)), x, 2)
    torch.testing.assert_close(x, before)


def test_negative_layers_and_shapes_are_refused():
    with pytest.raises(ValueError, match="-1"):
        mean_propagation(SparseMatrix(random_matrix(3, 3)), torch.randn(3, 1), -1)
    with pytest.raises(ValueError, match="symmetric"):
        SparseMatrix(random_matrix(3, 4), symmetric=True)


def test_matrix_stays_out_of_the_state_dict():
    assert SparseMatrix(random_matrix(3, 3)).state_dict() == {}


def edge_graph(n=6, seed=0):
    a = sp.coo_matrix(random_matrix(n, n, seed))
    structure = EdgeStructure(torch.from_numpy(a.row), torch.from_numpy(a.col), n)
    values = torch.from_numpy(a.data)[structure.order].clone().requires_grad_()
    return structure, values, torch.from_numpy(a.toarray())


@pytest.mark.parametrize("layers", [1, 2])
def test_edge_weighted_product_and_both_gradients(layers):
    structure, values, dense = edge_graph()
    dense.requires_grad_()
    x = torch.randn(6, 4, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    weight = torch.randn(6, 4)
    (EdgeGraph(structure, values).propagate(x, layers) * weight).sum().backward()
    (torch.linalg.matrix_power(dense, layers) @ y * weight).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    torch.testing.assert_close(values.grad, dense.grad[structure.rows, structure.cols])


@pytest.mark.parametrize("symmetric", [True, False])
def test_gradients_of_gradients_of_constant_products(symmetric):
    a = random_matrix(5, 5, symmetric=symmetric)
    matrix = SparseMatrix(a, symmetric).double()
    x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    for product in (matrix, lambda x: mean_propagation(matrix, x, 2)):
        assert torch.autograd.gradcheck(lambda x, f=product: f(x).tanh(), x)
        assert torch.autograd.gradgradcheck(lambda x, f=product: f(x).tanh(), x)


@pytest.mark.parametrize("layers", [1, 2])
def test_gradients_of_gradients_of_edge_weighted_products(layers):
    structure, values, _ = edge_graph()
    values = values.detach().double().requires_grad_()
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)

    def product(values, x):
        return EdgeGraph(structure, values).propagate(x, layers).tanh()

    assert torch.autograd.gradcheck(product, (values, x))
    assert torch.autograd.gradgradcheck(product, (values, x))


def test_normalization_uses_row_degrees_on_both_sides():
    structure, values, dense = edge_graph()
    degree = dense.sum(1)
    expected = dense / torch.sqrt(degree[:, None] * degree[None, :])
    got = structure.normalize(values.detach())
    torch.testing.assert_close(got, expected[structure.rows, structure.cols].nan_to_num(posinf=0.0))


def test_parallel_and_outside_edges_are_refused():
    with pytest.raises(ValueError, match="twice"):
        EdgeStructure(torch.tensor([0, 0]), torch.tensor([1, 1]), 2)
    with pytest.raises(ValueError, match="outside"):
        EdgeStructure(torch.tensor([0]), torch.tensor([2]), 2)
    structure, values, _ = edge_graph()
    with pytest.raises(ValueError, match="weights"):
        EdgeGraph(structure, values[1:])


def test_some_rows_of_a_graph_give_these_rows_and_their_gradients():
    structure, values, _ = edge_graph()
    rows = torch.tensor([4, 0, 3])
    weight, x = torch.randn(3, 4), torch.randn(6, 4, requires_grad=True)
    found = []
    for graph in (EdgeGraph(structure, values), EdgeGraph(structure, values).of_rows(rows)):
        out = graph.propagate(x)
        found.append((out[rows], *torch.autograd.grad((out[rows] * weight).sum(), (x, values))))
        # the part is a graph like any other: its transpose and its pattern belong together
        s = graph.structure
        assert torch.equal(torch.sort(s.cols * 6 + s.rows).indices, s.transposed)
    for whole, part in zip(*found, strict=True):
        torch.testing.assert_close(part, whole)
    others = [i for i in range(6) if i not in rows.tolist()]
    assert not out[others].any()
    assert s.n_edges < structure.n_edges

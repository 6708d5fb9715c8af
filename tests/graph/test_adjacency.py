import numpy as np
import pytest
import scipy.sparse as sp

from recbole_ib.graph import normalize_by_row_degree, user_item_adjacency


def dense_reference(r, kind):
    n_users, n_items = r.shape
    a = np.zeros((n_users + n_items,) * 2)
    a[:n_users, n_users:] = r > 0
    a[n_users:, :n_users] = (r > 0).T
    if kind == "row":
        a += np.eye(len(a))
        return a / a.sum(1, keepdims=True)
    if kind == "mean":
        return a / np.maximum(a.sum(1, keepdims=True), 1)
    out = np.zeros_like(a)
    for i, j in zip(*np.nonzero(a), strict=True):
        out[i, j] = 1 / np.sqrt(a[i].sum() * a[j].sum())
    return out


@pytest.mark.parametrize("kind", ["sym", "row", "mean"])
def test_equals_the_dense_formula(kind):
    r = (np.random.default_rng(0).random((7, 5)) < 0.4).astype(float)
    r[0] = 0
    r[:, 0] = 0
    got = user_item_adjacency(sp.csr_matrix(r), kind)
    np.testing.assert_allclose(got.toarray(), dense_reference(r, kind), atol=1e-6)
    assert got.indices.dtype == np.int32
    assert got.dtype == np.float32


def test_repeated_interactions_count_once():
    once = sp.coo_matrix((np.ones(2), ([0, 1], [1, 1])), shape=(2, 3))
    twice = sp.coo_matrix((np.ones(3), ([0, 1, 1], [1, 1, 1])), shape=(2, 3))
    np.testing.assert_array_equal(user_item_adjacency(once).toarray(), user_item_adjacency(twice).toarray())


@pytest.mark.parametrize("kind", ["sym", "mean"])
def test_padding_has_no_edge_without_self_loops(kind):
    r = sp.coo_matrix((np.ones(1), ([1], [1])), shape=(2, 2))
    a = user_item_adjacency(r, kind).toarray()
    assert a[0].sum() == a[2].sum() == 0


def test_unknown_normalization_is_named():
    with pytest.raises(ValueError, match=r"'both'.*sym, row, mean"):
        user_item_adjacency(sp.csr_matrix((2, 2)), "both")


def test_the_callers_matrix_is_left_as_it_is():
    ratings = sp.csr_array(np.array([[5.0, 3.0], [0.0, 2.0]], dtype=np.float32))
    user_item_adjacency(ratings)
    assert ratings.data.tolist() == [5.0, 3.0, 2.0]


def test_row_degrees_on_both_sides_against_a_loop():
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((7, 7)) < 0.5, rng.random((7, 7)) - 0.2, 0.0)
    dense[2] = 0.0
    dense[3] = -np.abs(dense[3])
    degree = dense.sum(axis=1)
    expected = np.zeros_like(dense)
    for i in range(7):
        for j in range(7):
            if degree[i] > 0 and degree[j] > 0:
                expected[i, j] = dense[i, j] / np.sqrt(degree[i] * degree[j])
    graph = sp.csr_array(dense)
    np.testing.assert_allclose(normalize_by_row_degree(graph).toarray(), expected, atol=1e-6)
    floored = normalize_by_row_degree(graph, smallest=1e-3)
    assert floored.nnz == graph.nnz
    assert floored.data.min() == np.float32(1e-3)
    np.testing.assert_array_equal(graph.toarray(), dense)

import numpy as np
import pytest
import scipy.sparse as sp

from recbole_ib.graph import user_item_adjacency


def dense_reference(r, kind):
    n_users, n_items = r.shape
    a = np.zeros((n_users + n_items,) * 2)
    a[:n_users, n_users:] = r > 0
    a[n_users:, :n_users] = (r > 0).T
    if kind == "row":
        a += np.eye(len(a))
        return a / a.sum(1, keepdims=True)
    out = np.zeros_like(a)
    for i, j in zip(*np.nonzero(a), strict=True):
        out[i, j] = 1 / np.sqrt(a[i].sum() * a[j].sum())
    return out


@pytest.mark.parametrize("kind", ["sym", "row"])
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


def test_padding_has_no_edge_under_sym():
    r = sp.coo_matrix((np.ones(1), ([1], [1])), shape=(2, 2))
    a = user_item_adjacency(r).toarray()
    assert a[0].sum() == a[2].sum() == 0


def test_unknown_normalisation_is_named():
    with pytest.raises(ValueError, match=r"'both'.*sym, row"):
        user_item_adjacency(sp.csr_matrix((2, 2)), "both")

import numpy as np
import pytest
import scipy.sparse as sp

from recbole_ib.graph import neighbor_weights, user_co_occurrence
from recbole_ib.graph import user_graph as module

# user -> items; 0 is padding, 4 shares nothing, 5 has nothing
TAKEN = {1: [1, 2, 3], 2: [2, 3, 4], 3: [3, 5], 4: [6], 5: [], 6: [1, 2, 3]}


def toy():
    pairs = [(u, i) for u, items in TAKEN.items() for i in items]
    users, items = zip(*pairs, strict=True)
    return sp.csr_array((np.ones(len(pairs)), (users, items)), shape=(7, 8))


def naive(r, k):
    """The definition: sort all others by shared items, then by id."""
    out = {}
    sets = [set(np.flatnonzero(row)) for row in r.toarray()]
    for u, mine in enumerate(sets):
        others = [(-len(mine & other), v) for v, other in enumerate(sets) if v != u and mine & other]
        for negative, v in sorted(others)[:k]:
            out[u, v] = -negative
    return out


def as_dict(graph):
    coo = sp.coo_array(graph)
    return {(int(u), int(v)): int(c) for u, v, c in zip(*coo.coords, coo.data, strict=True)}


def test_equals_hand_counts():
    assert as_dict(user_co_occurrence(toy(), 2)) == {
        (1, 6): 3, (1, 2): 2,
        (2, 1): 2, (2, 6): 2,
        (3, 1): 1, (3, 2): 1,  # and 6, as often: the smaller ids stay
        (6, 1): 3, (6, 2): 2,
    }  # fmt: skip


@pytest.mark.parametrize("block", [1, 50, 1 << 24])
@pytest.mark.parametrize("k", [1, 3, 100])
def test_equals_the_naive_definition(monkeypatch, block, k):
    monkeypatch.setattr(module, "BLOCK_PAIRS", block)
    r = sp.csr_array(np.random.default_rng(0).random((30, 12)) < 0.2).astype(float)
    assert as_dict(user_co_occurrence(r, k)) == naive(r, k)


def test_repeated_and_zero_interactions_do_not_count():
    rows, cols, values = [1, 1, 2, 2, 3], [1, 1, 1, 2, 2], [1.0, 1.0, 5.0, 1.0, 0.0]
    assert as_dict(user_co_occurrence(sp.coo_array((values, (rows, cols)), shape=(4, 3)), 5)) == {(1, 2): 1, (2, 1): 1}


def test_no_interaction_gives_an_empty_graph():
    assert user_co_occurrence(sp.csr_array((3, 2)), 5).nnz == 0
    assert neighbor_weights(user_co_occurrence(sp.csr_array((3, 2)), 5)).shape == (3, 3)


@pytest.mark.parametrize("aggregation", module.AGGREGATIONS)
def test_weights_of_a_user_sum_to_one(aggregation):
    counts = user_co_occurrence(toy(), 2)
    weights = neighbor_weights(counts, aggregation)
    np.testing.assert_allclose(weights.sum(axis=1), [0, 1, 1, 1, 0, 0, 1], atol=1e-6)
    first = np.exp(3) / (np.exp(3) + np.exp(2)) if aggregation == "softmax" else 0.5
    np.testing.assert_allclose(weights.toarray()[1, [6, 2]], [first, 1 - first], rtol=1e-6)


def test_softmax_of_large_counts_is_finite():
    counts = sp.csr_array(np.array([[0, 5000, 4999], [0, 0, 0], [0, 0, 0]]))
    np.testing.assert_allclose(neighbor_weights(counts).toarray()[0, 1:], [1 / (1 + np.exp(-1)), 1 / (1 + np.e)], rtol=1e-6)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="0"):
        user_co_occurrence(toy(), 0)
    with pytest.raises(ValueError, match=r"'max'.*softmax, mean"):
        neighbor_weights(toy(), "max")

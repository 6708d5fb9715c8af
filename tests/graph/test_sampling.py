from itertools import combinations, permutations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.stats import chi2

from recbole_ib.graph import degree_sensitive_edges


def graph(n_users=30, n_items=20, share=0.3, seed=0):
    return sp.csr_array((np.random.default_rng(seed).random((n_users, n_items)) < share).astype(np.float32))


def pairs(matrix):
    return set(zip(*(c.tolist() for c in sp.coo_array(matrix).coords), strict=True))


def edge_weights(r):
    """1 / sqrt(d_u d_i) of every edge, by a loop."""
    dense = r.toarray()
    return {(u, i): 1 / np.sqrt(dense[u].sum() * dense[:, i].sum()) for u, i in sorted(pairs(r))}


def subset_probabilities(weights, k):
    """Drawing k edges one by one without replacement: the exact probability of every set of k edges."""
    found = {}
    for subset in combinations(weights, k):
        found[subset] = 0.0
        for order in permutations(subset):
            rest, p = sum(weights.values()), 1.0
            for edge in order:
                p *= weights[edge] / rest
                rest -= weights[edge]
            found[subset] += p
    return found


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.8, 0.9])
def test_keeps_the_floor_of_the_share_and_only_edges_that_exist(dropout):
    r = graph()
    kept = degree_sensitive_edges(r, dropout)
    assert kept.shape == r.shape
    assert kept.nnz == len(pairs(kept)) == int((1 - dropout) * r.nnz + 1e-9)
    assert pairs(kept) <= pairs(r)
    assert (kept.data == 1).all()


@pytest.mark.parametrize(("n_edges", "dropout", "kept"), [(100, 0.8, 20), (10, 0.9, 1), (7, 0.5, 3), (10, 0.95, 0)])
def test_the_share_counts_as_a_decimal_number(n_edges, dropout, kept):
    """(1 - .8) * 100 is 19.999... in binary and would lose an edge."""
    assert degree_sensitive_edges(sp.csr_array(np.ones((1, n_edges))), dropout).nnz == kept


@pytest.mark.parametrize("dropout", [0.0, -0.5])
def test_no_dropout_keeps_all(dropout):
    r = graph()
    assert pairs(degree_sensitive_edges(r, dropout)) == pairs(r)


def test_the_kept_sets_have_the_probabilities_of_drawing_one_by_one():
    # degrees differ, so the weights do: users 3, 1, 1; items 3, 1, 1
    r = sp.csr_array(np.array([[1.0, 1, 1], [1, 0, 0], [1, 0, 0]]))
    exact = subset_probabilities(edge_weights(r), 2)
    assert sum(exact.values()) == pytest.approx(1)
    torch.manual_seed(0)
    n, counts = 5000, dict.fromkeys(exact, 0)
    for _ in range(n):
        counts[tuple(sorted(pairs(degree_sensitive_edges(r, 0.6))))] += 1
    statistic = sum((counts[s] - n * p) ** 2 / (n * p) for s, p in exact.items())
    assert statistic < chi2.ppf(0.999, len(exact) - 1)
    # the test can tell: uniform drawing is far outside
    uniform = n / len(exact)
    assert sum((uniform - n * p) ** 2 / (n * p) for p in exact.values()) > 2 * chi2.ppf(0.999, len(exact) - 1)


def test_edges_between_popular_nodes_go_first():
    r = np.zeros((21, 21))
    r[:11, :11] = 1  # 121 edges between nodes of degree 11
    r[np.arange(11, 21), np.arange(11, 21)] = 1  # 10 edges of weight 1, eleven times as likely
    torch.manual_seed(0)
    rare = np.mean([sum(u > 10 for u, _ in pairs(degree_sensitive_edges(sp.csr_array(r), 0.8))) for _ in range(100)])
    assert rare / 10 > 3 * (26 - rare) / 121


def test_the_global_seed_repeats_a_draw_and_the_next_draw_differs():
    torch.manual_seed(7)
    first, second = degree_sensitive_edges(graph(), 0.5), degree_sensitive_edges(graph(), 0.5)
    torch.manual_seed(7)
    assert pairs(degree_sensitive_edges(graph(), 0.5)) == pairs(first) != pairs(second)


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.coo_matrix, sp.csr_array])
def test_takes_any_sparse_kind_and_leaves_it_as_it_was(kind):
    r = kind(graph())
    before = r.toarray()
    degree_sensitive_edges(r, 0.5)
    np.testing.assert_array_equal(r.toarray(), before)


def test_a_graph_without_edges_stays_one():
    assert degree_sensitive_edges(sp.csr_array((4, 3)), 0.8).nnz == 0


@pytest.mark.parametrize("dropout", [1.0, 1.5])
def test_dropping_everything_is_refused(dropout):
    with pytest.raises(ValueError, match=f"below 1, got {dropout}"):
        degree_sensitive_edges(graph(), dropout)

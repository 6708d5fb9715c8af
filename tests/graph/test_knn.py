import sys

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_ib.errors import ConfigurationError
from recbole_ib.graph import cosine_knn, top_k_per_row
from recbole_ib.graph import knn as module


def naive(features, k, valid):
    """The definition, row by row."""
    edges = {}
    n = len(features)
    for i in range(1, n):
        if not valid[i]:
            edges[i, i] = 1.0
            continue
        others = []
        for j in range(1, n):
            if valid[j]:
                cosine = float(features[i] @ features[j] / (np.linalg.norm(features[i]) * np.linalg.norm(features[j])))
                others.append((2.0 if i == j else cosine, j))
        for value, j in sorted(others, reverse=True)[:k]:
            edges[i, j] = 1.0 if i == j else value
    return edges


@pytest.mark.parametrize("k", [1, 3, 50])
@pytest.mark.parametrize("block", [1, 1 << 24])
def test_equals_the_naive_definition(monkeypatch, k, block):
    monkeypatch.setattr(module, "BLOCK_NUMBERS", block)
    features = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
    features[0] = 0
    features[5] = 0
    valid = features.any(1)
    valid[7] = False
    rows, cols, values = cosine_knn(torch.from_numpy(features), k, torch.from_numpy(valid))
    got = {(int(r), int(c)): float(v) for r, c, v in zip(rows, cols, values, strict=True)}
    expected = naive(features, k, valid)
    assert got.keys() == expected.keys()
    for edge, value in expected.items():
        assert got[edge] == pytest.approx(value, abs=1e-5)


def test_padding_has_no_edge_and_nobody_chooses_items_without_feature():
    features = torch.randn(8, 3)
    features[4] = 0
    rows, cols, _ = cosine_knn(features, 7)
    assert 0 not in rows
    assert 0 not in cols
    assert cols[rows == 4].tolist() == [4]
    assert rows[cols == 4].tolist() == [4]


def test_exact_duplicates_keep_the_self_edge():
    features = torch.ones(6, 2)
    rows, cols, values = cosine_knn(features, 2)
    for i in range(1, 6):
        assert i in cols[rows == i]
    torch.testing.assert_close(values, torch.ones_like(values))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        cosine_knn(torch.ones(3, 2), 0)
    bad = torch.ones(3, 2)
    bad[2, 0] = float("nan")
    with pytest.raises(ValueError, match="row 2"):
        cosine_knn(bad, 1)


def test_top_k_keeps_the_largest_entries():
    dense = np.array([[0.1, 0.9, 0.5], [0.3, 0.3, 0.3], [0.0, 0.7, 0.0]])
    got = top_k_per_row(sp.csr_array(dense), 2).toarray()
    np.testing.assert_allclose(got, [[0, 0.9, 0.5], [0.3, 0.3, 0], [0, 0.7, 0]])


def edges_of(found, n):
    rows, cols, values = found
    return dict(zip((rows * n + cols).tolist(), values.tolist(), strict=True))


@pytest.mark.parametrize("k", [1, 9, 40])
@pytest.mark.parametrize("n", [63, 3000, 5000])
def test_the_largest_of_long_rows_are_those_of_torch_ties_included(n, k):
    torch.manual_seed(0)
    plain = torch.randn(7, n)
    tied = plain.clone()
    tied[2] = tied[2].round()  # hundreds of equal numbers
    tied[3, 5:] = tied[3, 5]
    tied[4, n - 1] = tied[4].max()
    for values in (plain, tied):
        expected = values.topk(min(k, n), dim=1)
        found, where = module.largest(values, min(k, n))
        assert torch.equal(found, expected.values)
        assert torch.equal(where, expected.indices)


def test_half_precision_is_compared_in_float32():
    features = torch.randn(200, 16).half()
    features[1] = 6e4  # its length is no number of float16
    features[2] = 1e-7
    found, expected = cosine_knn(features, 5), cosine_knn(features.float(), 5)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_an_unknown_search_is_refused():
    with pytest.raises(ConfigurationError, match=r"'hnsw'.*auto, exact, faiss"):
        cosine_knn(torch.ones(3, 2), 1, search="hnsw")


def test_without_faiss_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'recbole_ib\[faiss\]'.*knn_search: exact"):
        cosine_knn(torch.randn(9, 2), 2, search="faiss")


def test_auto_takes_faiss_above_its_limit_alone(monkeypatch, caplog):
    monkeypatch.setattr(module, "EXACT_LIMIT", 20)
    monkeypatch.setitem(sys.modules, "faiss", None)
    features = torch.randn(22, 3)
    valid = torch.ones(22, dtype=torch.bool)
    valid[7] = False
    with caplog.at_level("INFO"):
        found = cosine_knn(features, 4, valid, "auto")  # 20 usable rows
    assert "item graph of 20 items by 3 features: exact search" in caplog.text
    assert edges_of(found, 22) == edges_of(cosine_knn(features, 4, valid), 22)
    with pytest.raises(ConfigurationError, match="faiss"):
        cosine_knn(features, 4, search="auto")


def clustered(n, width, clusters, seed=0):
    torch.manual_seed(seed)
    features = torch.randn(clusters, width)[torch.randint(0, clusters, (n,))] + 0.7 * torch.randn(n, width)
    features[0] = 0
    return features


@pytest.fixture
def faiss():
    return pytest.importorskip("faiss")


def test_faiss_finds_the_neighbors_of_clustered_rows(faiss, caplog):
    features = clustered(8000, 24, 40)
    with caplog.at_level("INFO"):
        found = cosine_knn(features, 10, search="faiss")
    rows, cols, values = found
    assert torch.equal(rows, torch.arange(1, 8000).repeat_interleave(10))
    expected = edges_of(cosine_knn(features, 10), 8000)
    others = edges_of((rows[rows != cols], cols[rows != cols], values[rows != cols]), 8000)
    common = others.keys() & expected.keys()
    assert len(common) >= 0.95 * 9 * 7999
    assert all(others[e] == pytest.approx(expected[e], abs=1e-5) for e in common)
    assert "of 358 lists read" in caplog.text
    assert "of the exact neighbors of 200 items" in caplog.text
    assert all(torch.equal(a, b) for a, b in zip(found, cosine_knn(features, 10, search="faiss"), strict=True))


def test_faiss_reads_more_lists_where_rows_have_no_clusters(faiss, caplog):
    features = torch.nn.functional.normalize(clustered(4000, 48, 1), dim=1)
    with caplog.at_level("INFO"):
        found = cosine_knn(features, 8, search="faiss")
    expected = edges_of(cosine_knn(features, 8), 4000)
    assert len(edges_of(found, 4000).keys() & expected.keys()) >= 0.95 * len(expected)
    read = int(caplog.text.split("IVF-Flat, ")[1].split(" of ")[0])
    assert read > module.FIRST_PROBES


@pytest.mark.parametrize("k", [1, 3, 50])
def test_faiss_keeps_the_rules_of_the_exact_graph(faiss, monkeypatch, k):
    """Small rows, as many lists as there are rows, one of them read: most neighbors must be filled in."""
    monkeypatch.setattr(module, "FIRST_PROBES", 1)
    monkeypatch.setattr(module, "RECALL_WANTED", 0.0)
    monkeypatch.setattr(module, "BLOCK_NUMBERS", 16)
    features = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
    features[0] = 0
    features[5] = 0
    valid = features.any(1)
    valid[7] = False
    rows, cols, values = cosine_knn(torch.from_numpy(features), k, torch.from_numpy(valid), "faiss")
    expected = naive(features, k, valid)
    got = {(int(r), int(c)): float(v) for r, c, v in zip(rows, cols, values, strict=True)}
    assert got.keys() == expected.keys()
    assert rows.tolist() == sorted(rows.tolist())
    for edge, value in expected.items():
        assert got[edge] == pytest.approx(value, abs=1e-5)


def test_faiss_keeps_the_self_edge_beside_duplicates(faiss):
    torch.manual_seed(0)
    features = torch.randn(4, 6)[torch.randint(0, 4, (400,))]
    rows, cols, values = cosine_knn(features, 5, search="faiss")
    assert torch.equal(rows, torch.arange(1, 400).repeat_interleave(5))
    assert torch.equal(rows[rows == cols], torch.arange(1, 400))
    torch.testing.assert_close(values, torch.ones_like(values))


def test_faiss_leaves_random_numbers_and_threads_alone(faiss):
    features, threads = clustered(500, 4, 5), faiss.omp_get_max_threads()
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    cosine_knn(features, 4, search="faiss")
    assert torch.equal(torch.rand(3), expected)
    assert faiss.omp_get_max_threads() == threads


@pytest.mark.parametrize("search", ["exact", "faiss"])
def test_nothing_usable_leaves_the_self_edges(search):
    if search == "faiss":
        pytest.importorskip("faiss")
    rows, cols, values = cosine_knn(torch.zeros(4, 2), 3, search=search)
    assert rows.tolist() == cols.tolist() == [1, 2, 3]
    assert values.tolist() == [1, 1, 1]

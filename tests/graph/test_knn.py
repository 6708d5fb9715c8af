import numpy as np
import pytest
import scipy.sparse as sp
import torch

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

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_ib.graph import interest as module
from recbole_ib.graph import interest_item_graphs, second_order_interactions
from recbole_ib.graph.interest import attractive_items, user_interests

N_USERS, N_ITEMS = 7, 14


def data(names=("image", "text"), seed=0):
    """Interactions and features in 3 dimensions, where half of all cosines are negative; row 0 is padding.

    Item 5 has no image, item 9 no text; the padding row is given a feature, which nobody may use. User 6 has one item,
    user 0 none.
    """
    rng = np.random.default_rng(seed)
    r = (rng.random((N_USERS, N_ITEMS)) < 0.35).astype(np.float64)
    r[0] = 0
    r[:, 0] = 0
    r[6] = 0
    r[6, 3] = 1
    r[1, [5, 9]] = 1
    features = {m: torch.from_numpy(rng.standard_normal((N_ITEMS, 3)).astype(np.float32)) for m in names}
    valid = {m: torch.ones(N_ITEMS, dtype=torch.bool) for m in names}
    for m, missing in zip(names, (5, 9), strict=False):
        valid[m][missing] = False
        features[m][missing] = 0
    return sp.csr_matrix(r), features, valid


def cosine(a, b):
    a, b = a.double().numpy(), b.double().numpy()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def has(valid, m, i):
    return i > 0 and bool(valid[m][i])


def attraction(features, valid, i, j):
    """S_a[i, j]; an item meets itself with 1, and one that lacks a modality meets nobody else."""
    if i == j:
        return 1.0
    if not all(has(valid, m, x) for m in features for x in (i, j)):
        return None
    return float(np.prod([cosine(features[m][i], features[m][j]) for m in features]))


def naive_second_order(r, features, valid, k, of_equals=1):
    """The specification: the block S_a[I(u), :], its k + |I(u)| largest cells, those of one column added.

    Two own items meet in two cells of one value; where the cut falls between them, ``of_equals`` keeps the smaller (1) or
    the larger (-1) column.
    """
    out = np.zeros(r.shape)
    for u in range(r.shape[0]):
        own = np.flatnonzero(r[u])
        cells = [(attraction(features, valid, i, j), j) for i in own for j in range(r.shape[1])]
        cells = sorted((c for c in cells if c[0] is not None), key=lambda c: (-round(c[0], 6), of_equals * c[1]))
        for value, j in cells[: k + len(own)]:
            out[u, j] += value
    return out


def assert_second_order(got, r, features, valid, k):
    """Row by row, because the rounding of the product decides which of two equal cells a user keeps."""
    allowed = [naive_second_order(r, features, valid, k, sign) for sign in (1, -1)]
    for row, choices in zip(got, zip(*allowed, strict=True), strict=True):
        assert min(np.abs(row - choice).max() for choice in choices) < 1e-5


@pytest.mark.parametrize("block", [1, 40, 1 << 24])
@pytest.mark.parametrize("k", [0, 1, 2, 5, 12, 500])
def test_second_order_equals_the_whole_block(monkeypatch, k, block):
    monkeypatch.setattr(module, "BLOCK_NUMBERS", block)
    r, features, valid = data()
    got = second_order_interactions(r, features, valid, k)
    assert got.shape == r.shape
    assert got.dtype == np.float32
    assert_second_order(got.toarray(), r.toarray(), features, valid, k)


@pytest.mark.parametrize("names", [("image",), ("image", "text", "audio")])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_second_order_with_any_number_of_modalities(names, seed):
    r, features, valid = data(names, seed)
    got = second_order_interactions(r, features, valid, 4).toarray()
    assert_second_order(got, r.toarray(), features, valid, 4)


def test_no_second_order_gives_the_interactions():
    r, features, valid = data()
    assert np.array_equal(second_order_interactions(r, features, valid, 0).toarray(), r.toarray())


def test_two_negative_cosines_attract():
    """-1 times -1: as opposed in the one as in the other modality, and so chosen before an item that is alike in one alone."""
    features = {
        "image": torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.8, 0.6]]),
        "text": torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.6, 0.8]]),
    }
    valid = {m: torch.tensor([False, True, True, True]) for m in features}
    got = second_order_interactions(sp.csr_matrix([[0.0, 1.0, 0.0, 0.0]]), features, valid, 1).toarray()
    np.testing.assert_allclose(got, [[0, 1, 1, 0]], atol=1e-6)


def test_own_items_may_take_the_places_of_new_ones():
    """Two own items that are alike: the cells between them are the largest, and nothing new is reached with two places."""
    f = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.99, 0.14], [0.5, 0.87]])
    got = second_order_interactions(sp.csr_matrix([[0.0, 1, 1, 0]]), {"image": f}, {"image": f[:, 0] > 0}, 2).toarray()
    assert got[0, 3] == 0
    assert np.all(got[0, 1:3] > 1.9)


@pytest.mark.parametrize("k", [1, 3, 100])
def test_attraction_reaches_neither_padding_nor_items_without_a_feature(k):
    _, features, valid = data()
    rows, cols, _ = attractive_items(features, k, valid)
    for missing in (0, 5, 9):
        assert missing not in rows
        assert missing not in cols
    assert bool((rows != cols).all())
    assert torch.bincount(rows).unique().tolist() == [0, min(k, N_ITEMS - 4)]


def test_a_row_of_zeros_counts_as_without_feature():
    _, features, valid = data()
    features["image"][7] = 0
    assert valid["image"][7]
    rows, cols, _ = attractive_items(features, 20, valid)
    assert 7 not in rows
    assert 7 not in cols


def test_without_any_feature_the_interactions_remain():
    r, features, valid = data()
    nothing = {m: torch.zeros_like(v) for m, v in valid.items()}
    assert np.array_equal(second_order_interactions(r, features, nothing, 3).toarray(), r.toarray())
    assert user_interests(r, features, nothing, 3).nnz == 0
    assert all(g.nnz == 0 for g in interest_item_graphs(r, features, nothing, 3).values())


def naive_interests(r, features, valid, k):
    found = []
    for u in range(r.shape[0]):
        chosen = set()
        for m in features:
            own = [i for i in np.flatnonzero(r[u]) if has(valid, m, i)]
            candidates = [j for j in range(r.shape[1]) if has(valid, m, j)] if own else []
            score = {j: sum(cosine(features[m][i], features[m][j]) for i in own) for j in candidates}
            chosen |= set(sorted(candidates, key=lambda j, s=score: -s[j])[:k])
        found.append(chosen)
    return found


@pytest.mark.parametrize("block", [1, 40, 1 << 24])
@pytest.mark.parametrize("k", [1, 3, 100])
def test_user_interests_equal_the_naive_loops(monkeypatch, k, block):
    monkeypatch.setattr(module, "BLOCK_NUMBERS", block)
    r, features, valid = data()
    got = user_interests(r, features, valid, k)
    assert set(np.unique(got.data)) == {1.0}
    dense = got.toarray()
    assert [set(np.flatnonzero(row).tolist()) for row in dense] == naive_interests(r.toarray(), features, valid, k)
    assert not dense[:, 0].any()
    assert not dense[0].any()


def test_a_user_without_a_feature_in_one_modality_follows_the_other():
    _, features, valid = data()
    r = np.zeros((1, N_ITEMS))
    r[0, 5] = 1  # no image
    got = user_interests(sp.csr_matrix(r), features, valid, 2).toarray()
    text_alone = naive_interests(r, {"text": features["text"]}, valid, 2)
    assert [set(np.flatnonzero(got[0]).tolist())] == text_alone


@pytest.mark.parametrize("block", [1, 1 << 24])
@pytest.mark.parametrize("k", [1, 3, 100])
def test_interest_graphs_equal_the_naive_loops(monkeypatch, k, block):
    monkeypatch.setattr(module, "BLOCK_NUMBERS", block)
    r, features, valid = data()
    interests = naive_interests(r.toarray(), features, valid, k)
    got = interest_item_graphs(r, features, valid, k)
    assert list(got) == list(features)
    for m, graph in got.items():
        expected = np.zeros((N_ITEMS, N_ITEMS))
        for u in range(N_USERS):
            for i in np.flatnonzero(r[u].toarray()):
                for j in interests[u]:
                    if has(valid, m, i) and has(valid, m, j):
                        expected[i, j] += max(0.0, cosine(features[m][i], features[m][j]))
        np.testing.assert_allclose(graph.toarray(), expected, atol=1e-5)
        assert (graph.toarray() != graph.toarray().T).any()  # directed


def test_pairs_that_lack_a_modality_have_no_edge_in_it():
    """Not even a stored zero, which would be raised to the smallest entry afterwards."""
    r, features, valid = data()
    features["image"][7] = 0
    graph = sp.coo_array(interest_item_graphs(r, features, valid, 100)["image"])
    for missing in (0, 5, 7):
        assert missing not in graph.coords[0]
        assert missing not in graph.coords[1]


@pytest.mark.parametrize("build", [second_order_interactions, user_interests, interest_item_graphs])
def test_interactions_count_once_and_stay_as_they_are(build):
    """A rating is no weight, a pair given twice is one interaction, a stored zero is none; the matrix is the caller's."""
    r, features, valid = data()
    rows, cols = r.nonzero()
    untouched = np.flatnonzero(r[2].toarray() == 0)[1]
    rows, cols = np.concatenate([rows, rows[:4], [2]]), np.concatenate([cols, cols[:4], [untouched]])
    values = np.concatenate([np.full(r.nnz + 4, 5.0), [0.0]]).astype(np.float32)
    order = np.argsort(rows, kind="stable")
    indptr = np.searchsorted(rows[order], np.arange(N_USERS + 1))
    untidy = sp.csr_matrix((values[order], cols[order], indptr), shape=r.shape)
    before = untidy.data.copy()
    expected, got = build(r, features, valid, 2), build(untidy, features, valid, 2)
    assert np.array_equal(untidy.data, before)
    for a, b in zip(*([x] if sp.issparse(x) else list(x.values()) for x in (expected, got)), strict=True):
        np.testing.assert_allclose(b.toarray(), a.toarray())


def test_wrong_numbers_are_refused():
    r, features, valid = data()
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        second_order_interactions(r, features, valid, -1)
    for build in (user_interests, interest_item_graphs):
        with pytest.raises(ValueError, match="at least 1, got 0"):
            build(r, features, valid, 0)

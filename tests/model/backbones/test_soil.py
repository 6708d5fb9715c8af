import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_ib.errors import ConfigurationError
from recbole_ib.graph import interest_item_graphs, second_order_interactions, user_item_adjacency
from recbole_ib.model.backbones import soil as module
from tests.support.datasets import planted, write_dataset
from tests.support.formulas import array, by_name, dense, knn_reference, layer_mean, linear, nce, sym_adjacency
from tests.support.training import first_batch, scores_of

SMALL = {"embedding_size": 8}


@pytest.fixture
def make(build, tmp_path):
    """``make(count, **settings)``: the model on a data set with that many modalities, and its training loader."""

    def inner(count, **settings):
        pairs, modalities, _, _ = planted(30, 20)
        made = {f"sense_{i}": np.roll(modalities["visual"], i, axis=0)[:, : 6 - i] for i in range(count)}
        path = tmp_path / "data"
        if not path.exists():
            write_dataset(path, "senses", pairs, made)
        _, model, train, _, _ = build("SOIL", dataset="senses", data_path=str(path), **{**SMALL, **settings})
        return model, train

    return inner


def matrix(sparse):
    """A :class:`SparseMatrix` as a dense array."""
    return sparse.product(torch.eye(sparse.shape[1])).double().numpy()


def normalized(w):
    """sym(W) with row degrees; stored entries of at most 1e-7 are raised to 1e-7."""
    degree = w.sum(axis=1)
    scale = np.where(degree > 0, 1 / np.sqrt(np.where(degree > 0, degree, 1)), 0)
    return np.where(w != 0, np.maximum(scale[:, None] * w * scale, 1e-7), 0)


def interactions(train):
    return train._dataset.inter_matrix(form="csr")


def graphs_reference(model, train, second_k, interest_k, scale, knn_k=5):
    """L and every G_m from the equations, given R_a and W_m."""
    data, n = train._dataset, model.n_users
    r_a = second_order_interactions(interactions(train), data.modalities, data.has_feature, second_k).toarray()
    second = np.zeros((n + model.n_items, n + model.n_items))
    second[:n, n:], second[n:, :n] = r_a, r_a.T
    w = interest_item_graphs(interactions(train), data.modalities, data.has_feature, interest_k)
    items = {m: normalized(w[m].toarray().astype(float)) + knn_reference(x, knn_k) for m, x in data.modalities.items()}
    return sym_adjacency(model, train) + scale * normalized(second), items


def reference(model, train, adjacency, item_graphs, n_layers=2, n_item_layers=1):
    """C, side and the two summed, ``[U + N, d]`` each."""
    n, ids = model.n_users, array(model.item_embedding.weight)
    behavior = layer_mean(adjacency, np.concatenate([array(model.user_embedding.weight), ids]), n_layers)
    views = []
    for m, features in train._dataset.modalities.items():
        latents = linear(model.encoder.linear[m], array(features))
        view = ids / (1 + np.exp(-linear(model.purifier.gate[m], latents)))
        for _ in range(n_item_layers):
            view = item_graphs[m] @ view
        views.append(np.concatenate([adjacency[:n, n:] @ view, view]))
    if len(views) == 1:
        side = views[0] / 2
    else:
        score = np.stack([np.tanh(linear(model.attention.hidden, e)) @ array(model.attention.score.weight)[0] for e in views])
        alpha = np.exp(score) / np.exp(score).sum(axis=0)
        shared = sum(a[:, None] * e for a, e in zip(alpha, views, strict=True))
        side = (sum(views) - shared) / (len(views) + 1)
    return behavior, side, behavior + side


def test_without_second_order_the_adjacency_counts_one_and_a_half_times(build):
    _, model, train, _, _ = build("SOIL", **SMALL, second_order_k=0)
    plain = user_item_adjacency(interactions(train)).toarray()
    np.testing.assert_allclose(matrix(model.adjacency), 1.5 * plain, atol=1e-6)
    np.testing.assert_allclose(matrix(model.user_item), 1.5 * plain[: model.n_users, model.n_users :], atol=1e-6)


def test_without_its_own_graphs_it_has_those_of_mgcn(build, monkeypatch):
    def nothing(r, features, *_):
        return {m: sp.csr_array((r.shape[1], r.shape[1])) for m in features}

    monkeypatch.setattr(module, "interest_item_graphs", nothing)
    _, model, _, _, _ = build("SOIL", **SMALL, second_order_scale=0.0)
    _, mgcn, _, _, _ = build("MGCN", **SMALL)
    np.testing.assert_allclose(matrix(model.adjacency), matrix(mgcn.adjacency), atol=1e-6)
    np.testing.assert_allclose(matrix(model.user_item), matrix(mgcn.user_item), atol=1e-6)
    for m in mgcn.modalities:
        torch.testing.assert_close(dense(model.item_graphs[m]()), dense(mgcn.item_graphs[m]()))


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_graphs_equal_the_dense_equations(build, scale):
    """The second-order graph is normalized on its own, by its weights, and the users' views read the same matrix."""
    _, model, train, _, _ = build("SOIL", **SMALL, second_order_k=3, interest_k=4, second_order_scale=scale)
    adjacency, items = graphs_reference(model, train, 3, 4, scale)
    np.testing.assert_allclose(matrix(model.adjacency), adjacency, atol=1e-6)
    np.testing.assert_allclose(matrix(model.user_item), adjacency[: model.n_users, model.n_users :], atol=1e-6)
    for m, expected in items.items():
        np.testing.assert_allclose(dense(model.item_graphs[m]()).numpy(), expected, atol=1e-6)
        # padding neither reads nor is read
        assert not expected[0].any()
        assert not expected[:, 0].any()


def test_transposed_products_are_those_of_the_augmented_graph(build):
    """The graph is held once and taken for its own transpose."""
    _, model, _, _, _ = build("SOIL", **SMALL)
    a = matrix(model.adjacency)
    np.testing.assert_allclose(a, a.T, atol=1e-7)
    x = torch.randn(model.n_items, 3)
    views = torch.randn(model.n_users, 3)
    forward, backward = model.user_item.product(x), model.user_item.product(views, transpose=True)
    torch.testing.assert_close((forward * views).sum(), (x * backward).sum())


def test_only_training_interactions_enter(build, monkeypatch):
    seen = []
    for name in ("second_order_interactions", "interest_item_graphs"):
        inner = getattr(module, name)
        monkeypatch.setattr(module, name, lambda r, *a, inner=inner: seen.append(r.toarray()) or inner(r, *a))
    _, model, train, valid, test = build("SOIL", **SMALL, second_order_k=0)
    n = model.n_users
    expected = np.zeros((n, model.n_items))
    expected[train._dataset.inter_feat["user_id"], train._dataset.inter_feat["item_id"]] = 1
    assert len(seen) == 2
    assert all(np.array_equal(r, expected) for r in seen)
    linked = matrix(model.adjacency)[:n, n:] > 0
    assert np.array_equal(linked, expected > 0)
    for part in (valid, test):
        held_out = part._dataset.inter_feat
        assert len(held_out) > 0
        assert not linked[held_out["user_id"], held_out["item_id"]].any()


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("layers", [(2, 1), (1, 2)])
def test_forward_equals_the_dense_equations(make, count, layers):
    model, train = make(count, second_order_k=2, interest_k=3, n_layers=layers[0], n_item_layers=layers[1])
    adjacency, items = graphs_reference(model, train, 2, 3, 0.5)
    _, _, output = reference(model, train, adjacency, items, *layers)
    user, item = model()
    np.testing.assert_allclose(array(user), output[: model.n_users], atol=1e-5)
    np.testing.assert_allclose(array(item)[1:], output[model.n_users + 1 :], atol=1e-5)


def test_the_side_is_the_sum_less_the_shared_part(make):
    model, _ = make(2)
    views = {m: 3 * torch.randn(9, 8) for m in model.modalities}
    alpha = model.attention(list(views.values()))
    a, b = views.values()
    expected = (a + b - (alpha[:, :1] * a + alpha[:, 1:] * b)) / 3
    torch.testing.assert_close(model.fuse(views, torch.randn(9, 8)), expected)
    # equal views: M - 1 of them, over M + 1
    torch.testing.assert_close(model.fuse(dict.fromkeys(model.modalities, a), a), a / 3)


def test_one_modality_gives_half_its_view_and_needs_no_attention(make):
    model, _ = make(1)
    view = torch.randn(9, 8)
    torch.testing.assert_close(model.fuse({model.modalities[0]: view}, view), view / 2)
    assert not any("attention" in n for n, _ in model.named_parameters())


def test_there_are_no_preference_gates_and_no_penalty(build):
    _, model, train, _, _ = build("SOIL", **SMALL)
    assert not any("preference" in n for n, _ in model.named_parameters())
    assert "reg" not in model.calculate_loss(first_batch(train)).names


@pytest.mark.parametrize("count", [1, 2, 3])
def test_loss_equals_the_dense_equations(make, count):
    model, train = make(
        count, second_order_k=2, interest_k=3, cl_weight=0.3, user_item_cl_weight=0.7, cl_temperature=0.4, train_batch_size=64
    )
    adjacency, items = graphs_reference(model, train, 2, 3, 0.5)
    behavior, side, output = reference(model, train, adjacency, items)
    batch = first_batch(train)
    u, i, j = (batch[f].numpy() for f in ("user_id", "item_id", "neg_item_id"))
    i, j = i + model.n_users, j + model.n_users
    margin = (output[u] * (output[i] - output[j])).sum(axis=1)
    expected = {
        "bpr": np.log1p(np.exp(-margin)).mean(),
        "contrast": 0.3 * (nce(side[i], behavior[i], 0.4) + nce(side[u], behavior[u], 0.4)),
        "user_item": 0.7 * (nce(output[u], behavior[i], 0.4) + nce(output[u], side[i], 0.4)),
    }
    losses = by_name(model.calculate_loss(batch))
    assert list(losses) == list(expected)
    for name, value in expected.items():
        assert float(losses[name]) == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize(("key", "left"), [("cl_weight", ("bpr", "user_item")), ("user_item_cl_weight", ("bpr", "contrast"))])
def test_weight_zero_leaves_a_contrast_out(build, key, left):
    _, model, train, _, _ = build("SOIL", **SMALL, **{key: 0.0})
    assert model.calculate_loss(first_batch(train)).names == left


def test_features_are_frozen_by_default(build):
    _, model, train, _, _ = build("SOIL", **SMALL)
    _, tuned, _, _, _ = build("SOIL", **SMALL, raw_features="tuned")
    assert not any("features" in n for n, _ in model.named_parameters())
    for m, table in train._dataset.modalities.items():
        assert torch.equal(model.encoder.table(m), table)
        assert f"encoder.features_{m}" in dict(tuned.named_parameters())


def test_score_is_the_plain_dot_product(build):
    config, model, _, _, _ = build("SOIL", **SMALL)
    users = torch.arange(1, 5)
    user, item = model()
    torch.testing.assert_close(scores_of(model, config, users), (user[users] @ item.T).detach())


def test_wrong_settings_are_refused(build):
    with pytest.raises(ConfigurationError, match="second_order_k is -1; it takes a whole number, 0 or more"):
        build("SOIL", second_order_k=-1)
    with pytest.raises(ConfigurationError, match="interest_k is 0; it takes a whole number, 1 or more"):
        build("SOIL", interest_k=0)
    with pytest.raises(ConfigurationError, match="raw_features is 'banana'; allowed: "):
        build("SOIL", raw_features="banana")

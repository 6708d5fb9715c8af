import numpy as np
import pytest
import torch

from recbole_ib.errors import ConfigurationError
from recbole_ib.model.backbones import micro as module
from tests.support.formulas import array, by_name, dense, knn_reference, layer_mean, unit
from tests.support.training import first_batch

SMALL = {"embedding_size": 8, "feature_dim": 6}


def row_adjacency(model, train):
    """D^-1 (A + I)."""
    r = train._dataset.inter_matrix(form="csr").toarray()
    a = np.eye(model.n_users + model.n_items)
    a[: model.n_users, model.n_users :] = r
    a[model.n_users :, : model.n_users] = r.T
    return a / a.sum(axis=1, keepdims=True)


def graphs_reference(model, train, k, share):
    """S_m of every modality; ``share`` weighs the raw features' graph."""
    raw = {m: array(x) for m, x in train._dataset.modalities.items()}
    if model.encoder is None:
        return {m: knn_reference(x, k) for m, x in raw.items()}
    learned = {m: raw[m] @ array(model.encoder.linear[m].weight).T + array(model.encoder.linear[m].bias) for m in raw}
    return {m: (1 - share) * knn_reference(learned[m], k) + share * knn_reference(raw[m], k) for m in raw}


def reference(model, train, k, share, n_layers, n_item_layers):
    """User rows, item rows, h_m and h, from the equations."""
    ids = array(model.item_embedding.weight)
    nodes = layer_mean(row_adjacency(model, train), np.concatenate([array(model.user_embedding.weight), ids]), n_layers)
    h_m = {}
    for m, s in graphs_reference(model, train, k, share).items():
        h_m[m] = ids
        for _ in range(n_item_layers):
            h_m[m] = s @ h_m[m]
    w, b, v = (array(p) for p in (model.attention.hidden.weight, model.attention.hidden.bias, model.attention.score.weight))
    score = np.stack([np.tanh(x @ w.T + b) @ v[0] for x in h_m.values()], axis=1)
    alpha = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    h = sum(alpha[:, [i]] * x for i, x in enumerate(h_m.values()))
    return nodes[: model.n_users], nodes[model.n_users :] + unit(h), h_m, h


def contrast_reference(z, h, t):
    z, h = unit(z), unit(h)
    total = 0.0
    for i in range(len(z)):
        below = np.exp(h @ z[i] / t).sum() + np.exp(np.delete(z, i, axis=0) @ z[i] / t).sum()
        total -= np.log(np.exp(z[i] @ h[i] / t) / below)
    return total / len(z)


SETTINGS = [
    {"item_graph": "learned", "static_weight": 0.7, "n_layers": 2, "n_item_layers": 1},
    {"item_graph": "learned", "static_weight": 0.0, "n_layers": 1, "n_item_layers": 2},
    {"item_graph": "frozen", "static_weight": 0.9, "n_layers": 0, "n_item_layers": 2},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"{s['item_graph']}-{s['static_weight']}")
def test_forward_equals_the_dense_equations(build, settings):
    _, model, train, _, _ = build("MICRO", **SMALL, **settings)
    expected = reference(model, train, 5, settings["static_weight"], settings["n_layers"], settings["n_item_layers"])
    user, item = model()
    np.testing.assert_allclose(array(user), expected[0], atol=1e-5)
    np.testing.assert_allclose(array(item)[1:], expected[1][1:], atol=1e-5)


def test_loss_equals_the_dense_equations(build):
    _, model, train, _, _ = build(
        "MICRO", **SMALL, static_weight=0.7, reg_weight=0.3, cl_weight=0.2, cl_temperature=0.4, item_graph="learned"
    )
    batch = first_batch(train)
    u, i, j = (batch[f].numpy() for f in ("user_id", "item_id", "neg_item_id"))
    user, item, h_m, h = reference(model, train, 5, 0.7, 2, 1)
    losses = by_name(model.calculate_loss(batch))
    assert list(losses) == ["bpr", "reg", "contrast"]
    margin = (user[u] * (item[i] - item[j])).sum(axis=1)
    rows = np.concatenate([user[u], item[i], item[j]])
    expected = {
        "bpr": np.log1p(np.exp(-margin)).mean(),
        "reg": 0.3 * np.square(rows).sum() / (2 * len(u)),
        # over the items alone: the padding row 0 is in neither sum
        "contrast": 0.2 * sum(contrast_reference(x[1:], h[1:], 0.4) for x in h_m.values()),
    }
    for name, value in expected.items():
        assert float(losses[name]) == pytest.approx(value, rel=1e-5)


def test_each_graph_is_normalized_before_mixing_and_reads_its_own_modality(build):
    _, model, train, _, _ = build("MICRO", **SMALL, static_weight=0.5)
    model.train()
    graphs = model.item_graph(model.latents())
    expected = graphs_reference(model, train, 5, 0.5)
    assert list(graphs) == list(train._dataset.modalities)
    for m, graph in graphs.items():
        np.testing.assert_allclose(dense(graph).numpy(), expected[m], atol=1e-6)
    model.pre_epoch(1)
    with torch.no_grad():
        layer = model.encoder.linear["text"]
        layer.weight.copy_(torch.randn_like(layer.weight))
    other = model.item_graph(model.latents())
    assert torch.equal(dense(other["visual"]), dense(graphs["visual"]))
    assert not torch.equal(dense(other["text"]), dense(graphs["text"]))


def test_attention_weighs_every_item_and_sums_to_one(build):
    _, model, _, _, _ = build("MICRO", **SMALL)
    latents = model.latents()
    rows = model.modality_rows(model.encode(latents), model.item_graph(latents))
    # larger scores than those of the first step, so that the weights differ
    with torch.no_grad():
        model.attention.score.weight.mul_(50)
    alpha = model.attention([10 * x for x in rows.values()])
    torch.testing.assert_close(alpha.sum(dim=1), torch.ones(model.n_items))
    assert bool((alpha >= 0).all())
    assert bool(((alpha[1:, 0] - 0.5).abs() > 0.05).any())
    expected = sum(w[:, None] * x for w, x in zip(model.attention(list(rows.values())).T, rows.values(), strict=True))
    torch.testing.assert_close(model.fuse(rows), expected)


@pytest.mark.parametrize("cl_items", ["all", "batch"])
def test_padding_is_no_negative(build, monkeypatch, cl_items):
    _, model, train, _, _ = build("MICRO", **SMALL, cl_items=cl_items)
    seen = []
    inner = module.two_view_contrast
    monkeypatch.setattr(module, "two_view_contrast", lambda z, h, t: seen.append((z, h)) or inner(z, h, t))
    batch = first_batch(train)
    losses = by_name(model.calculate_loss(batch))
    rows = len(set(batch["item_id"].tolist())) if cl_items == "batch" else model.n_items - 1
    assert [tuple(z.shape) for z, _ in seen] == [(rows, 8)] * 2
    assert all(bool((x.norm(dim=1) > 0).all()) for pair in seen for x in pair)
    with torch.no_grad():
        model.item_embedding.weight[0] = 100.0
    torch.testing.assert_close(by_name(model.calculate_loss(batch))["contrast"], losses["contrast"])


def test_contrast_of_a_batch_is_over_its_distinct_positives(build):
    _, model, train, _, _ = build("MICRO", **SMALL, item_graph="frozen", cl_items="batch", cl_weight=1.0, cl_temperature=0.5)
    batch = first_batch(train)
    items = np.array(sorted(set(batch["item_id"].tolist())))
    assert len(items) < len(batch)
    _, _, h_m, h = reference(model, train, 5, 0.9, 2, 1)
    expected = sum(contrast_reference(x[items], h[items], 0.5) for x in h_m.values())
    assert float(by_name(model.calculate_loss(batch))["contrast"]) == pytest.approx(expected, rel=1e-5)


def test_weight_zero_leaves_the_contrast_out(build, monkeypatch):
    _, model, train, _, _ = build("MICRO", **SMALL, cl_weight=0.0)
    monkeypatch.setattr(module, "two_view_contrast", lambda *_: pytest.fail("the contrast was computed"))
    assert model.calculate_loss(first_batch(train)).names == ("bpr", "reg")


def test_the_first_batch_of_an_epoch_trains_the_graphs_and_the_others_reuse_them(build):
    _, model, train, _, _ = build("MICRO", **SMALL, static_weight=0.5)
    batch = first_batch(train)
    layers = model.encoder.linear
    model.train()
    model.pre_epoch(0)
    sum(model.calculate_loss(batch)).backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in layers.values())
    kept = model.item_graph(model.latents())
    assert not any(g.weights.requires_grad for g in kept.values())
    model.zero_grad(set_to_none=True)
    sum(model.calculate_loss(batch)).backward()
    assert all(layer.weight.grad is None for layer in layers.values())
    with torch.no_grad():
        for layer in layers.values():
            layer.weight.copy_(torch.randn_like(layer.weight))
    again = model.item_graph(model.latents())
    assert all(again[m] is kept[m] for m in kept)
    # an evaluation builds its own graphs from the current weights, and leaves those of the epoch alone
    expected = graphs_reference(model, train, 5, 0.5)
    model.eval()
    for m, graph in model.item_graph(model.latents()).items():
        assert not graph.weights.requires_grad
        np.testing.assert_allclose(dense(graph).numpy(), expected[m], atol=1e-6)
    model.train()
    assert all(g is kept[m] for m, g in model.item_graph(model.latents()).items())
    model.pre_epoch(1)
    fresh = model.item_graph(model.latents())
    assert all(g.weights.requires_grad and not torch.equal(dense(g), dense(kept[m])) for m, g in fresh.items())


def test_frozen_graphs_come_from_the_raw_features_and_have_no_projections(build):
    _, model, train, _, _ = build("MICRO", **SMALL, item_graph="frozen")
    assert model.encoder is None
    assert model.latents() == {}
    for m, graph in model.item_graph({}).items():
        expected = knn_reference(train._dataset.modalities[m], 5)
        np.testing.assert_allclose(dense(graph).numpy(), expected, atol=1e-6)
        assert not graph.weights.requires_grad


def test_static_weight_one_gives_the_frozen_graphs(build):
    _, frozen, _, _, _ = build("MICRO", **SMALL, item_graph="frozen")
    _, learned, _, _, _ = build("MICRO", **SMALL, item_graph="learned", static_weight=1.0)
    graphs = learned.item_graph(learned.latents())
    for m, graph in frozen.item_graph({}).items():
        torch.testing.assert_close(dense(graphs[m]), dense(graph))


def test_features_are_tuned_by_default(build):
    _, model, train, _, _ = build("MICRO", **SMALL)
    names = {n for n, _ in model.named_parameters()}
    assert {f"encoder.features_{m}" for m in train._dataset.modalities} <= names


@pytest.mark.parametrize("key", ["item_graph", "ui_norm", "raw_features", "cl_items"])
def test_a_wrong_word_names_the_allowed_ones(build, key):
    with pytest.raises(ConfigurationError, match=f"{key} is 'banana'; allowed: "):
        build("MICRO", **{key: "banana"})


def test_wrong_numbers_are_refused(build):
    with pytest.raises(ValueError, match=r"static_weight is 1.5; it takes a number from 0 to 1"):
        build("MICRO", static_weight=1.5)
    with pytest.raises(ConfigurationError, match=r"cl_temperature is 0.0; it takes a number above 0"):
        build("MICRO", **SMALL, cl_temperature=0.0)

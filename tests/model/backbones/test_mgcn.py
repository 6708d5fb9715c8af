import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.support.datasets import planted, write_dataset
from tests.support.formulas import bpr_loop, dense, dense_adjacency, interactions, light_gcn, losses_of, nearest, projected
from tests.support.training import first_batch, scores_of


def linear(layer, x):
    return x @ layer.weight.double().T + layer.bias.double()


def cosine_graph(features, k):
    """s_ij / sqrt(deg_i deg_j) on every item's k nearest, deg the sum of the kept cosines of a ROW."""
    unit = F.normalize(features.double(), dim=1)
    kept = nearest(features, k) * (unit @ unit.T)
    degree = kept.sum(1)
    out = torch.zeros_like(kept)
    for i, j in torch.nonzero(kept).tolist():
        if degree[i] > 0 and degree[j] > 0:
            out[i, j] = kept[i, j] / (degree[i] * degree[j]).sqrt()
    return out


def naive_parts(model, train, raw, k=5):
    """C and side, ``[U + N, d]``, by dense products in float64."""
    a = dense_adjacency(interactions(train))
    behavior = torch.cat(light_gcn(a, model, model.n_layers))
    q, block = model.item_embedding.weight.double(), a[: model.n_users, model.n_users :]
    views, scores = {}, []
    for name, features in raw.items():
        gated = q * torch.sigmoid(linear(model.purifier.gate[name], projected(model, name)))
        item = torch.linalg.matrix_power(cosine_graph(features, k), model.n_item_layers) @ gated
        views[name] = torch.cat([block @ item, item])
        hidden = torch.tanh(linear(model.attention.hidden, views[name]))
        scores.append(torch.exp(hidden @ model.attention.score.weight[0].double()))
    total = sum(scores)
    shared = sum((s / total)[:, None] * x for s, x in zip(scores, views.values(), strict=True))
    side = shared
    for name, x in views.items():
        side = side + (x - shared) * torch.sigmoid(linear(model.preference[name], behavior))
    return behavior, side / (len(views) + 1)


def raw_features(train):
    return {name: x.clone() for name, x in train._dataset.modalities.items()}


def nce_loop(x, y, t):
    total = 0.0
    for b in range(len(x)):
        e = torch.exp(F.cosine_similarity(x[b][None], y, dim=1) / t)
        total = total - torch.log(e[b] / e.sum())
    return total / len(x)


@pytest.mark.parametrize(("n_layers", "n_item_layers"), [(2, 1), (1, 2)])
def test_output_equals_dense_products(build, n_layers, n_item_layers):
    config, model, train, _, _ = build("MGCN", n_layers=n_layers, n_item_layers=n_item_layers)
    behavior, side = naive_parts(model, train, raw_features(train))
    user, item = (behavior + side).split([model.n_users, model.n_items])
    users = torch.arange(1, 9)
    torch.testing.assert_close(scores_of(model, config, users).double(), user[users] @ item.T, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("count", [1, 3])
def test_output_equals_dense_products_for_any_number_of_views(build, tmp_path, count):
    pairs, modalities, _, _ = planted(20, 20)
    named = {f"sense_{j}": np.roll(modalities["visual"], j, 0) for j in range(count)}
    path = write_dataset(tmp_path / "data", "named", pairs, named)
    _, model, train, _, _ = build("MGCN", dataset="named", data_path=str(path))
    expected = sum(naive_parts(model, train, raw_features(train)))
    torch.testing.assert_close(torch.cat(model()).double(), expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("tuned", ["tuned", "frozen"])
def test_loss_and_gradients_equal_the_dense_formula(build, tuned):
    _, model, train, _, _ = build("MGCN", raw_features=tuned, reg_weight=0.1, cl_weight=0.5, cl_temperature=0.3)
    batch = first_batch(train)[:30]
    users, n = batch["user_id"], model.n_users
    positives, negatives = n + batch["item_id"], n + batch["neg_item_id"]
    behavior, side = naive_parts(model, train, raw_features(train))
    x = behavior + side
    rows = (x[users], x[positives], x[negatives])
    expected = {
        "bpr": bpr_loop(*rows),
        "reg": 0.1 * sum(r.square().sum() for r in rows) / (2 * 30),
        # the side is the anchor, behavior the other one
        "contrast": 0.5 * (nce_loop(side[positives], behavior[positives], 0.3) + nce_loop(side[users], behavior[users], 0.3)),
    }
    model.train()
    found = losses_of(model, batch)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-4)
    parameters = list(model.parameters())
    ours = torch.autograd.grad(sum(found.values()), parameters)
    naive = torch.autograd.grad(sum(expected.values()), parameters)
    for a, b in zip(ours, naive, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def test_item_graphs_are_those_of_the_raw_features_and_stay(build):
    _, model, train, _, _ = build("MGCN", raw_features="tuned")
    raw = raw_features(train)
    with torch.no_grad():
        model.encoder.table("text").normal_()
    model.train()
    model.pre_epoch(1)
    for name, graph in model.item_graph(model.latents()).items():
        assert not graph.weights.requires_grad
        torch.testing.assert_close(dense(graph).double(), cosine_graph(raw[name], 5), atol=1e-6, rtol=1e-4)


def test_equal_modalities_leave_no_specific_part(build, tmp_path):
    """E_m = E* for all m: side = E* / (M + 1) whatever the attention and the preferences are."""
    pairs, modalities, _, _ = planted(20, 20)
    path = write_dataset(tmp_path / "data", "twins", pairs, {"a": modalities["visual"], "b": modalities["visual"]})
    _, model, _, _, _ = build("MGCN", dataset="twins", data_path=str(path))
    for module in (model.encoder.linear, model.purifier.gate):
        module["b"].load_state_dict(module["a"].state_dict())
    encoded = model.encode(model.latents())
    torch.testing.assert_close(encoded.views["a"], encoded.views["b"])
    view = model.item_graphs["a"]().propagate(encoded.views["a"])
    shared = torch.cat([model.user_item(view), view])
    side = torch.cat(model()) - torch.cat([encoded.user, encoded.item])
    torch.testing.assert_close(side, shared / 3, atol=1e-6, rtol=1e-4)


def test_closed_purifiers_leave_lightgcn(build):
    """The gates of the purifier at 0: no view has anything, and the output is C. cl_weight acts in the loss alone."""
    config, model, train, _, _ = build("MGCN", cl_weight=0.0)
    with torch.no_grad():
        for layer in model.purifier.gate.values():
            layer.weight.zero_()
            layer.bias.fill_(-200.0)
    user, item = light_gcn(dense_adjacency(interactions(train)), model, model.n_layers)
    users = torch.arange(1, 9)
    torch.testing.assert_close(scores_of(model, config, users).double(), user[users] @ item.T, atol=1e-6, rtol=1e-4)
    batch = first_batch(train)[:30]
    expected = bpr_loop(user[batch["user_id"]], item[batch["item_id"]], item[batch["neg_item_id"]])
    assert losses_of(model, batch)["bpr"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_closed_preferences_leave_the_shared_part(build):
    """The gates of the fuser at 0 alone: side is E* / (M + 1), not 0."""
    _, model, train, _, _ = build("MGCN")
    with torch.no_grad():
        for layer in model.preference.values():
            layer.weight.zero_()
            layer.bias.fill_(-200.0)
    behavior, side = naive_parts(model, train, raw_features(train))
    torch.testing.assert_close(torch.cat(model()).double() - behavior, side, atol=1e-6, rtol=1e-3)
    assert side.abs().max().item() > 1e-3


def test_the_gate_multiplies_the_ids_and_not_the_features(build):
    _, model, _, _, _ = build("MGCN")
    with torch.no_grad():
        model.item_embedding.weight.zero_()
        for layer in model.purifier.gate.values():
            layer.bias.fill_(200.0)
            layer.weight.zero_()
    assert not any(bool(q.any()) for q in model.encode(model.latents()).views.values())
    with torch.no_grad():
        model.item_embedding.weight.normal_()
    # an open gate lets the ids through as they are
    for q in model.encode(model.latents()).views.values():
        torch.testing.assert_close(q, model.item_embedding.weight)


def test_contrast_only_where_it_has_a_weight(build):
    _, without, train, _, _ = build("MGCN", cl_weight=0.0)
    _, with_it, _, _, _ = build("MGCN", cl_weight=0.01)
    batch = first_batch(train)
    assert set(losses_of(without, batch)) == {"bpr", "reg"}
    assert set(losses_of(with_it, batch)) == {"bpr", "reg", "contrast"}


def test_an_item_without_a_feature_is_its_own_neighbor_alone(build, tmp_path):
    pairs, modalities, _, _ = planted(30, 20)
    modalities["visual"][3] = 0
    path = write_dataset(tmp_path / "data", "gap", pairs, modalities)
    _, model, train, _, _ = build("MGCN", dataset="gap", data_path=str(path))
    s, here = dense(model.item_graph({})["visual"]).double(), int(train._dataset.token2id("item_id", "i3"))
    assert s[here, here] == 1
    assert s[here].sum() == s[:, here].sum() == 1
    assert s[0].sum() == s[:, 0].sum() == 0


def test_features_are_as_wide_as_the_embeddings(build):
    _, model, _, _, _ = build("MGCN", embedding_size=8)
    assert {z.shape[1] for z in model.latents().values()} == {8}

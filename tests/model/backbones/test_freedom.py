import numpy as np
import pytest
import torch

from recbole_ib.errors import ConfigurationError
from tests.support.datasets import planted, write_dataset
from tests.support.formulas import bpr_loop, dense, dense_adjacency, interactions, light_gcn, losses_of, nearest, projected
from tests.support.training import first_batch, scores_of


def full(matrix):
    return matrix.product(torch.eye(matrix.shape[1])).double()


def test_item_graph_holds_the_shares_of_the_modalities_over_k(build):
    k, w = 4, 0.3
    _, model, train, _, _ = build("FREEDOM", knn_k=k, image_weight=w)
    features = train._dataset.modalities
    picture, text = nearest(features["visual"], k), nearest(features["text"], k)
    s = dense(model.item_graph({})).double()
    torch.testing.assert_close(s, w * picture / k + (1 - w) * text / k, atol=1e-7, rtol=1e-6)
    # all three kinds of entries stand there: the self edge at least is in both graphs
    assert {round(v * k, 4) for v in s[s > 0].tolist()} == {w, 1 - w, 1.0}
    torch.testing.assert_close(s.sum(1)[1:], torch.ones(model.n_items - 1).double())
    assert s[0].sum() == s[:, 0].sum() == 0


def test_rows_sum_to_one_where_an_item_lacks_a_feature_too(build, tmp_path):
    pairs, modalities, _, _ = planted(30, 20)
    modalities["visual"][3] = 0
    path = write_dataset(tmp_path / "data", "gap", pairs, modalities)
    _, model, train, _, _ = build("FREEDOM", dataset="gap", data_path=str(path), image_weight=0.3)
    s, here = dense(model.item_graph({})).double(), int(train._dataset.token2id("item_id", "i3"))
    torch.testing.assert_close(s.sum(1)[1:], torch.ones(model.n_items - 1).double())
    assert s[here, here] == pytest.approx(0.3 + 0.7 / 5)


@pytest.mark.parametrize("name", ["image", "visual", "Vision", "img", "v"])
def test_image_weight_goes_to_the_pictures(build, tmp_path, name):
    pairs, modalities, _, _ = planted(20, 20)
    named = {"text": modalities["text"], "sound": modalities["visual"][::-1], name: modalities["visual"]}
    path = write_dataset(tmp_path / "data", "named", pairs, named)
    _, model, _, _, _ = build("FREEDOM", dataset="named", data_path=str(path), image_weight=0.2)
    weights = dict(zip(model.frozen_graph.weights.modalities, model.frozen_graph.weights().tolist(), strict=True))
    assert weights == pytest.approx({name: 0.2, "text": 0.4, "sound": 0.4})


@pytest.mark.parametrize("names", [("sense_0", "sense_1"), ("visual", "image"), ("visual",)])
def test_without_one_picture_modality_among_others_the_shares_are_equal(build, tmp_path, names):
    pairs, modalities, _, _ = planted(20, 20)
    path = write_dataset(tmp_path / "data", "named", pairs, {n: np.roll(modalities["visual"], j, 0) for j, n in enumerate(names)})
    _, model, _, _, _ = build("FREEDOM", dataset="named", data_path=str(path), image_weight=0.2)
    assert model.frozen_graph.weights().tolist() == pytest.approx([1 / len(names)] * len(names))


def test_modality_weights_come_before_image_weight(build):
    _, model, _, _, _ = build("FREEDOM", modality_weights={"text": 3.0, "visual": 1.0}, image_weight=0.9)
    weights = dict(zip(model.frozen_graph.weights.modalities, model.frozen_graph.weights().tolist(), strict=True))
    assert weights == pytest.approx({"text": 0.75, "visual": 0.25})


@pytest.mark.parametrize("rho", [0.5, 0.8])
def test_training_graph_is_a_normalized_part_of_the_training_edges(build, rho):
    _, model, train, _, _ = build("FREEDOM", edge_dropout=rho)
    r = interactions(train)
    model.pre_epoch(0)
    a = full(model.sampled)
    block = a[: model.n_users, model.n_users :]
    assert int((block > 0).sum()) == int((1 - rho) * r.sum() + 1e-9)
    assert bool((r[(block > 0).numpy()] == 1).all())
    # degrees of the kept edges, not of the full graph
    torch.testing.assert_close(a, dense_adjacency((block > 0).double().numpy()), atol=1e-7, rtol=1e-5)


def test_every_epoch_draws_anew(build):
    _, model, _, _, _ = build("FREEDOM")
    model.pre_epoch(0)
    first = full(model.sampled)
    model.pre_epoch(1)
    assert not torch.equal(first, full(model.sampled))


def test_the_graph_is_there_before_the_first_batch(build):
    """A loss without a trainer, which would call pre_epoch."""
    _, model, train, _, _ = build("FREEDOM")
    model.train()
    model.calculate_loss(first_batch(train))
    assert model.sampled is not None
    kept = full(model.sampled)
    model.calculate_loss(first_batch(train))
    assert torch.equal(kept, full(model.sampled))


@pytest.mark.parametrize("rho", [0.0, -1.0])
def test_no_dropout_trains_on_the_whole_graph(build, rho):
    _, model, train, _, _ = build("FREEDOM", edge_dropout=rho)
    model.train()
    model.pre_epoch(0)
    user, _ = light_gcn(dense_adjacency(interactions(train)), model, model.n_layers)
    torch.testing.assert_close(model()[0].double(), user, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("n_layers", "n_item_layers"), [(1, 1), (2, 2), (3, 0)])
def test_evaluation_equals_dense_products_on_the_whole_graph(build, n_layers, n_item_layers):
    config, model, train, _, _ = build("FREEDOM", n_layers=n_layers, n_item_layers=n_item_layers)
    model.pre_epoch(0)
    user, item = light_gcn(dense_adjacency(interactions(train)), model, n_layers)
    s = 0.1 * nearest(train._dataset.modalities["visual"], 5) / 5 + 0.9 * nearest(train._dataset.modalities["text"], 5) / 5
    item = item + torch.linalg.matrix_power(s, n_item_layers) @ model.item_embedding.weight.double()
    users = torch.arange(1, 9)
    torch.testing.assert_close(scores_of(model, config, users).double(), user[users] @ item.T, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("raw_features", ["tuned", "frozen"])
def test_loss_and_gradients_equal_the_dense_formula(build, raw_features):
    _, model, train, _, _ = build("FREEDOM", reg_weight=0.3, raw_features=raw_features)
    batch = first_batch(train)[:40]
    model.train()
    model.pre_epoch(0)
    u, i, j = batch["user_id"], batch["item_id"], batch["neg_item_id"]
    user, item = light_gcn(full(model.sampled), model, 2)
    y = item + dense(model.item_graph({})).double() @ model.item_embedding.weight.double()
    expected = {"bpr": bpr_loop(user[u], y[i], y[j])}
    for name in ("text", "visual"):
        t = projected(model, name)
        expected[f"bpr_{name}"] = 0.3 * bpr_loop(user[u], t[i], t[j])
    found = losses_of(model, batch)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-5)
    parameters = dict(model.named_parameters())
    naive = torch.autograd.grad(sum(expected.values()), list(parameters.values()))
    ours = torch.autograd.grad(sum(found.values()), list(parameters.values()))
    for a, b in zip(ours, naive, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-3)


def test_the_score_does_not_read_the_projections(build):
    config, model, _, _, _ = build("FREEDOM")
    users = torch.arange(1, 9)
    before = scores_of(model, config, users)
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.add_(torch.randn_like(parameter))
    model.train()
    # tuned features do not move the frozen graph either
    assert torch.equal(before, scores_of(model, config, users))


def test_tuned_features_are_trained_on_the_rows_of_the_batch_alone(build):
    _, model, train, _, _ = build("FREEDOM", raw_features="tuned")
    batch = first_batch(train)[:5]
    model.train()
    sum(model.calculate_loss(batch)).backward()
    touched = torch.nonzero(model.encoder.table("text").grad.abs().sum(1)).flatten()
    assert touched.tolist() == torch.unique(torch.cat([batch["item_id"], batch["neg_item_id"]])).tolist()
    _, frozen, _, _, _ = build("FREEDOM", raw_features="frozen")
    assert not any("features" in name for name, _ in frozen.named_parameters())


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_image_weight_outside_its_range_is_refused(build, value):
    with pytest.raises(ConfigurationError, match=f"image_weight is {value}; it takes a number from 0 to 1"):
        build("FREEDOM", image_weight=value)


@pytest.mark.parametrize("value", [1.0, 2.0])
def test_dropping_all_edges_is_refused_before_training(build, value):
    with pytest.raises(ConfigurationError, match=f"edge_dropout is {value}; it takes a number below 1"):
        build("FREEDOM", edge_dropout=value)


def test_features_are_as_wide_as_the_embeddings(build):
    _, model, _, _, _ = build("FREEDOM", embedding_size=8)
    assert {z.shape[1] for z in model.latents().values()} == {8}

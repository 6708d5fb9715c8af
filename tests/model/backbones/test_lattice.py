import pytest
import torch
from torch.nn import functional as F

from recbole_ib.errors import ConfigurationError
from recbole_ib.graph import cosine_knn
from recbole_ib.ops.normalize import unit_rows
from tests.support.formulas import dense
from tests.support.training import first_batch


def test_output_is_the_collaborative_part_plus_the_unit_graph_part(build):
    _, model, _, _, _ = build("LATTICE", item_graph="frozen")
    encoded = model.encode({})
    s = dense(model.item_graph({}))
    user, item = model()
    torch.testing.assert_close(item, encoded.item + F.normalize(s @ model.item_embedding.weight, dim=1))
    assert torch.equal(user, encoded.user)


def test_content_enters_through_the_graph_alone(build):
    _, model, _, _, _ = build("LATTICE", item_graph="frozen")
    assert model.latents() == {}
    assert model()[1].shape[1] == model.embedding_size


@pytest.mark.parametrize("name", ["LATTICE", "MICRO"])
def test_the_transforms_start_as_a_linear_layer_of_torchs(build, name):
    _, model, _, _, _ = build(name, feature_dim=400)
    for layer in model.encoder.linear.values():
        bound = layer.in_features**-0.5
        for part in (layer.weight, layer.bias):
            assert 0.98 * bound < float(part.abs().max()) <= bound


def test_static_weight_one_gives_the_frozen_graph(build):
    _, frozen, _, _, _ = build("LATTICE", item_graph="frozen")
    _, learned, _, _, _ = build("LATTICE", item_graph="learned", static_weight=1.0)
    torch.testing.assert_close(dense(frozen.item_graph({})), dense(learned.item_graph(learned.latents())))


def test_the_first_batch_of_an_epoch_trains_the_graph_and_the_others_reuse_it(build):
    _, model, train, _, _ = build("LATTICE")
    batch = first_batch(train)
    model.train()
    model.pre_epoch(0)
    sum(model.calculate_loss(batch)).backward()
    assert model.encoder.linear["text"].weight.grad.abs().sum() > 0
    kept = model.item_graph(model.latents())
    assert not kept.weights.requires_grad
    model.zero_grad(set_to_none=True)
    sum(model.calculate_loss(batch)).backward()
    assert model.encoder.linear["text"].weight.grad is None
    with torch.no_grad():
        model.encoder.linear["text"].weight.mul_(-2.0).add_(torch.randn_like(model.encoder.linear["text"].weight))
    assert model.item_graph(model.latents()) is kept
    model.pre_epoch(1)
    assert not torch.equal(dense(model.item_graph(model.latents())), dense(kept))


def test_evaluation_rebuilds_from_the_current_weights(build):
    _, model, train, _, _ = build("LATTICE")
    model.train()
    model.pre_epoch(0)
    model.calculate_loss(first_batch(train))
    with torch.no_grad():
        model.encoder.linear["text"].weight.add_(torch.randn_like(model.encoder.linear["text"].weight))
    model.eval()
    fresh = model.item_graph_layer.graph(model.latents(), model.item_graph_layer.has_feature)
    torch.testing.assert_close(dense(model.item_graph(model.latents())), dense(fresh))


def test_raw_features_tuned_are_parameters_that_start_at_the_features(build):
    _, tuned, train, _, _ = build("LATTICE", raw_features="tuned")
    _, frozen, _, _, _ = build("LATTICE", raw_features="frozen")
    names = {n for n, _ in tuned.named_parameters()}
    assert {"encoder.features_text", "encoder.features_visual"} <= names
    assert torch.equal(tuned.encoder.table("text"), train._dataset.modalities["text"])
    assert not any("features" in n for n, _ in frozen.named_parameters())


def test_penalty_is_on_the_final_rows(build):
    _, model, train, _, _ = build("LATTICE", item_graph="frozen", reg_weight=0.5)
    b = first_batch(train)
    user, item = model()
    rows = torch.cat([user[b["user_id"]], item[b["item_id"]], item[b["neg_item_id"]]])
    losses = dict(zip(model.calculate_loss(b).names, model.calculate_loss(b), strict=True))
    torch.testing.assert_close(losses["reg"], 0.5 * rows.square().sum() / (2 * len(b)))


def test_frozen_neighbors_are_those_of_the_raw_features(build):
    _, model, train, _, _ = build("LATTICE", item_graph="frozen", knn_k=3)
    rows, cols, _ = cosine_knn(train._dataset.modalities["text"], 3)
    pattern = dense(model.item_graph({})) != 0
    assert bool(pattern[rows, cols].all())


@pytest.mark.parametrize("key", ["item_graph", "ui_norm", "raw_features", "modality_weights"])
def test_a_wrong_word_names_the_allowed_ones(build, key):
    with pytest.raises(ConfigurationError, match=f"{key} is 'banana'; allowed: "):
        build("LATTICE", **{key: "banana"})


def test_unit_rows_and_their_gradients_of_both_orders():
    x = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(unit_rows(x), F.normalize(x, dim=1))
    x.requires_grad_(True)
    assert torch.autograd.gradcheck(unit_rows, (x,))
    assert torch.autograd.gradgradcheck(unit_rows, (x,))
    # far below the limit squares and their roots under- and overflow; F.normalize divides by 1e-12 there
    tiny = torch.tensor([[0.0, 0.0, 0.0], [1e-20, 0.0, -1e-20], [1e-13, 1e-13, 0.0], [1e-11, 0.0, 0.0]])
    both = []
    for function in (unit_rows, lambda t: F.normalize(t, dim=1)):
        x = tiny.clone().requires_grad_(True)
        out = function(x)
        (grad,) = torch.autograd.grad((out * torch.arange(1.0, 13.0).view(4, 3)).sum(), x, create_graph=True)
        both.append((out.detach(), grad.detach()))
        if function is unit_rows:
            (second,) = torch.autograd.grad(grad.sum(), x)
            assert bool(torch.isfinite(second[:3]).all())
    torch.testing.assert_close(both[0][0], both[1][0])
    torch.testing.assert_close(both[0][1], both[1][1])


@pytest.mark.parametrize(("search", "static", "learned"), [("auto", "auto", "exact"), ("exact",) * 3, ("faiss",) * 3])
def test_the_search_key_reaches_both_graphs(build, monkeypatch, search, static, learned):
    from recbole_ib.data import graph_cache
    from recbole_ib.graph import item_graph

    seen = []

    def watched(features, k, valid, search):
        seen.append(search)
        return cosine_knn(features, k, valid)

    monkeypatch.setattr(graph_cache, "cosine_knn", watched)
    monkeypatch.setattr(item_graph, "cosine_knn", watched)
    _, model, _, _, _ = build("LATTICE", knn_search=search)
    assert seen == [static] * 2
    model.forward()
    assert seen[2:] == [learned] * 2


def test_a_graph_of_many_items_rebuilt_in_training_warns(build, monkeypatch, caplog):
    from recbole_ib.model.layers import item_graph

    build("LATTICE")
    assert "item_graph: frozen does so once" not in caplog.text
    monkeypatch.setattr(item_graph, "EXACT_LIMIT", 20)
    build("LATTICE", item_graph="frozen")
    assert "item_graph: frozen does so once" not in caplog.text
    build("LATTICE")
    assert "item_graph: learned searches the neighbors of 61 items (exact) anew in every epoch" in caplog.text


def test_an_unknown_search_is_refused(build):
    with pytest.raises(ConfigurationError, match=r"knn_search is 'hnsw'; allowed: auto, exact, faiss"):
        build("VLATTICE", knn_search="hnsw")


def test_faiss_gives_the_exact_graph_of_a_small_data_set(build):
    pytest.importorskip("faiss")
    exact, approximate = (build("FREEDOM", knn_search=s)[1].frozen_graph() for s in ("exact", "faiss"))
    assert torch.equal(exact.structure.rows, approximate.structure.rows)
    assert torch.equal(exact.structure.cols, approximate.structure.cols)
    torch.testing.assert_close(exact.weights, approximate.weights)

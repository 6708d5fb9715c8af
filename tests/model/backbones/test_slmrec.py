import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_ib.errors import ConfigurationError
from tests.support.datasets import planted, write_dataset
from tests.support.formulas import array, by_name, layer_mean, linear, nce, sym_adjacency, unit
from tests.support.training import first_batch, scores_of

SMALL = {"embedding_size": 8, "n_layers": 2}


@pytest.fixture
def make(build, tmp_path):
    """``make(count, **settings)``: the model on a data set with that many modalities, and a batch."""

    def inner(count, **settings):
        pairs, modalities, _, _ = planted(30, 20)
        made = {f"sense_{i}": 3.0 * np.roll(modalities["visual"], i, axis=0)[:, : 6 - i] for i in range(count)}
        path = tmp_path / "data"
        if not path.exists():
            write_dataset(path, "senses", pairs, made)
        _, model, train, _, _ = build("SLMRec", dataset="senses", data_path=str(path), **{**SMALL, **settings})
        return model, train, first_batch(train)

    return inner


def branches_reference(model, train, n_layers=2, hidden=None):
    """The id branch, then one a modality: ``[U + N, d]`` each; ``hidden`` is the number of a branch without item input."""
    users, ids = array(model.user_embedding.weight), array(model.item_embedding.weight)
    raw = {m: unit(array(x)) for m, x in train._dataset.modalities.items()}
    inputs = [ids, *(linear(model.encoder.linear[m], x) for m, x in raw.items())]
    a = sym_adjacency(model, train)
    inputs = [np.zeros_like(x) if b == hidden else x for b, x in enumerate(inputs)]
    return [layer_mean(a, np.concatenate([users, x]), n_layers) for x in inputs]


def fused_reference(model, branches):
    n = model.n_users
    if model.fusion == "mean":
        mean = sum(branches) / len(branches)
        return mean[:n], mean[n:]
    joined = np.concatenate(branches, axis=1)
    return linear(model.user_fusion, joined[:n]), linear(model.item_fusion, joined[n:])


def fac_reference(model, branches, items, t):
    """Stage by stage, row by row: a plain dot product against the batch's items, cross entropy to the diagonal."""
    rows = [x[model.n_users :][items] for x in branches]
    x, total = rows[0], 0.0
    for name, view in zip(model.modalities, rows[1:], strict=True):
        x = linear(model.coarse[name], x)
        logits = x @ linear(model.fine[name], view).T / t
        total -= np.mean([row[b] - np.log(np.exp(row).sum()) for b, row in enumerate(logits)])
    return total


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("fusion", ["concat", "mean"])
def test_forward_equals_the_dense_equations(make, count, fusion):
    model, train, _ = make(count, fusion=fusion)
    expected = fused_reference(model, branches_reference(model, train))
    for got, table in zip(model(), expected, strict=True):
        np.testing.assert_allclose(array(got), table, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_loss_equals_the_dense_equations(make, count):
    model, train, batch = make(count, temperature=0.3, ssl_temperature=0.6, ssl_weight=0.5)
    users, items = batch["user_id"].numpy(), batch["item_id"].numpy()
    branches = branches_reference(model, train)
    user, item = fused_reference(model, branches)
    with torch.no_grad():
        losses = by_name(model.calculate_loss(batch))
    assert list(losses) == ["nce", "fac"]
    assert float(losses["nce"]) == pytest.approx(nce(user[users], item[items], 0.3), rel=1e-5)
    assert float(losses["fac"]) == pytest.approx(0.5 * fac_reference(model, branches, items, 0.6), rel=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_last_stage_halves_the_width(make, count):
    model, _, _ = make(count)
    for layers in (model.coarse, model.fine):
        assert [layer.out_features for layer in layers.values()] == [8] * (count - 1) + [4]
        assert all(layer.bias is not None for layer in layers.values())


@pytest.mark.parametrize("settings", [{}, {"feature_encoder": "mlp"}])
def test_weights_start_xavier_uniform_and_biases_as_torchs(make, settings):
    model, _, _ = make(2, embedding_size=64, **settings)
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert len(layers) == 2 + 2 * len(settings) + 2 + 4
    for layer in layers:
        xavier = (6 / (layer.in_features + layer.out_features)) ** 0.5
        assert 0.9 * xavier < float(layer.weight.detach().abs().max()) <= xavier
        assert 0.8 < float(layer.bias.detach().abs().max()) * layer.in_features**0.5 <= 1


def test_dot_products_of_the_stages_are_not_normalized(make):
    model, _, batch = make(2)
    before = float(by_name(model.calculate_loss(batch))["fac"])
    with torch.no_grad():
        for layer in model.fine.values():
            layer.weight.mul_(3.0)
    assert abs(float(by_name(model.calculate_loss(batch))["fac"]) - before) > 1e-6


@pytest.mark.parametrize("count", [1, 2])
def test_feature_masking_hides_two_different_branches(make, monkeypatch, count):
    model, train, batch = make(count, ssl_task="fm", ssl_weight=1.0, ssl_temperature=0.4)
    users, items = batch["user_id"].numpy(), batch["item_id"].numpy()
    inner, seen = model.branch_outputs, []

    def spy(inputs, *args):
        seen.append([bool((x == 0).all()) for x in inputs.values()])
        return inner(inputs, *args)

    monkeypatch.setattr(model, "branch_outputs", spy)
    drawn = set()
    for seed in range(12):
        torch.manual_seed(seed)
        seen.clear()
        loss = by_name(model.calculate_loss(batch))["fm"]
        main, *views = seen
        assert not any(main)
        assert [sum(view) for view in views] == [1, 1]
        first, second = (view.index(True) for view in views)
        assert first != second
        drawn.add((first, second))
        (user_a, item_a), (user_b, item_b) = (
            fused_reference(model, branches_reference(model, train, hidden=b)) for b in (first, second)
        )
        expected = nce(user_a[users], user_b[users], 0.4) + nce(item_a[items], item_b[items], 0.4)
        assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert {branch for pair in drawn for branch in pair} == set(range(count + 1))
    assert len(drawn) > 1


def test_feature_dropout_is_noise_in_training_alone(make):
    model, train, batch = make(2, ssl_task="fd", ssl_weight=1.0, ssl_dropout=0.3, ssl_temperature=0.4)
    users, items = batch["user_id"].numpy(), batch["item_id"].numpy()
    user, item = fused_reference(model, branches_reference(model, train))
    model.train()
    noisy = [by_name(model.calculate_loss(batch)) for _ in range(2)]
    assert float(noisy[0]["fd"]) != float(noisy[1]["fd"])
    # the main loss sees no noise
    for losses in noisy:
        assert float(losses["nce"]) == pytest.approx(nce(user[users], item[items], 0.2), rel=1e-5)
    model.eval()
    expected = nce(user[users], user[users], 0.4) + nce(item[items], item[items], 0.4)
    assert float(by_name(model.calculate_loss(batch))["fd"]) == pytest.approx(expected, rel=1e-5)


def test_feature_dropout_follows_every_layer_and_is_right_in_the_mean(make):
    model, train, _ = make(2, ssl_task="fd", ssl_dropout=0.3)
    model.train()
    views = model.encode(model.latents()).views
    inputs = {b: views[b].detach() for b in model.branches}
    torch.manual_seed(0)
    with torch.no_grad():
        draws = torch.stack([model.branch_outputs(inputs, 0.3) for _ in range(1000)]).double()
    clean = np.concatenate(branches_reference(model, train), axis=1)
    error = draws.std(dim=0).numpy() / np.sqrt(len(draws))
    assert np.all(np.abs(draws.mean(dim=0).numpy() - clean) <= 6 * error + 1e-6)
    # layer 0 has none: an inactive node keeps its third of the mean in every draw
    torch.testing.assert_close(draws[:, 0], draws[:1, 0].expand(len(draws), -1))
    # dropout scales what is left, so with one layer every entry is the clean one or layer 0 and 1 / .7 of the rest
    model.n_layers = 1
    one = array(model.branch_outputs(inputs, 0.3))
    start = np.concatenate(branches_reference(model, train, n_layers=0), axis=1)
    rest = 2 * np.concatenate(branches_reference(model, train, n_layers=1), axis=1) - start
    dropped, kept = np.isclose(one, start / 2, atol=1e-5), np.isclose(one, (start + rest / 0.7) / 2, atol=1e-5)
    assert (dropped | kept).all()
    assert 0.2 < dropped[np.abs(rest) > 1e-3].mean() < 0.4


@pytest.mark.parametrize("task", ["fac", "fd", "fm"])
def test_weight_zero_leaves_nothing_of_the_task(make, task):
    model, _, batch = make(2, ssl_weight=0.0, ssl_task=task)
    losses = model.calculate_loss(batch)
    assert losses.names == ("nce",)
    assert not any(n.startswith(("coarse", "fine")) for n, _ in model.named_parameters())
    sum(losses).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("task", ["fac", "fd", "fm"])
def test_the_order_of_a_batch_does_not_matter(make, task):
    model, _, batch = make(2, ssl_task=task)
    order = torch.randperm(len(batch))
    shuffled = Interaction({f: batch[f][order] for f in ("user_id", "item_id")})
    found = []
    for given in (batch, shuffled):
        torch.manual_seed(0)
        found.append(model.calculate_loss(given))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_the_scale_of_the_features_does_not_matter(make):
    """Rows are scaled to length 1 once."""
    model, _, _ = make(2)
    for m in model.modalities:
        torch.testing.assert_close(model.encoder.table(m)[1:].norm(dim=1), torch.ones(model.n_items - 1))
    assert not any("features" in n for n, _ in model.named_parameters())


def test_score_is_the_plain_dot_product(build):
    config, model, _, _, _ = build("SLMRec", **SMALL)
    users = torch.arange(1, 5)
    user, item = model()
    torch.testing.assert_close(scores_of(model, config, users), (user[users] @ item.T).detach())


def test_the_loader_draws_no_negatives(make):
    _, train, batch = make(2)
    assert set(batch.interaction) == {"user_id", "item_id"}
    assert sum(len(b) for b in train) == train._dataset.inter_num


@pytest.mark.parametrize("key", ["ssl_task", "fusion"])
@pytest.mark.parametrize("ssl_weight", [0.0, 0.1])
def test_a_wrong_word_names_the_allowed_ones(build, key, ssl_weight):
    with pytest.raises(ConfigurationError, match=f"{key} is 'banana'; allowed: "):
        build("SLMRec", ssl_weight=ssl_weight, **{key: "banana"})


@pytest.mark.parametrize("key", ["temperature", "ssl_temperature"])
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_temperature_must_be_positive(build, key, value):
    with pytest.raises(ConfigurationError, match=f"^{key} is {value}; it takes a number above 0"):
        build("SLMRec", **{key: value})

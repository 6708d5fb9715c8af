import pytest
import torch
from recbole.data.interaction import Interaction

from tests.support.formulas import dense_adjacency, interactions, light_gcn, losses_of, projected
from tests.support.training import first_batch, scores_of


def linear(layer, x):
    return x @ layer.weight.double().T + layer.bias.double()


def gap_loop(a, b):
    return 1 - sum((x @ y) / (x.norm() * y.norm()) for x, y in zip(a, b, strict=True)) / len(a)


def naive_losses(model, train, batch, stop=lambda x: x.detach()):
    """The terms by dense products and loops without dropout; ``stop`` is what happens to a target."""
    users, items = batch["user_id"], batch["item_id"]
    x_u, x_i = light_gcn(dense_adjacency(interactions(train)), model, model.n_layers)
    x_i = x_i + model.item_embedding.weight.double()
    f = model.predictor
    u, i = x_u[users], x_i[items]
    # row 0 is padding: without it the norms and the count are those of the real users and items
    norms = (x_u[1:].square().sum().sqrt() + x_i[1:].square().sum().sqrt()) / (model.n_items - 1)
    found = {
        "rec": gap_loop(linear(f, u), stop(i)) + gap_loop(linear(f, i), stop(u)),
        "reg": model.reg_weight * norms,
    }
    for name in ("text", "visual"):
        t = projected(model, name)[items]
        found[f"align_{name}"] = model.cl_weight * (gap_loop(linear(f, t), stop(i)) + gap_loop(linear(f, t), stop(t)))
    return found


def gradients(terms, model):
    return torch.autograd.grad(sum(terms.values()), list(model.parameters()))


@pytest.mark.parametrize(("raw_features", "n_layers"), [("tuned", 1), ("frozen", 2)])
def test_loss_and_gradients_equal_the_naive_formula_without_dropout(build, raw_features, n_layers):
    _, model, train, _, _ = build("BM3", target_dropout=0.0, raw_features=raw_features, n_layers=n_layers, cl_weight=1.5)
    batch = first_batch(train)[:30]
    model.train()
    expected, found = naive_losses(model, train, batch), losses_of(model, batch)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-5)
    ours, naive = gradients(found, model), gradients(expected, model)
    for a, b in zip(ours, naive, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-3)
    # the comparison can tell a target that takes a gradient
    leaky = gradients(naive_losses(model, train, batch, stop=lambda x: x), model)
    assert any(not torch.allclose(a, b, atol=1e-4) for a, b in zip(naive, leaky, strict=True))


def test_targets_take_no_gradient(build):
    _, model, _, _, _ = build("BM3")
    assert not model.target(torch.randn(3, 4, requires_grad=True)).requires_grad


def test_with_the_identity_as_predictor_a_modality_agrees_with_itself(build):
    """c(f(t), t~) is 0 then, so what is left of the alignment is c(t, x_i)."""
    _, model, train, _, _ = build("BM3", target_dropout=0.0, cl_weight=1.0)
    batch = first_batch(train)[:30]
    with torch.no_grad():
        model.predictor.weight.copy_(torch.eye(model.embedding_size))
        model.predictor.bias.zero_()
    _, x_i = light_gcn(dense_adjacency(interactions(train)), model, model.n_layers)
    x_i = (x_i + model.item_embedding.weight.double())[batch["item_id"]]
    expected = gap_loop(projected(model, "text")[batch["item_id"]], x_i)
    assert losses_of(model, batch)["align_text"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_dropout_is_on_the_targets_alone(build):
    _, model, _, _, _ = build("BM3", target_dropout=0.5)
    model.train()
    # outputs, the online side of all terms, are the same twice in training mode
    assert all(torch.equal(a, b) for a, b in zip(model(), model(), strict=True))
    target = model.target(torch.full((1000, 8), 3.0))
    assert set(target.unique().tolist()) == {0.0, 6.0}
    assert float((target == 0).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_dropout_is_in_training_alone(build):
    _, model, train, _, _ = build("BM3", target_dropout=0.5)
    batch = first_batch(train)[:30]
    model.train()
    assert sum(model.calculate_loss(batch)).item() != sum(model.calculate_loss(batch)).item()
    model.eval()
    expected = naive_losses(model, train, batch)
    assert sum(model.calculate_loss(batch)).item() == pytest.approx(sum(expected.values()).item(), rel=1e-5)


def test_one_dropped_copy_of_an_item_serves_both_of_its_terms(build, monkeypatch):
    _, model, train, _, _ = build("BM3")
    calls = []
    target = model.target
    monkeypatch.setattr(model, "target", lambda x: calls.append(x) or target(x))
    model.train()
    model.calculate_loss(first_batch(train))
    # users, items, and the content of each of two modalities
    assert len(calls) == 4


def test_score_is_the_dot_product_of_the_predicted_rows(build):
    config, model, train, _, _ = build("BM3", n_layers=2)
    x_u, x_i = light_gcn(dense_adjacency(interactions(train)), model, 2)
    x_i = x_i + model.item_embedding.weight.double()
    users = torch.arange(1, 9)
    expected = linear(model.predictor, x_u[users]) @ linear(model.predictor, x_i).T
    torch.testing.assert_close(scores_of(model, config, users).double(), expected, atol=1e-6, rtol=1e-4)


def test_no_negative_item_is_drawn_or_needed(build):
    config, model, train, _, _ = build("BM3")
    batch = first_batch(train)
    assert set(batch.columns) == {config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]}
    assert sum(len(b) for b in train) == train._dataset.inter_num
    model.train()
    with_negatives = Interaction({**batch.interaction, "neg_item_id": torch.ones(len(batch), dtype=torch.long)})
    torch.manual_seed(0)
    alone = model.calculate_loss(batch)
    torch.manual_seed(0)
    assert all(torch.equal(a, b) for a, b in zip(alone, model.calculate_loss(with_negatives), strict=True))


def test_the_score_does_not_read_the_content(build):
    config, model, _, _, _ = build("BM3")
    users = torch.arange(1, 9)
    before = scores_of(model, config, users)
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.add_(torch.randn_like(parameter))
    model.train()
    assert torch.equal(before, scores_of(model, config, users))


def likeness(model):
    """The mean cosine of two different items' outputs: 1 where all have become one."""
    model.eval()
    with torch.no_grad():
        item = torch.nn.functional.normalize(model()[1][1:], dim=1)
    n = len(item)
    model.train()
    return float(((item @ item.T).sum() - n) / (n * (n - 1)))


def train_on_one_batch(build, stopped):
    _, model, train, _, _ = build("BM3", embedding_size=16, reg_weight=0.0, raw_features="frozen")
    if not stopped:
        model.target = lambda x: x
    batch = first_batch(train)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        sum(model.calculate_loss(batch)).backward()
        optimizer.step()
    return likeness(model)


def test_the_stopped_gradient_keeps_items_apart(build):
    assert train_on_one_batch(build, stopped=True) < 0.3
    # targets that follow: all outputs become one
    assert train_on_one_batch(build, stopped=False) > 0.6

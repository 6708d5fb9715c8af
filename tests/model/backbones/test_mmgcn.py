import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from torch.nn import functional as F

from recbole_ib.errors import ConfigurationError

# the planted modalities are 6 (visual) and 4 (text) wide: the former is projected, the latter not
SMALL = {"embedding_size": 8, "feature_dim": 7, "project_above": 5}


def batch(n=12):
    torch.manual_seed(0)
    return Interaction({k: torch.randint(1, 60, (n,)) for k in ("user_id", "item_id", "neg_item_id")})


def named_losses(model, b):
    losses = model.calculate_loss(b)
    return dict(zip(losses.names, losses, strict=True))


def naive(model, dataset, combine, n_layers):
    """The equations of the paper, the mean over neighbors node by node."""
    r = dataset.inter_matrix(form="csr").toarray() > 0
    n_users = len(r)
    neighbors = [n_users + np.flatnonzero(row) for row in r] + [np.flatnonzero(col) for col in r.T]
    ids = torch.cat([model.user_embedding.weight, model.item_embedding.weight])
    outputs = []
    for m in model.modalities:
        g = dataset.modalities[m]
        if g.shape[1] > 5:
            g = g @ model.encoder.linear[m].weight.T + model.encoder.linear[m].bias
        x = F.normalize(torch.cat([model.preference[m].weight, g]), dim=1)
        assert len(model.layers[m]) == n_layers
        for layer in model.layers[m]:
            means = [x[near].mean(dim=0) if len(near) else torch.zeros(x.shape[1]) for near in neighbors]
            h = F.leaky_relu(torch.stack(means) @ layer.neighbors.weight.T)
            own = F.leaky_relu(x @ layer.own.weight.T + layer.own.bias) + ids
            w3, b3 = layer.merge.weight.T, layer.merge.bias
            x = F.leaky_relu(torch.cat([h, own], dim=1) @ w3 + b3) if combine == "concat" else F.leaky_relu(h @ w3 + b3 + own)
        outputs.append(x)
    return torch.stack(outputs).mean(dim=0)


@pytest.mark.parametrize("combine", ["concat", "sum"])
@pytest.mark.parametrize("n_layers", [1, 3])
def test_forward_equals_the_equations(build, combine, n_layers):
    _, model, train, _, _ = build("MMGCN", **SMALL, combine=combine, n_layers=n_layers)
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(model()), naive(model, train._dataset, combine, n_layers))


def test_loss_equals_the_formula(build):
    _, model, _, _, _ = build("MMGCN", **SMALL, reg_weight=0.3)
    b = batch()
    user, item = model()
    u, i, j = b["user_id"], b["item_id"], b["neg_item_id"]
    named = named_losses(model, b)
    difference = (user[u] * item[i]).sum(1) - (user[u] * item[j]).sum(1)
    torch.testing.assert_close(named["bpr"], -torch.log(torch.sigmoid(difference)).mean())
    # over the 2B pairs (u, i), (u, j)
    users, items = torch.cat([u, u]), torch.cat([i, j])
    expected = (model.user_embedding.weight[users] ** 2 + model.item_embedding.weight[items] ** 2).mean()
    expected = expected + sum((model.preference[m].weight[1:] ** 2).mean() for m in model.modalities)
    torch.testing.assert_close(named["reg"], 0.3 * expected)


def test_padding_is_not_regularized(build):
    _, model, _, _, _ = build("MMGCN", **SMALL)
    before = named_losses(model, batch())["reg"]
    with torch.no_grad():
        for table in model.preference.values():
            table.weight[0] = 100.0
    assert torch.equal(before, named_losses(model, batch())["reg"])


@pytest.mark.parametrize("trained", [True, False])
def test_tables_are_trained_unless_as_released(build, trained):
    """The released code holds them outside the module's parameters, so no optimizer ever sees them."""
    _, model, _, _, _ = build("MMGCN", **SMALL, train_tables=trained, reg_weight=0.1)
    tables = [model.user_embedding.weight, model.item_embedding.weight, *(t.weight for t in model.preference.values())]
    before = [t.detach().clone() for t in tables]
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    sum(model.calculate_loss(batch())).backward()
    optimizer.step()
    assert [not torch.equal(a, b) for a, b in zip(before, tables, strict=True)] == [trained] * len(tables)
    # and they are part of the score
    scores = model()[0].detach()
    with torch.no_grad():
        model.user_embedding.weight[3] += 1.0
    assert not torch.equal(scores[3], model()[0][3])


def test_an_epoch_of_training_leaves_untrained_tables_alone(build):
    from recbole_ib.training.trainer import MultimodalTrainer

    config, model, train, _, _ = build("MMGCN", **SMALL, train_tables=False, epochs=1)
    before, layer = model.user_embedding.weight.clone(), model.layers["text"][0].own.weight.detach().clone()
    MultimodalTrainer(config, model).fit(train, None, verbose=False, saved=False)
    assert torch.equal(before, model.user_embedding.weight)
    assert not torch.equal(layer, model.layers["text"][0].own.weight)


@pytest.mark.parametrize(("above", "projected"), [(0, {"visual", "text"}), (5, {"visual"}), (512, set())])
def test_modalities_are_projected_by_their_width(build, above, projected):
    _, model, train, _, _ = build("MMGCN", **{**SMALL, "project_above": above})
    assert set(model.encoder.linear) == projected
    for m, z in model.latents().items():
        raw = train._dataset.modalities[m]
        assert z.shape[1] == model.preference[m].embedding_dim == (7 if m in projected else raw.shape[1])
        assert m in projected or torch.equal(z, raw)


def test_a_layer_that_is_not_there_is_explained(build):
    _, model, _, _, _ = build("MMGCN", **SMALL)
    with pytest.raises(ConfigurationError, match=r"'text'.*project_above: 0"):
        model.encoder.first_layer("text")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"combine": "max"}, "combine is 'max'; allowed: concat, sum"),
        ({"n_layers": 0}, "n_layers is 0; it takes a whole number, 1 or more"),
    ],
)
def test_wrong_settings_are_named(build, setting, message):
    with pytest.raises(ConfigurationError, match=message):
        build("MMGCN", **SMALL, **setting)

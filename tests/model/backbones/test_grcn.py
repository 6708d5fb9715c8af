import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from torch.nn import functional as F

from recbole_ib.errors import ConfigurationError

SMALL = {"embedding_size": 8, "feature_dim": 5}


def batch(n=12):
    torch.manual_seed(0)
    return Interaction({k: torch.randint(1, 60, (n,)) for k in ("user_id", "item_id", "neg_item_id")})


def softmax_over(values):
    total = sum(torch.exp(v) for v in values)
    return [torch.exp(v) / total for v in values]


def naive(model, dataset, edge_weight="confidence", pruning=True, fusion="concat", routing=True):
    """The equations of the paper, node by node and neighbor by neighbor."""
    r = dataset.inter_matrix(form="csr").toarray() > 0
    n_users, n_items = r.shape
    neighbors = [[n_users + i for i in np.flatnonzero(row)] for row in r] + [list(np.flatnonzero(col)) for col in r.T]
    contents, coefficients = [], []
    for m in model.modalities:
        layer = model.encoder.linear[m]
        z = F.normalize(F.leaky_relu(dataset.modalities[m] @ layer.weight.T + layer.bias), dim=1)
        p = F.normalize(model.preference[m].weight, dim=1)
        for _ in range(3 if routing else 0):
            moved = []
            for u in range(n_users):
                taken = [w - n_users for w in neighbors[u]]
                shares = softmax_over([p[u] @ z[i] for i in taken])
                moved.append(F.normalize(p[u] + sum(a * z[i] for a, i in zip(shares, taken, strict=True)), dim=0))
            p = torch.stack(moved)
        x = torch.cat([p, z])
        a = {}
        for v, near in enumerate(neighbors):
            shares = softmax_over([x[v] @ x[w] for w in near])
            a.update({(v, w): share for w, share in zip(near, shares, strict=True)})
        contents.append(torch.stack([x[v] + sum(a[v, w] * x[w] for w in near) for v, near in enumerate(neighbors)]))
        coefficients.append(a)
    if edge_weight == "confidence":
        confidence = torch.cat([model.user_confidence.weight, model.item_confidence.weight])
    weights = torch.zeros(n_users + n_items, n_users + n_items)
    for v, near in enumerate(neighbors):
        for w in near:
            own = torch.stack([a[v, w] for a in coefficients])
            if edge_weight == "confidence":
                own = own * confidence[w]
            value = own.mean() if edge_weight == "mean" else own.max()
            weights[v, w] = F.relu(value) if pruning else value
    x0 = F.normalize(torch.cat([model.user_embedding.weight, model.item_embedding.weight]), dim=1)
    ids = x0 + weights @ x0 + weights @ weights @ x0
    if fusion == "id":
        return ids
    return torch.cat([ids, *contents], dim=1) if fusion == "concat" else (ids + sum(contents)) / (1 + len(contents))


@pytest.mark.parametrize(
    ("settings", "meaning"),
    [
        ({}, {}),
        ({"pruning": False}, {"pruning": False}),
        ({"edge_weight": "max"}, {"edge_weight": "max"}),
        ({"edge_weight": "mean", "fusion": "id"}, {"edge_weight": "mean", "fusion": "id"}),
        ({"fusion": "mean", "feature_dim": 8}, {"fusion": "mean"}),
        ({"legacy_routing": True}, {"routing": False}),
    ],
)
def test_forward_equals_the_equations(build, settings, meaning):
    _, model, train, _, _ = build("GRCN", **{**SMALL, **settings})
    with torch.no_grad():
        expected = naive(model, train._dataset, **meaning)
        got = torch.cat(model())
    torch.testing.assert_close(got, expected)


def test_one_round_for_a_user_with_two_items_equals_the_hand_formula(build):
    _, model, train, _, _ = build("GRCN", **SMALL, routing_rounds=1)
    r = train._dataset.inter_matrix(form="csr")
    user = int(np.flatnonzero(np.diff(r.indptr) >= 2)[0])
    edges = model.user_edges
    keep = torch.nonzero(edges.rows == user).flatten()[:2]
    model.user_edges = type(edges)(edges.rows[keep], edges.cols[keep], edges.n_nodes)
    m = model.modalities[0]
    with torch.no_grad():
        z = model.latents()[m]
        p = F.normalize(model.preference[m].weight, dim=1)
        a, b = (z[int(c) - model.n_users] for c in edges.cols[keep])
        share = torch.sigmoid(p[user] @ a - p[user] @ b)
        got = model.routed_preference(m, z)
    torch.testing.assert_close(got[user], F.normalize(p[user] + share * a + (1 - share) * b, dim=0))
    others = torch.arange(len(p)) != user
    torch.testing.assert_close(got[others], p[others])


def test_attention_of_a_node_sums_to_one(build):
    _, model, _, _, _ = build("GRCN", **SMALL)
    with torch.no_grad():
        _, attention = model.attend(torch.randn(model.n_users + model.n_items, 5))
    sums = model.edges.row_sums(attention)
    linked = torch.zeros_like(sums).index_fill(0, model.edges.rows, 1.0)
    assert float(linked[0]) == float(linked[model.n_users]) == 0.0
    torch.testing.assert_close(sums, linked)


def test_loss_equals_the_formula(build):
    _, model, _, _, _ = build("GRCN", **SMALL, reg_weight=0.3)
    b = batch()
    user, item = model()
    u, i, j = b["user_id"], b["item_id"], b["neg_item_id"]
    losses = model.calculate_loss(b)
    named = dict(zip(losses.names, losses, strict=True))
    difference = ((user[u] * item[i]).sum(1) - (user[u] * item[j]).sum(1)).double()
    torch.testing.assert_close(named["bpr"].double(), -torch.log(torch.sigmoid(difference)).mean(), rtol=1e-5, atol=1e-6)
    # over the 2B pairs (u, i), (u, j)
    users, items = torch.cat([u, u]), torch.cat([i, j])
    expected = (model.user_embedding.weight[users] ** 2 + model.item_embedding.weight[items] ** 2).mean()
    expected = expected + sum((model.preference[m].weight[u] ** 2).mean() for m in model.modalities)
    torch.testing.assert_close(named["reg"], 0.3 * expected)


def test_negative_edges_are_pruned(build):
    _, model, _, _, _ = build("GRCN", **SMALL)
    with torch.no_grad():
        attention = [torch.ones(model.edges.n_edges) for _ in model.modalities]
        model.user_confidence.weight.fill_(-1.0)
        model.item_confidence.weight.fill_(0.5)
        weights = model.refined_graph(attention).weights
    # the SENDER's confidence counts: what users send is cut
    from_item = model.edges.cols >= model.n_users
    assert bool((weights[from_item] == 0.5).all())
    assert bool((weights[~from_item] == 0).all())


def test_confidences_exist_only_where_they_are_used(build):
    names = dict(build("GRCN", **SMALL, edge_weight="max")[1].named_parameters())
    assert not any("confidence" in name for name in names)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"edge_weight": "min"}, "edge_weight is 'min'; allowed: confidence, max, mean"),
        ({"fusion": "sum"}, "fusion is 'sum'; allowed: concat, mean, id"),
        ({"fusion": "mean", "feature_dim": 5, "embedding_size": 8}, "feature_dim is 5, embedding_size 8"),
    ],
)
def test_wrong_settings_are_named(build, setting, message):
    with pytest.raises(ConfigurationError, match=message):
        build("GRCN", **{**SMALL, **setting})

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from recbole.data.interaction import Interaction
from torch.nn import functional as F

from recbole_ib.errors import ConfigurationError
from tests.support.datasets import write_dataset

SMALL = {"embedding_size": 8, "hidden_dim": 10, "user_knn": 3}


def batch(n=12):
    torch.manual_seed(0)
    return Interaction({k: torch.randint(1, 60, (n,)) for k in ("user_id", "item_id", "neg_item_id")})


def named_losses(model, b):
    losses = model.calculate_loss(b)
    return dict(zip(losses.names, losses, strict=True))


def naive(model, dataset, k, aggregation):
    """The equations of the paper on dense matrices, the neighbors user by user."""
    r = (dataset.inter_matrix(form="csr").toarray() > 0).astype(np.float32)
    n_users, n_items = r.shape
    a = np.block([[np.zeros((n_users, n_users)), r], [r.T, np.zeros((n_items, n_items))]])
    root = np.divide(1, np.sqrt(a.sum(1)), out=np.zeros(len(a)), where=a.sum(1) > 0)
    a = torch.from_numpy((root[:, None] * a * root[None, :]).astype(np.float32))
    own, item = 0, 0
    for index, m in enumerate(model.modalities):
        first, second = model.encoder.first_layer(m), model.encoder.second[m]
        hidden = F.leaky_relu(dataset.modalities[m] @ first.weight.T + first.bias)
        x0 = F.normalize(torch.cat([model.preference[m].weight, hidden @ second.weight.T + second.bias]), dim=1)
        x = x0 + a @ x0 + a @ a @ x0
        own = own + model.user_weight.weight[:, index : index + 1] * x[:n_users]
        item = item + x[n_users:]
    user = own.clone()
    for u in range(n_users):
        shared = [(-int(r[u] @ r[v]), v) for v in range(n_users) if v != u and r[u] @ r[v] > 0]
        best = sorted(shared)[:k]
        if best:
            counts = torch.tensor([-float(c) for c, _ in best])
            s = torch.softmax(counts, 0) if aggregation == "softmax" else torch.full_like(counts, 1 / len(best))
            user[u] = own[u] + sum(w * own[v] for w, (_, v) in zip(s, best, strict=True))
    return user, item


@pytest.mark.parametrize("aggregation", ["softmax", "mean"])
@pytest.mark.parametrize("k", [3, 200])
def test_forward_equals_the_equations(build, aggregation, k):
    _, model, train, _, _ = build("DualGNN", **{**SMALL, "user_knn": k, "user_aggregation": aggregation})
    with torch.no_grad():
        user, item = model()
        expected_user, expected_item = naive(model, train._dataset, k, aggregation)
    torch.testing.assert_close(user, expected_user)
    torch.testing.assert_close(item, expected_item)


def test_loss_has_base_two_and_the_mean_squares_of_tables(build):
    _, model, _, _, _ = build("DualGNN", **SMALL, reg_weight=0.3)
    b = batch()
    user, item = model()
    u, i, j = b["user_id"], b["item_id"], b["neg_item_id"]
    named = named_losses(model, b)
    difference = (user[u] * item[i]).sum(1) - (user[u] * item[j]).sum(1)
    torch.testing.assert_close(named["bpr"], -torch.log2(torch.sigmoid(difference)).mean())
    expected = sum((model.preference[m].weight[u] ** 2).mean() for m in model.modalities)
    expected = expected + (model.user_weight.weight[1:] ** 2).mean()
    torch.testing.assert_close(named["reg"], 0.3 * expected)


def test_padding_is_not_regularized(build):
    _, model, _, _, _ = build("DualGNN", **SMALL)
    before = named_losses(model, batch())["reg"]
    with torch.no_grad():
        model.user_weight.weight[0] = 100.0
    assert torch.equal(before, named_losses(model, batch())["reg"])


def test_a_user_who_shares_no_item_keeps_the_own_row(build, tmp_path):
    """User u9 alone takes i9 to i11; the split leaves nobody else there."""
    rng = np.random.default_rng(0)
    pairs = [(u, i) for u in range(9) for i in range(9) if rng.random() < 0.7] + [(9, i) for i in range(9, 12)]
    modalities = {"sense": rng.standard_normal((12, 4))}
    path = write_dataset(tmp_path / "data", "alone", pairs, modalities)
    _, model, train, _, _ = build("DualGNN", **SMALL, dataset="alone", data_path=str(path))
    user = train._dataset.token2id("user_id", "u9")
    graph = model.user_graph
    assert int(graph.crow[user + 1] - graph.crow[user]) == 0
    assert user not in graph.col.tolist()
    own = torch.randn(model.n_users, 8)
    assert torch.equal((own + graph(own))[user], own[user])


def test_neighbors_come_from_the_training_interactions_alone(build):
    _, model, train, valid, test = build("DualGNN", **{**SMALL, "user_knn": 200})
    r, *others = (part._dataset.inter_matrix(form="csr") for part in (train, valid, test))
    graph = model.user_graph
    found = sp.csr_array((graph.values.numpy(), graph.col.numpy(), graph.crow.numpy()), shape=graph.shape).toarray() > 0
    shared = [(matrix @ matrix.T).toarray() > 0 for matrix in (r, r + others[0] + others[1])]
    for pairs in shared:
        np.fill_diagonal(pairs, False)
    assert np.array_equal(found, shared[0])
    assert not np.array_equal(found, shared[1])


def test_modality_weights_start_as_shares(build):
    _, model, _, _, _ = build("DualGNN", **SMALL)
    weight = model.user_weight.weight.detach()
    assert bool((weight > 0).all())
    torch.testing.assert_close(weight.sum(dim=1), torch.ones(model.n_users))


def test_without_layers_it_scores_the_normalized_rows(build):
    _, model, _, _, _ = build("DualGNN", **SMALL, n_layers=0)
    _, item = model()
    expected = sum(F.normalize(z, dim=1) for z in model.latents().values())
    torch.testing.assert_close(item, expected)


def test_an_unknown_aggregation_is_named(build):
    with pytest.raises(ConfigurationError, match="user_aggregation is 'max'; allowed: softmax, mean"):
        build("DualGNN", **SMALL, user_aggregation="max")

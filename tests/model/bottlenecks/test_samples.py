"""Samples of a batch: which of its items HSIC compares, and which of its pairs a softmax contrasts."""

import math

import pytest
import torch
from torch.nn import functional as F

from recbole_ib.bottleneck import GraphBottleneck, median_sigma2, rbf_hsic
from recbole_ib.model.types import some
from tests.support.training import computed, first_batch, named


def test_some_are_drawn_without_replacement_each_as_often():
    ids = torch.arange(5, 25)
    torch.manual_seed(0)
    drawn = torch.stack([some(ids, 8) for _ in range(2000)])
    assert (drawn.diff(dim=1) > 0).all()
    counts = torch.bincount(drawn.flatten(), minlength=25)[5:]
    # 2,000 * 8 / 20 = 800 each, standard deviation 22
    assert (counts - 800).abs().max() < 110
    state = torch.random.get_rng_state()
    for most in (0, 20, 30):
        assert torch.equal(some(ids, most), ids)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_mean_over_samples_is_the_unbiased_hsic_of_all_items(build):
    """The unbiased estimate is a U-statistic: over all subsets of m rows its mean is that of all rows."""
    settings = {"fib_estimator": "unbiased", "sigma2": 0.5, "fib_weight": 1.0, "init_std": 0.5, "contrastive_rate": 0.0}
    _, whole, train, _, _ = build("VBPR", bottleneck="fib", **settings)
    batch = first_batch(train)
    expected = float(named(whole.calculate_loss(batch))["fib"].detach())
    _, sampled, _, _, _ = build("VBPR", bottleneck="fib", hsic_items=12, **settings)
    torch.manual_seed(1)
    with torch.no_grad():
        values = torch.tensor([float(named(sampled.calculate_loss(batch))["fib"]) for _ in range(600)])
    assert float(values.mean()) == pytest.approx(expected, abs=4 * float(values.std()) / math.sqrt(600))
    assert float(values.std()) / math.sqrt(600) < 0.1 * expected


@pytest.mark.parametrize(("name", "key"), [("IBMRecVLightGCN", "fib"), ("MRdIBVBPR", "rate"), ("MRdIBFREEDOM", "rate")])
def test_hsic_of_some_items_is_the_estimate_of_these(build, monkeypatch, name, key):
    _, model, train, _, _ = build(name, hsic_items=20, fib_weight=1.0, kl_weight=1.0)
    chosen = spread(monkeypatch, "recbole_ib.model.bottlenecks.feature_hsic", 20)
    passes = computed(monkeypatch, model)
    model.pre_epoch(0)
    losses = named(model.calculate_loss(first_batch(train)))
    (step,), (items,) = passes, chosen
    assert items.numel() == 20
    features, own, expected = model.feature_encoder.part_features(), train._dataset.has_feature, 0.0
    latents = step.latents if key == "fib" else step.latents.posterior.means
    for m, z in latents.items():
        known = items[own[m][items]]
        rbf = {"sigma2": median_sigma2(features[m][own[m]]), "estimator": "normalized"}
        expected += float(rbf_hsic(z[step.latent_rows(known)].detach(), features[m][known], **rbf))
    assert float(losses[key].detach()) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("name", ["VLATTICE", "LATTICE", "FREEDOM", "MICRO", "SOIL", "MGCN"])
def test_gib_computes_the_rows_of_the_sample_as_among_all(build, monkeypatch, name):
    _, model, train, _, _ = build(name, bottleneck="gib", hsic_items=15, gib_weight=1.0)
    chosen = spread(monkeypatch, "recbole_ib.model.bottlenecks.gib", 15)
    passes, compared = computed(monkeypatch, model), []
    monkeypatch.setattr(
        GraphBottleneck, "forward", lambda _, refined, original: compared.append((refined, original)) or original.sum()
    )
    model.pre_epoch(0)
    model.calculate_loss(first_batch(train))
    (step,), ((refined, original),), (items,) = passes, compared, chosen
    with torch.no_grad():
        graph = model.item_graph(step.latents)
        expected = model.apply_item_graph(step.encoded, graph).item
    assert items.numel() == 15
    torch.testing.assert_close(original, F.embedding(step.item_rows(items), expected), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(refined, step.outputs.item[step.item_rows(items)])


@pytest.mark.parametrize("name", ["IBMRecVBPR", "IBMRec"])
def test_l2_of_some_pairs_is_the_naive_loop_over_these(build, monkeypatch, name):
    _, model, train, _, _ = build(name, contrast_pairs=40, init_std=0.5)
    chosen = spread(monkeypatch, "recbole_ib.model.bottlenecks.fib", 40)
    batch = first_batch(train)
    second = next(phase for phase in model.phases() if phase.name == "L_2")
    loss = float(second.loss(batch)[0].detach())
    users, items = batch["user_id"][chosen[0]], batch["item_id"][chosen[0]]
    likes = train._dataset.inter_matrix(form="csr").toarray() > 0
    with torch.no_grad():
        content = torch.cat(list(model.latents().values()), dim=1)
        c = model.user_embedding.weight[:, 64:] if name == "IBMRecVBPR" else model.user_preference.weight
        cosines = F.normalize(c, dim=1) @ F.normalize(content, dim=1).T / 0.2
        assert loss == pytest.approx(naive_softmax(cosines, users.tolist(), items.tolist(), likes), rel=1e-4)


def test_the_unique_softmax_of_some_pairs_is_the_naive_loop_over_these(build, monkeypatch):
    _, model, train, _, _ = build("MRdIBVBPR", contrast_pairs=40, unique_weight=1.0)
    chosen = spread(monkeypatch, "recbole_ib.model.bottlenecks.mrdib", 40)
    passes = computed(monkeypatch, model)
    loss = float(named(model.calculate_loss(first_batch(train)))["unique"].detach())
    (step,), likes, expected = passes, train._dataset.inter_matrix(form="csr").toarray() > 0, 0.0
    users, items = step.users[chosen[0]], step.positives[chosen[0]]
    with torch.no_grad():
        every = torch.unique(items)
        decoded = model.ib["mrdib"].decoders({m: z[step.latent_rows(every)] for m, z in step.latents.draws.items()})
        for rows in decoded.values():
            table = torch.zeros(model.n_items, rows.shape[1])
            table[every] = rows
            cosines = F.normalize(step.outputs.user, dim=1) @ F.normalize(table, dim=1).T / 0.2
            expected += naive_softmax(cosines, users.tolist(), items.tolist(), likes)
    assert loss == pytest.approx(expected, rel=1e-4)


def naive_softmax(logits, users, items, likes):
    total = 0.0
    for user, item in zip(users, items, strict=True):
        below = [float(logits[user, j]) for j in sorted(set(items)) if j == item or not likes[user, j]]
        total -= float(logits[user, item]) - math.log(sum(map(math.exp, below)))
    return total / len(users)


def spread(monkeypatch, module, most):
    """The draws of a module from here on: evenly spaced ones in the place of random ones."""
    found = []

    def chosen(ids, asked):
        assert asked == most
        found.append(ids[torch.linspace(0, ids.numel() - 1, min(most, ids.numel())).long()])
        return found[-1]

    monkeypatch.setattr(f"{module}.some", chosen)
    return found

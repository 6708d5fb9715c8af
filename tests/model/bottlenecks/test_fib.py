"""FIB's keys: which negatives L_2 has, its correction and its condition, and the estimates of HSIC(Z, M)."""

import math

import pytest
import torch
from torch.nn import functional as F

from recbole_ib.bottleneck import median_sigma2, rbf_hsic
from recbole_ib.errors import ConfigurationError
from tests.support.training import first_batch, named


def contrast_of(build, name="IBMRec", **settings):
    _, model, train, _, _ = build(name, **settings)
    batch = first_batch(train)
    second = next(phase for phase in model.phases() if phase.name == "L_2")
    return model, train, batch, float(second.loss(batch)[0].detach())


@pytest.mark.parametrize("name", ["IBMRecVBPR", "IBMRec"])
@pytest.mark.parametrize("negatives", ["batch", "unknown"])
@pytest.mark.parametrize("correction", [False, True])
@pytest.mark.parametrize("condition", ["none", "collaborative"])
def test_l2_equals_the_naive_loop(build, name, negatives, correction, condition):
    settings = {
        "contrastive_negatives": negatives,
        "contrastive_correction": correction,
        "contrastive_condition": condition,
        "init_std": 0.5,
    }
    model, train, batch, loss = contrast_of(build, name, **settings)
    likes = train._dataset.inter_matrix(form="csr").toarray() > 0
    counts, size = likes.sum(axis=0), 256
    items = sorted(set(batch["item_id"].tolist()))
    with torch.no_grad():
        content = torch.cat(list(model.latents().values()), dim=1)
        table = model.user_embedding.weight
        c = table[:, 64:] if name == "IBMRecVBPR" else model.user_preference.weight
        ids = table[:, :64] if name == "IBMRecVBPR" else table
        total = 0.0
        for user, item in zip(batch["user_id"].tolist(), batch["item_id"].tolist(), strict=True):
            score = {}
            for j in items:
                score[j] = float(F.cosine_similarity(c[user], content[j], dim=0)) / 0.2
                if correction:
                    score[j] -= math.log(1 - (1 - counts[j] / counts.sum()) ** size)
                if condition == "collaborative":
                    score[j] += float(ids[user] @ model.item_embedding.weight[j])
            below = [s for j, s in score.items() if j == item or negatives == "batch" or not likes[user, j]]
            total -= score[item] - math.log(sum(map(math.exp, below)))
    assert loss == pytest.approx(total / len(batch), rel=1e-4)


def test_the_condition_trains_content_alone(build):
    model, _, batch, _ = contrast_of(build, contrastive_condition="collaborative")
    second = next(phase for phase in model.phases() if phase.name == "L_2")
    second.loss(batch)[0].backward()
    assert model.user_embedding.weight.grad is None
    assert model.item_embedding.weight.grad is None
    assert float(model.user_preference.weight.grad.norm()) > 0


def test_a_condition_without_ids_is_refused(build):
    with pytest.raises(ConfigurationError, match="contrastive_condition: none"):
        build("DualGNN", bottleneck="fib", contrastive_condition="collaborative")


@pytest.mark.parametrize("estimator", ["biased", "unbiased", "normalized"])
@pytest.mark.parametrize("sigma2", [0.4, "median"])
def test_hsic_is_the_chosen_estimate_at_the_chosen_width(build, estimator, sigma2):
    _, model, train, _, _ = build("IBMRecWoGIB", fib_estimator=estimator, sigma2=sigma2, fib_weight=3.0)
    batch = first_batch(train)
    loss = float(named(model.calculate_loss(batch))["fib"].detach())
    items, expected = torch.unique(batch["item_id"]), 0.0
    features, own = model.encoder.features(), train._dataset.has_feature
    for m, z in model.latents().items():
        width = median_sigma2(features[m][own[m]]) if sigma2 == "median" else sigma2
        known = items[own[m][items]]
        expected += 3.0 * float(rbf_hsic(z[known].detach(), features[m][known], sigma2=width, estimator=estimator))
    assert loss == pytest.approx(expected, rel=1e-3)
    if sigma2 == "median":
        assert model.ib["fib"].hsic.loss.sigma2["text"] != model.ib["fib"].hsic.loss.sigma2["visual"]


def test_other_words_are_refused(build):
    for key, value, message in (
        ("sigma2", "mean", "median"),
        ("fib_estimator", "exact", "biased"),
        ("contrastive_negatives", "all", "unknown"),
        ("contrastive_condition", "ids", "collaborative"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            build("IBMRec", **{key: value})

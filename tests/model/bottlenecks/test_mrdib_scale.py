"""MRdIB at the scale of its latents: KL by dimension, warm-up, free bits, the noise head's input, partial redundancy."""

import math

import pytest
import torch

from recbole_ib.bottleneck import gaussian_kl, median_sigma2, rbf_hsic, residuals
from tests.support.mrdib import bottleneck
from tests.support.training import computed, first_batch, named, run


def losses_of(build, monkeypatch, **settings):
    _, model, train, _, _ = build("VLATTICE", bottleneck="mrdib", **settings)
    passes = computed(monkeypatch, model)
    losses = named(model.calculate_loss(first_batch(train)))
    return model, passes[0], {k: float(v.detach()) for k, v in losses.items()}


def test_the_mean_over_a_latents_numbers_is_the_sum_over_d(paper, monkeypatch):
    summed, mean = (losses_of(paper, monkeypatch, kl_reduction=how, redundancy_weight=0.0)[2]["kl"] for how in ("sum", "mean"))
    assert mean == pytest.approx(summed / 64, rel=1e-5)


def test_free_bits_are_not_priced(paper, monkeypatch):
    _, step, losses = losses_of(paper, monkeypatch, free_bits=0.3, kl_weight=2.0, redundancy_weight=0.0)
    rows, posterior, expected = step.latent_rows(step.items), step.latents.posterior, 0.0
    for m, mean in posterior.means.items():
        by_number = [
            gaussian_kl(mean[rows, d : d + 1], posterior.log_variances[m][rows, d : d + 1]).mean() for d in range(mean.shape[1])
        ]
        expected += sum(max(0.0, float(rate.detach()) - 0.3) for rate in by_number)
    assert losses["kl"] == pytest.approx(2.0 * expected, rel=1e-4)


def test_the_weight_grows_in_the_first_batches(paper, monkeypatch):
    model, step, first = losses_of(paper, monkeypatch, kl_warmup=4, redundancy_weight=0.0)
    kl = float(bottleneck(model).kl(step.latents.posterior, step.items, step.latent_rows(step.items)).detach())
    assert first["kl"] == pytest.approx(0.25 * bottleneck(model).kl_weight * kl, rel=1e-5)
    weights = [bottleneck(model)._kl_weight() / bottleneck(model).kl_weight for _ in range(5)]
    assert weights == pytest.approx([0.5, 0.75, 1.0, 1.0, 1.0])
    model.eval()
    assert bottleneck(model)._kl_weight() == bottleneck(model).kl_weight


def test_a_resumed_run_goes_on_with_the_warm_up(paper, tmp_path):
    from recbole_ib.training.checkpoint import last_path

    options = {"bottleneck": "mrdib", "kl_warmup": 40, "checkpoint_dir": str(tmp_path)}
    whole = run(paper, "VLATTICE", 3, **options)
    part = run(paper, "VLATTICE", 2, **options)
    resumed = run(paper, "VLATTICE", 3, resume=last_path(part[0].saved_model_file), **options)
    assert int(whole[2]["ib.mrdib.kl_batches"]) == int(resumed[2]["ib.mrdib.kl_batches"]) > 0
    for name, value in whole[2].items():
        torch.testing.assert_close(resumed[2][name], value, rtol=0.0, atol=0.0)


def test_the_noise_head_reads_the_latent_and_gives_it_no_gradient(paper, monkeypatch):
    model, step, _ = losses_of(paper, monkeypatch, noise_input="latent", prior_scale="initial", redundancy_weight=0.0)
    gaussian = bottleneck(model).gaussian
    for m, head in gaussian.variance.items():
        assert head.weight.shape == (64, 64)
        mean = step.latents.posterior.means[m].detach()
        unit = torch.nn.functional.normalize(mean, dim=1)
        torch.testing.assert_close(step.latents.posterior.log_variances[m], head(unit), rtol=1e-4, atol=1e-5)
    noise = sum(v.sum() for v in step.latents.posterior.log_variances.values())
    encoder = list(model.encoder.parameters())
    assert all(g is None for g in torch.autograd.grad(noise, encoder, allow_unused=True))
    features = losses_of(paper, monkeypatch, redundancy_weight=0.0)[0]
    widths = {m: head.weight.shape[1] for m, head in bottleneck(features).gaussian.variance.items()}
    assert widths == features.encoder.widths


def test_redundancy_is_of_what_the_ids_do_not_explain(paper, monkeypatch):
    model, step, losses = losses_of(
        paper, monkeypatch, redundancy_condition="collaborative", redundancy_estimator="hsic", redundancy_weight=0.7
    )
    rows, ids = step.latent_rows(step.items), model.item_embedding(step.items).detach()
    left = [residuals(z[rows], ids) for z in step.latents.draws.values()]
    expected = 0.7 * rbf_hsic(*left, sigma2=1.0)
    assert losses["redundancy"] == pytest.approx(float(expected.detach()), rel=1e-4)
    _, _, plain = losses_of(paper, monkeypatch, redundancy_estimator="hsic", redundancy_weight=0.7)
    assert losses["redundancy"] != pytest.approx(plain["redundancy"], rel=1e-3)


@pytest.mark.parametrize("backbone", ["VBPR", "VLATTICE", "FREEDOM"])
def test_the_rate_by_hsic_is_that_of_the_means_and_their_features(build, monkeypatch, backbone):
    _, model, train, _, _ = build(
        backbone, bottleneck="mrdib", rate_estimator="hsic", kl_weight=0.7, redundancy_weight=0.0, unique_weight=0.0
    )
    model.pre_epoch(0)
    passes = computed(monkeypatch, model)
    losses = named(model.calculate_loss(first_batch(train)))
    (step,), own, expected = passes, train._dataset.has_feature, 0.0
    for m, mean in step.latents.posterior.means.items():
        features = model.feature_encoder.part_features()[m]
        known = step.items[own[m][step.items]]
        rbf = {"sigma2": median_sigma2(features[own[m]]), "estimator": "normalized"}
        expected += 0.7 * float(rbf_hsic(mean[step.latent_rows(known)].detach(), features[known], **rbf))
    assert float(losses["rate"].detach()) == pytest.approx(expected, rel=2e-3)
    assert "kl" not in losses
    # nothing is drawn: the means are the latents
    assert step.latents.posterior.log_variances == {}
    encoder = list(model.feature_encoder.parameters())
    assert any(bool(g.any()) for g in torch.autograd.grad(losses["rate"], encoder, allow_unused=True) if g is not None)


@pytest.mark.parametrize("backbone", ["VBPR", "FREEDOM"])
def test_the_unique_softmax_equals_the_naive_loop(build, monkeypatch, backbone):
    _, model, train, _, _ = build(
        backbone,
        bottleneck="mrdib",
        unique_likelihood="softmax",
        unique_temperature=0.4,
        unique_weight=0.6,
        redundancy_weight=0.0,
    )
    model.pre_epoch(0)
    passes = computed(monkeypatch, model)
    losses = named(model.calculate_loss(first_batch(train)))
    (step,), likes = passes, train._dataset.inter_matrix(form="csr").toarray() > 0
    items = sorted(set(step.positives.tolist()))
    users, total = step.outputs.user.detach()[step.users], 0.0
    with torch.no_grad():
        decoded = bottleneck(model).decoders({m: z[step.latent_rows(torch.tensor(items))] for m, z in step.latents.draws.items()})
        for rows in decoded.values():
            cosines = torch.nn.functional.normalize(users, dim=1) @ torch.nn.functional.normalize(rows, dim=1).T / 0.4
            for a, (user, own) in enumerate(zip(step.users.tolist(), step.positives.tolist(), strict=True)):
                below = [float(cosines[a, j]) for j, item in enumerate(items) if item == own or not likes[user, item]]
                total -= float(cosines[a, items.index(own)]) - math.log(sum(map(math.exp, below)))
    assert float(losses["unique"].detach()) == pytest.approx(0.6 * total / len(users), rel=1e-4)

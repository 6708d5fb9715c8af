"""MRdIB: its terms against naive loops, its steps, its settings, its ablations, and what it costs a ranking."""

import math
import operator

import numpy as np
import pytest
import torch

from recbole_ib.errors import ConfigurationError
from recbole_ib.model.bottleneck import batch_subset_of
from recbole_ib.model.layers.gaussian_latents import DrawnLatents
from recbole_ib.training.checkpoint import last_path
from recbole_ib.training.trainer import MultimodalTrainer
from tests.support.datasets import planted, write_dataset
from tests.support.formulas import naive_hsic
from tests.support.mrdib import OFF, PAPER_MRDIB, bottleneck
from tests.support.training import computed, first_batch, fit, named, run, scores_of

CLASSES = {
    "MRdIBVBPR": "VBPR",
    "MRdIBMMGCN": "MMGCN",
    "MRdIBDualGNN": "DualGNN",
    "MRdIBLATTICE": "LATTICE",
    "MRdIBFREEDOM": "FREEDOM",
    "MRdIBMGCN": "MGCN",
    "MRdIBSOIL": "SOIL",
}


def naive_bpr(user, positive, negative):
    return sum(math.log(1 + math.exp(float(u @ (j - i)))) for u, i, j in zip(user, positive, negative, strict=True)) / len(user)


def naive_unique(model, step, at, negatives):
    """The decoders' BPR losses of a batch whose items have their latents at the rows ``at``."""
    total, batch = 0.0, step.interaction
    users = step.outputs.user[batch["user_id"]]
    for m, z in step.latents.draws.items():
        decoder = bottleneck(model).decoders.decoders[list(step.latents.draws).index(m)]
        total += naive_bpr(users, *([decoder(z[at[int(i)]]) for i in items] for items in (batch["item_id"], negatives)))
    return total


@pytest.mark.parametrize("name", CLASSES)
def test_terms_equal_naive_loops_on_the_same_draws(paper, name, monkeypatch):
    _, model, train, _, _ = paper(
        name, kl_weight=0.3, redundancy_weight=0.7, unique_weight=0.5, redundancy_estimator="hsic", redundancy_sigma2=0.4
    )
    model.pre_epoch(0)
    batch, passes = first_batch(train), computed(monkeypatch, model)
    losses = {k: float(v.detach()) for k, v in named(model.calculate_loss(batch)).items()}
    (step,) = passes
    posterior = step.latents.posterior
    with torch.no_grad():
        items = sorted(set(batch["item_id"].tolist()))
        at = {i: int(step.latent_rows(torch.tensor([i]))) for i in {*items, *batch["neg_item_id"].tolist()}}
        kl = 0.0
        for m, mean in posterior.means.items():
            spread = (0.5 * posterior.log_variances[m]).exp()
            for i in items:
                normal = torch.distributions.Normal(mean[at[i]], spread[at[i]])
                kl += float(torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum()) / len(items)
        rows = [at[i] for i in items]
        draws = {m: z[rows].double().numpy() for m, z in step.latents.draws.items()}
        shared = naive_hsic(draws["text"], draws["visual"], 0.4)
        unique = naive_unique(model, step, at, batch["neg_item_id"])
    assert losses["kl"] == pytest.approx(0.3 * kl, rel=1e-4)
    assert losses["redundancy"] == pytest.approx(0.7 * shared, rel=1e-3)
    assert losses["unique"] == pytest.approx(0.5 * unique, rel=1e-4)


def test_without_sampled_negatives_the_decoders_rank_against_the_row_before(paper, monkeypatch):
    """The first row against the last one's item."""
    _, model, train, _, _ = paper("BM3+mrdib", unique_weight=0.5)
    model.pre_epoch(0)
    batch = first_batch(train)
    assert "neg_item_id" not in batch.columns
    passes = computed(monkeypatch, model)
    loss = float(named(model.calculate_loss(batch))["unique"].detach())
    (step,) = passes
    with torch.no_grad():
        at = {i: int(step.latent_rows(torch.tensor([i]))) for i in batch["item_id"].tolist()}
        before = [batch["item_id"][row - 1] for row in range(len(batch))]
        assert loss == pytest.approx(0.5 * naive_unique(model, step, at, before), rel=1e-4)


@pytest.mark.parametrize("name", CLASSES)
def test_the_backbone_ranks_the_drawn_latents(build, paper, name, monkeypatch):
    """The synergistic term: the backbone's own loss of exactly the latents that were drawn."""
    _, model, train, _, _ = paper(name, initial_noise=0.5)
    _, plain, _, _, _ = build(CLASSES[name], project_above=0)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if k in plain.state_dict()})
    batch, passes = first_batch(train), computed(monkeypatch, model)
    for network in (model, plain):
        torch.manual_seed(2)
        network.pre_epoch(0)
    torch.manual_seed(4)
    got = named(model.calculate_loss(batch))
    (step,) = passes
    latents, posterior = step.latents, step.latents.posterior
    for m, z in latents.draws.items():
        noise = (z - posterior.means[m]) / (0.5 * posterior.log_variances[m]).exp()
        assert abs(float(noise.mean())) < 0.2
        assert float(noise.std()) == pytest.approx(1.0, abs=0.1)
    plain.latents = lambda items=None: dict(latents)
    expected = named(plain.calculate_loss(batch)) if latents else {}
    for term, value in expected.items():
        torch.testing.assert_close(got[term], value, rtol=1e-4, atol=1e-6)


def test_vbprs_parts_sum_to_its_projection(build):
    _, model, _, _, _ = build("MRdIBVBPR")
    with torch.no_grad():
        torch.nn.init.normal_(model.encoder.linear["content"].bias)
    parts = model.encoder.parts()
    assert list(parts) == ["text", "visual"]
    torch.testing.assert_close(sum(parts.values()), model.encoder()["content"])
    features = model.encoder.part_features(torch.tensor([3, 5]))
    assert [f.shape[1] for f in features.values()] == list(model.encoder.columns.values())
    with torch.no_grad():
        features["visual"].zero_()
    assert model.encoder.table("content")[3].abs().sum() > 0


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("settings", [{}, PAPER_MRDIB], ids=["defaults", "paper"])
def test_a_ranking_is_the_backbones_and_touches_nothing_else(build, name, settings, monkeypatch):
    config, model, _, _, _ = build(name, **settings)
    _, plain, _, _, _ = build(CLASSES[name], project_above=0)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if k in plain.state_dict()})

    def forbidden(*args, **kwargs):
        raise AssertionError("a ranking computes this")

    mrdib = bottleneck(model)
    training_parts = [mrdib.decoders]
    if settings:
        training_parts += [*mrdib.gaussian.variance.values(), mrdib.redundancy, *mrdib.redundancy.critics]
    else:
        training_parts.append(mrdib.rate)
    for module in training_parts:
        monkeypatch.setattr(module, "forward", forbidden)
    users = torch.arange(1, 9)
    assert torch.equal(scores_of(model, config, users), scores_of(plain, config, users))


@pytest.mark.parametrize("name", CLASSES)
def test_with_all_weights_zero_a_run_is_the_backbones_run(build, name):
    found = []
    for model_name in (name, CLASSES[name]):
        config, model, train, valid, _ = build(model_name, epochs=2, project_above=0, **OFF)
        assert [phase.name for phase in model.phases()] == ["model"]
        trainer = fit(config, model, train, valid)
        found.append((trainer.train_loss_dict, trainer.best_valid_result))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("key", "part", "term"),
    [
        ("kl_weight", "gaussian.variance", "kl"),
        ("redundancy_weight", "redundancy", "redundancy"),
        ("unique_weight", "decoders", "unique"),
    ],
)
def test_a_weight_of_zero_leaves_out_the_computation(paper, key, part, term):
    _, whole, train, _, _ = paper("MRdIBFREEDOM")
    _, model, _, _, _ = paper("MRdIBFREEDOM", **{key: 0.0})
    for network in (whole, model):
        network.pre_epoch(0)
    batch = first_batch(train)
    assert set(whole.calculate_loss(batch).names) - set(model.calculate_loss(batch).names) == {term}
    assert operator.attrgetter(part)(bottleneck(model)) is None
    missing = set(whole.state_dict()) - set(model.state_dict())
    assert missing == {k for k in whole.state_dict() if k.startswith(f"ib.mrdib.{part}.")}
    assert missing
    assert ("critic" in [phase.name for phase in model.phases()]) is (key != "redundancy_weight")
    if key == "kl_weight":
        latents = model.train().training_latents()
        assert latents.draws is latents.posterior.means


def test_the_defaults_draw_nothing_and_have_no_critic(build):
    _, model, train, _, _ = build("MRdIBFREEDOM")
    _, plain, _, _, _ = build("FREEDOM", project_above=0)
    batch = first_batch(train)
    for network in (model, plain):
        network.pre_epoch(0)
    assert model.calculate_loss(batch).names == (*plain.calculate_loss(batch).names, "rate", "unique")
    assert [phase.name for phase in model.phases()] == ["model"]
    latents = model.train().training_latents()
    assert latents.draws is latents.posterior.means
    for key, left_out in (("kl_weight", "rate"), ("unique_weight", "unique")):
        _, without, _, _, _ = build("MRdIBFREEDOM", **{key: 0.0})
        without.pre_epoch(0)
        assert set(model.calculate_loss(batch).names) - set(without.calculate_loss(batch).names) == {left_out}


@pytest.mark.parametrize(
    ("estimator", "phases"), [("mine", ["critic", "model"]), ("club", ["critic", "model"]), ("hsic", ["model"])]
)
def test_steps_of_the_estimators(paper, estimator, phases):
    config, model, train, _, _ = paper("MRdIBVBPR", redundancy_estimator=estimator)
    trainer = MultimodalTrainer(config, model)
    assert list(trainer.optimizers) == phases
    for phase in model.phases():
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        trainer._step(phase, trainer.processes.share(first_batch(train), "cpu"))
        changed = {n for n, p in model.named_parameters() if not torch.equal(before[n], p)}
        critic = {n for n in before if n.startswith("ib.mrdib.redundancy.")}
        assert changed == (critic if phase.name == "critic" else set(before) - critic)


@pytest.mark.parametrize("name", ["MRdIBVBPR", "MRdIBFREEDOM", "MRdIBMGCN"])
def test_the_model_step_takes_the_critics_gaussians_and_nothing_changes(paper, name, monkeypatch):
    weights, projected = [], []
    for forget in (False, True):
        config, model, train, _, _ = paper(name)
        trainer = MultimodalTrainer(config, model)
        model.train()
        model.pre_epoch(0)
        calls = []
        parts = model.encoder.parts
        monkeypatch.setattr(model.encoder, "parts", lambda *a, parts=parts, calls=calls: calls.append(1) or parts(*a))
        torch.manual_seed(0)
        loader = iter(train)
        for _ in range(3):
            share = trainer.processes.share(next(loader), "cpu")
            for phase in model.phases():
                if forget:
                    bottleneck(model)._cached = None
                trainer._step(phase, share)
        weights.append([p.detach().clone() for p in model.parameters()])
        projected.append(len(calls))
    assert projected == [3, 6]
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_the_critics_gaussians_are_not_those_of_another_batch_or_an_evaluation(paper):
    _, model, train, _, _ = paper("MRdIBFREEDOM")
    model.train()
    model.pre_epoch(0)
    loader = iter(train)
    first, second = next(loader), next(loader)
    mrdib = bottleneck(model)
    mrdib.critic_loss(model, first)
    assert batch_subset_of(model, first).latents is mrdib._cached.rows
    other = batch_subset_of(model, second).latents
    assert other is not mrdib._cached.rows
    model.eval()
    assert mrdib._cached is None
    model.train()
    mrdib.critic_loss(model, first)
    with torch.no_grad():
        latents = model.training_latents(batch_subset_of(model, first).latents)
        assert not next(iter(latents.posterior.means.values())).requires_grad


def test_weight_decay_spares_the_critic(paper):
    config, model, _, _, _ = paper("MRdIBVBPR", weight_decay=0.1)
    trainer = MultimodalTrainer(config, model)
    assert {name: o.param_groups[0]["weight_decay"] for name, o in trainer.optimizers.items()} == {"critic": 0.0, "model": 0.1}


def test_the_critic_climbs_and_the_encoders_descend(paper, told_twice):
    """Each step moves the estimate its own way: the critic up, the encoders down; at once, and all the way."""
    settings = {**OFF, "redundancy_weight": 100.0, "embedding_size": 8, "learning_rate": 0.003}
    config, model, train, _, _ = paper("MRdIBVBPR", **told_twice, **settings)
    trainer = MultimodalTrainer(config, model)
    batch = first_batch(train)
    share, items = trainer.processes.share(batch, "cpu"), torch.unique(batch["item_id"])

    def estimate(seed):
        """With the pairs that a step draws from this seed."""
        torch.manual_seed(seed)
        return float(bottleneck(model).redundancy.critics[0](*model.training_latents(items).draws.values()).detach())

    def mean_estimate():
        return np.mean([estimate(seed) for seed in range(1_000, 1_020)])

    def step(phase):
        """What one step adds to the estimate from the pairs that it has drawn itself."""
        before = estimate(0)
        torch.manual_seed(0)
        trainer._step(phase, share)
        return estimate(0) - before

    critic, encoders = model.phases()
    assert abs(mean_estimate()) < 0.1
    assert step(critic) > 0
    for _ in range(100):
        trainer._step(critic, share)
    # the modalities share log 4 = 1.39 nats
    assert mean_estimate() > 1.0
    assert step(encoders) < 0
    for _ in range(90):
        trainer._step(encoders, share)
    assert mean_estimate() < 0.3


@pytest.mark.parametrize("estimator", ["mine", "club"])
def test_a_resumed_run_gives_the_same_numbers(paper, estimator):
    settings = {"redundancy_estimator": estimator, "redundancy_weight": 0.1}
    whole, expected, weights = run(paper, "MRdIBVBPR", 4, **settings)
    first, _, _ = run(paper, "MRdIBVBPR", 2, **settings)
    resumed, got, again = run(paper, "MRdIBVBPR", 4, resume=last_path(first.saved_model_file), **settings)
    assert got == expected
    assert resumed.train_loss_dict == whole.train_loss_dict
    assert all(torch.equal(weights[k], again[k]) for k in weights)


# -- settings ---------------------------------------------------------------------------------------------------------


def test_one_modality_has_no_redundancy_and_says_so(paper):
    with pytest.raises(ConfigurationError, match=r"has one \(text\); set redundancy_weight: 0"):
        paper("MRdIBVBPR", use_modalities=["text"])
    _, model, train, _, _ = paper("MRdIBVBPR", use_modalities=["text"], redundancy_weight=0)
    assert model.calculate_loss(first_batch(train)).names == ("bpr", "reg", "kl", "unique")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"redundancy_estimator": "mime"}, "redundancy_estimator is 'mime'; allowed: mine, club, hsic"),
        ({"prior_scale": 0}, "prior_scale"),
        ({"prior_scale": "first"}, "prior_scale"),
        ({"initial_noise": -1}, "initial_noise"),
        ({"decoder_hidden_size": 0}, "decoder_hidden_size"),
        ({"redundancy_sigma2": 0}, "redundancy_sigma2"),
    ],
)
def test_wrong_settings_are_refused(build, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        build("MRdIBVBPR", **settings)


@pytest.mark.parametrize("scale", [1.0, 2.5, "initial"])
def test_noise_starts_at_its_share_of_the_latents(paper, scale):
    _, model, _, _, _ = paper("MRdIBFREEDOM", prior_scale=scale, initial_noise=0.2)
    latents, gaussian = model.training_latents(torch.arange(1, model.n_items)), bottleneck(model).gaussian
    assert isinstance(latents, DrawnLatents)
    for m, z in model.encoder.parts(torch.arange(1, model.n_items)).items():
        spread = float(z.square().mean().sqrt())
        sigma = float((0.5 * latents.posterior.log_variances[m]).exp().mean() * gaussian.scale(m))
        assert sigma == pytest.approx(0.2 * spread, rel=1e-3)
        if scale == "initial":
            assert float(latents.posterior.means[m].square().mean()) == pytest.approx(1.0, rel=1e-3)
        else:
            assert float(gaussian.scale(m)) == scale


def test_items_without_a_feature_take_no_part_in_kl_and_redundancy(paper, tmp_path):
    pairs, modalities, _, _ = planted(40, 30)
    path = write_dataset(tmp_path / "data", "gaps", pairs, modalities)
    tokens = (path / "gaps" / "text.tokens").read_text().split()
    np.save(path / "gaps" / "text.npy", modalities["text"][:20].astype(np.float32))
    (path / "gaps" / "text.tokens").write_text("\n".join(tokens[:20]) + "\n")
    _, model, train, _, _ = paper("MRdIBVBPR", dataset="gaps", data_path=str(path), redundancy_estimator="hsic")
    own = train._dataset.has_feature["text"]
    assert 0 < int(own.sum()) == 20
    items = torch.arange(1, model.n_items)
    model.eval()
    latents, mrdib = model.training_latents(items), bottleneck(model)
    posterior = latents.posterior
    kl = mrdib.kl(posterior, items, torch.arange(len(items)))
    for m, row in (("text", ~own[1:]), ("visual", torch.zeros(len(items), dtype=torch.bool))):
        posterior.means[m] = torch.where(row[:, None], torch.full_like(posterior.means[m], 1e3), posterior.means[m])
    torch.testing.assert_close(mrdib.kl(posterior, items, torch.arange(len(items))), kl)
    shared = mrdib._shared_rows(model, latents.draws, items, lambda chosen: torch.searchsorted(items, chosen))
    assert {z.shape[0] for z in shared.values()} == {20}

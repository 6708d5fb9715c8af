"""Shares of the modalities in a model's scores, the samples they are measured on, and a model that must not notice."""

import math

import pytest
import torch

from recbole_ib.bottleneck.alignment import sample_ids
from recbole_ib.bottleneck.mutual_information import gaussian_information
from recbole_ib.training.diagnostics import (
    evaluation_mode,
)
from tests.support.diagnostics import looker, measured, naive_hsic, naive_kernel, run
from tests.support.training import STAGES

SIZES = {"diagnostics_items": 40, "diagnostics_users": 20}
SMALL = {"embedding_size": 8, "feature_dim": 8}


@pytest.fixture
def build(build):
    return lambda name, **changes: build(name, **{**STAGES.get(name, {}), **changes})


def shares_of(model, train):
    found = looker(model, train).measure()
    return {n.removeprefix("share/"): v for n, v in found.items() if n.startswith("share/")}


# -- shares of a model ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["VBPR", "VLightGCN", "MMGCN", "SLMRec"])
def test_a_modality_whose_weights_are_zero_has_no_share(build, name):
    _, model, train, _, _ = build(name, **SMALL, project_above=0)
    with torch.no_grad():
        if name == "VBPR":
            model.encoder.linear["content"].weight[:, : model.encoder.columns["text"]] = 0
        else:
            model.encoder.linear[model.modalities[0]].weight.zero_()
    shares = shares_of(model, train)
    assert list(shares) == model.modalities
    none, some = shares.values()
    assert none == pytest.approx(0, abs=1e-9)
    assert some > 1e-3


def test_the_only_contributor_has_all_of_the_score(build):
    _, model, train, _, _ = build("VBPR", **SMALL)
    with torch.no_grad():
        model.item_embedding.weight.zero_()
        model.encoder.linear["content"].weight[:, : model.encoder.columns["text"]] = 0
    none, every = shares_of(model, train).values()
    assert none == pytest.approx(0, abs=1e-9)
    assert every == pytest.approx(1, abs=1e-6)


def test_shares_equal_those_of_the_scores_by_hand(build):
    """VBPR: the contribution of a modality to s_ui is <p_u, W_m f_mi>."""
    _, model, train, _, _ = build("VBPR", **SMALL)
    found = looker(model, train)
    content = model.user_embedding.weight[found.users, 8:].detach().double()
    user, item = (x.detach().double() for x in model())
    whole = (user[found.users] @ item[found.items].T).var(dim=1).mean()
    for name, part in model.encoder.parts(found.items).items():
        expected = (content @ part.detach().double().T).var(dim=1).mean() / whole
        assert shares_of(model, train)[name] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("name", ["SGFD", "InvRL"])
def test_parts_that_do_not_make_the_latents_are_not_measured(build, name):
    """A plug-in that changes what VBPR's one projection does: its rows are no sum over the modalities any more."""
    trainer, _ = run(build, name, 1, saved=False, backbone="VBPR", diagnostics=True, **SIZES, **SMALL)
    names = measured(trainer)[0]
    latents = trainer.model.latents()
    encoder = trainer.model.feature_encoder
    projections = getattr(encoder, "replaced", encoder)  # SGFD's students stand on VBPR's
    sums = projections.fuse(projections.parts())
    assert list(projections.parts()) == ["text", "visual"]
    apart = not torch.allclose(sums["content"], latents["content"], atol=1e-5)
    assert ("share/content" in names) is apart
    assert ("share/text" in names) is not apart
    assert any(n.startswith("information/") for n in names) is not apart


@pytest.mark.parametrize("name", ["BM3", "FREEDOM"])
def test_latents_outside_the_score_have_no_share(build, name):
    _, model, train, _, _ = build(name, **SMALL)
    found = looker(model, train).measure()
    assert not [n for n in found if n.startswith("share/")]
    assert "nhsic_features/text" in found


# -- samples ----------------------------------------------------------------------------------------------------------


def test_the_sample_is_drawn_once_from_what_has_features_and_interactions(build):
    _, model, train, _, _ = build("VBPR")
    dataset = train._dataset
    dataset.has_feature["text"][:30] = False
    dataset.has_feature["visual"][:20] = False
    first = looker(model, train, items=10, users=10)
    torch.manual_seed(5)
    again = looker(model, train, items=10, users=10)
    assert torch.equal(first.items, again.items)
    assert torch.equal(first.users, again.users)
    assert first.items.numel() == 10
    assert first.items.min() >= 20
    assert set(first.users.tolist()) <= set(dataset.inter_feat["user_id"].tolist())
    everything = looker(model, train, items=10**6, users=10**6)
    assert everything.items.tolist() == list(range(20, dataset.item_num))
    assert 0 not in everything.users.tolist()


def test_a_modality_is_measured_on_the_items_that_have_it(build):
    _, model, train, _, _ = build("VLightGCN", **SMALL)
    dataset = train._dataset
    dataset.has_feature["text"][:30] = False
    found = looker(model, train, items=1000).measure()
    latents = {m: z.detach() for m, z in model.latents().items()}
    features = model.encoder.features()
    rows = {"text": torch.arange(30, dataset.item_num), "visual": torch.arange(1, dataset.item_num)}
    for name, ids in rows.items():
        z, m = naive_kernel(latents[name][ids]), naive_kernel(features[name][ids])
        assert found[f"hsic_features/{name}"] == pytest.approx(naive_hsic(z, m), rel=1e-5)
        q = naive_kernel(model.item_embedding.weight.detach()[ids])
        expected = naive_hsic(z, q) / math.sqrt(naive_hsic(z, z) * naive_hsic(q, q))
        assert found[f"nhsic_ids/{name}"] == pytest.approx(expected, rel=1e-5)
    a, b = model.modalities
    both = rows["text"]
    assert found[f"information/{a}|{b}"] == pytest.approx(float(gaussian_information(latents[a][both], latents[b][both])))


def test_a_modality_that_no_item_has_is_left_out(build):
    _, model, train, _, _ = build("VLightGCN", **SMALL)
    train._dataset.has_feature["text"][:] = False
    found = looker(model, train).measure()
    assert not [n for n in found if "text" in n]
    assert "share/visual" in found


def test_sample_ids_are_sorted_and_distinct():
    mask = torch.rand(100) < 0.5
    ids = sample_ids(mask, 7, torch.Generator().manual_seed(1))
    assert ids.tolist() == sorted(set(ids.tolist()))
    assert bool(mask[ids].all())


def test_trained_features_are_measured_as_they_are_now(build):
    _, model, train, _, _ = build("MGCN", **SMALL, raw_features="tuned")
    found = looker(model, train)
    before = found.measure()
    assert found.measure() == before
    with torch.no_grad():
        model.encoder.table("text").normal_()
    assert found.measure()["hsic_features/text"] != before["hsic_features/text"]


# -- looking on -------------------------------------------------------------------------------------------------------


def test_looking_on_leaves_modes_cache_and_random_state(build):
    _, model, train, _, _ = build("IBMRec")
    model.train()
    model.item_graph_layer.eval()
    modes = [m.training for m in model.modules()]
    state = torch.get_rng_state()
    with evaluation_mode(model):
        assert not any(m.training for m in model.modules())
        assert not torch.is_grad_enabled()
        torch.rand(3)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    model.eval()
    kept = model.embeddings()
    looker(model, train).measure()
    assert model.embeddings() is kept
    assert all(torch.equal(a, b) for a, b in zip(kept, model(), strict=True))


def test_modes_come_back_after_an_error(build):
    _, model, _, _, _ = build("VBPR")
    with pytest.raises(ZeroDivisionError), evaluation_mode(model):
        raise ZeroDivisionError
    assert model.training


def test_the_cache_is_right_after_a_measure_in_training_mode(build):
    _, model, train, _, _ = build("VLATTICE")
    model.train()
    looker(model, train).measure()
    assert model._embeddings is None
    with torch.no_grad():
        model.item_embedding.weight.add_(1.0)
    model.eval()
    assert all(torch.equal(a, b) for a, b in zip(model.embeddings(), model(), strict=True))

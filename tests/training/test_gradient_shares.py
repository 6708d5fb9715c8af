"""Gradients of the loss terms by groups of parameters: against gradients by hand, and a model and a run that must not notice."""

import random

import numpy as np
import pytest
import torch

from recbole_ib.training.diagnostics import SAMPLE_SEED
from recbole_ib.training.gradient_shares import GradientShares, gradient_norms, parameter_groups, shares, untouched
from tests.support.diagnostics import measured, run
from tests.support.mrdib import PAPER_MRDIB
from tests.support.training import STAGES, first_batch

SMALL = {"embedding_size": 8, "feature_dim": 8}


@pytest.fixture
def build(build):
    return lambda name, **changes: build(name, **{**STAGES.get(name, {}), **SMALL, **changes})


def norm(parameters):
    """Of the gradients that a backward pass has left; None where it reached none of them."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return float(sum(g.double().square().sum() for g in gradients) ** 0.5) if gradients else None


def by_hand(model, batch, losses, index, parameters):
    """The norm of one term's gradient, by a backward pass of its own."""
    model.zero_grad(set_to_none=True)
    torch.manual_seed(5)
    model.pre_epoch(0)
    losses(batch)[index].backward()
    return norm(parameters)


# -- the numbers ------------------------------------------------------------------------------------------------------


def test_norms_equal_those_of_a_backward_pass_of_each_term(build):
    _, model, train, _, _ = build("IBMRec")
    model.train()
    batch, layers = first_batch(train), model.ib["gib"].gates["shared"]
    groups = {
        "latents": list(model.encoder.parameters()),
        "gate": list(layers.parameters()),
        "users": [model.user_embedding.weight, model.user_preference.weight],
    }
    assert {g: [id(p) for p in ps] for g, ps in parameter_groups(model).items()} == {
        g: [id(p) for p in ps] for g, ps in groups.items()
    }
    expected = {}
    for group, parameters in groups.items():
        for i, term in enumerate(("bpr", "reg", "fib", "gib")):
            expected[term, group] = by_hand(model, batch, model.calculate_loss, i, parameters)
    # L_2 trains content preferences and encoder alone
    second = model.phases()[1]
    updated = {"latents": groups["latents"], "users": [model.user_preference.weight]}
    for group, parameters in updated.items():
        expected["contrastive", group] = by_hand(model, batch, second.loss, 0, parameters)
    assert [term for term, value in expected.items() if value is None] == [("reg", "gate"), ("fib", "gate"), ("fib", "users")]
    model.zero_grad(set_to_none=True)
    torch.manual_seed(5)
    model.pre_epoch(0)
    found = gradient_norms(model, batch, groups)
    assert found == pytest.approx({key: value for key, value in expected.items() if value is not None}, rel=1e-5)
    assert all(p.grad is None for p in model.parameters())
    values = shares(found)
    assert values["gradient/fib/latents"] == pytest.approx(expected["fib", "latents"] / expected["bpr", "latents"], rel=1e-5)
    assert values["gradient_norm/bpr/gate"] == pytest.approx(expected["bpr", "gate"], rel=1e-5)
    assert set(values) == {
        *(f"gradient_norm/bpr/{group}" for group in groups),
        *(f"gradient/{term}/latents" for term in ("reg", "fib", "gib", "contrastive")),
        *(f"gradient/{term}/users" for term in ("reg", "gib", "contrastive")),
        "gradient/gib/gate",
    }


def test_without_a_gradient_of_bpr_the_norm_itself_stands():
    norms = {("bpr", "users"): 2.0, ("reg", "users"): 3.0, ("bpr", "latents"): 0.0, ("fib", "latents"): 4.0, ("kl", "noise"): 5.0}
    assert shares(norms) == {
        "gradient_norm/bpr/users": 2.0,
        "gradient_norm/bpr/latents": 0.0,
        "gradient/reg/users": 1.5,
        "gradient/fib/latents": 4.0,
        "gradient/kl/noise": 5.0,
    }


@pytest.mark.parametrize(
    ("name", "changes", "groups"),
    [
        ("VBPR", {}, {"latents", "users"}),
        ("VBPR", {"feature_encoder": "mlp"}, {"latents", "users"}),
        ("LATTICE", {"item_graph": "frozen"}, {"users"}),
        ("LATTICE", {"item_graph": "learned"}, {"latents", "users"}),
        ("IBMRecLATTICE", {"item_graph": "frozen"}, {"latents", "gate", "users"}),
        ("MRdIBVBPR", {}, {"latents", "users"}),
        ("MRdIBVBPR", PAPER_MRDIB, {"latents", "noise", "users"}),
        ("MRdIBVBPR", {**PAPER_MRDIB, "kl_weight": 0}, {"latents", "users"}),
        ("SGFD", {}, {"latents", "users"}),
    ],
)
def test_groups_that_a_model_has(build, name, changes, groups):
    _, model, train, _, _ = build(name, **changes)
    found = GradientShares(model, train, SAMPLE_SEED).measure(0)
    assert set(parameter_groups(model)) == {n.split("/")[2] for n in found} == groups
    assert all(np.isfinite(value) and value >= 0 for value in found.values())
    if name == "MRdIBVBPR":
        # the critic's step trains none of the groups
        assert not [n for n in found if "/critic/" in n]


def test_tables_of_users_are_no_tables_of_items_where_there_are_as_many(build):
    _, model, _, _, _ = build("VBPR")
    model.n_users = model.item_embedding.num_embeddings
    assert set(parameter_groups(model)) == {"latents"}
    model.item_embedding.requires_grad_(False)
    model.encoder.requires_grad_(False)
    assert parameter_groups(model) == {}
    assert GradientShares(model, None, SAMPLE_SEED).measure(0) == {}


# -- looking on -------------------------------------------------------------------------------------------------------


def states(train):
    python, numpy = random.getstate(), np.random.get_state()
    return [python, numpy[1].tolist(), numpy[2:], torch.get_rng_state().tolist(), train.generator.get_state().tolist()]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("VBPR", {"sampling": "device"}),
        ("VBPR", {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1, "dynamic": True, "candidate_num": 2}}),
        ("LATTICE", {"item_graph": "learned"}),
        ("FREEDOM", {"edge_dropout": 0.5}),
        ("MRdIBVBPR", {}),
        ("MRdIBVBPR", PAPER_MRDIB),
        ("IBMRec", {}),
    ],
)
def test_model_and_random_state_stay_as_they_were(build, name, changes):
    _, model, train, _, _ = build(name, **changes)
    measures = GradientShares(model, train, SAMPLE_SEED)
    train.get_model(model)  # dynamic negatives are drawn by its scores
    model.train()
    model.pre_epoch(0)
    for phase in model.phases():
        phase.loss(first_batch(train))
    model.eval()
    kept = model.embeddings()
    before, random_before = {k: v.clone() for k, v in model.state_dict().items()}, states(train)
    attributes = [(m, {k: id(v) for k, v in vars(m).items()}, list(m._modules.items())) for m in model.modules()]
    found = measures.measure(1)
    assert states(train) == random_before
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [(m, {k: id(v) for k, v in vars(m).items()}, list(m._modules.items())) for m in model.modules()] == attributes
    assert model.embeddings() is kept
    assert all(p.grad is None for p in model.parameters())
    # the same batch, and the same draws in it
    np.random.seed(9)
    torch.manual_seed(9)
    assert measures.measure(2) == found == GradientShares(model, train, SAMPLE_SEED).measure(2)


def test_the_gradient_through_a_learned_graph_is_that_of_an_epochs_first_batch(build):
    _, model, train, _, _ = build("LATTICE", item_graph="learned")
    model.train()
    model.pre_epoch(0)
    for _ in range(2):
        model.calculate_loss(first_batch(train))
    assert model.item_graph_layer._kept is not None
    assert GradientShares(model, train, SAMPLE_SEED).measure(1)["gradient_norm/bpr/latents"] > 0


def test_everything_comes_back_after_an_error(build):
    _, model, train, _, _ = build("MRdIBVBPR", **PAPER_MRDIB)
    stored = {k: v.clone() for k, v in model.state_dict().items()}
    before, names = states(train), set(dir(model))

    def change():
        torch.rand(1)
        model.eval()
        model.extra, model.user_embedding = 1, None
        next(b for n, b in model.named_buffers() if n.endswith("log_ema")).fill_(3.0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), untouched(model, train.generator):
        change()
    assert states(train) == before
    assert model.training
    assert set(dir(model)) == names
    assert all(torch.equal(value, stored[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "changes"),
    [("VBPR", {"sampling": "device"}), ("MRdIBFREEDOM", {**PAPER_MRDIB, "edge_dropout": 0.5}), ("IBMRec", {})],
)
def test_a_run_writes_them_and_stays_the_same(build, name, changes):
    plain, expected = run(build, name, 3, **changes)
    looked_at, got = run(build, name, 3, diagnostics=True, diagnostics_items=20, diagnostics_users=5, **changes)
    assert got == expected
    assert looked_at.train_loss_dict == plain.train_loss_dict
    weights = plain.model.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in looked_at.model.state_dict().items())
    found = measured(looked_at)
    written = [{n: v for n, v in values.items() if n.startswith("gradient")} for _, values in sorted(found.items())]
    assert [set(values) for values in written] == [set(written[0])] * 4
    assert {n.split("/")[2] for n in written[0]} == set(parameter_groups(looked_at.model))

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.utils import get_trainer, init_seed
from torch.nn import functional as F

from recbole_ib.errors import ConfigurationError
from recbole_ib.graph import cosine_knn
from recbole_ib.model.wrappers.invrl import (
    environment_losses,
    fill_environments,
    gate,
    invariance_penalty,
    mask_loss,
    redraw_first_layers,
    use_mask,
    variant_penalty,
)
from recbole_ib.training.checkpoint import last_path
from recbole_ib.training.invrl_trainer import InvRLTrainer
from tests.support.datasets import write_dataset
from tests.support.formulas import dense
from tests.support.training import STAGES, first_batch, scores_of

SHORT = STAGES["InvRL"]


@pytest.fixture
def short(build):
    return lambda **settings: build("InvRL", **{**SHORT, **settings})


def trainer_of(config, model):
    return get_trainer(config["MODEL_TYPE"], "InvRL")(config, model)


# -- the losses of the stages -----------------------------------------------------------------------------------------


def naive_penalty(gradients, mu):
    total, n = 0.0, len(gradients)
    for row in range(gradients.shape[1]):
        for col in range(gradients.shape[2]):
            mean = sum(float(g[row, col]) for g in gradients) / n
            spread = sum((float(g[row, col]) - mean) ** 2 for g in gradients)
            total += (spread * (float(mu[col]) + 0.5)) ** 2
    return total


@pytest.mark.parametrize("n_environments", [1, 2, 5])
def test_penalty_equals_the_loop(n_environments):
    gradients, mu = torch.randn(n_environments, 3, 4), torch.randn(4) / 4
    expected = naive_penalty(gradients, mu)
    torch.testing.assert_close(float(invariance_penalty(gradients, mu)), expected, rtol=1e-5, atol=1e-9)
    assert (expected == 0) is (n_environments == 1)


def test_gate_stays_within_zero_and_one_and_is_noisy_only_where_asked():
    mu = torch.tensor([-3.0, -0.5, -0.2, 0.0, 0.4, 2.0])
    assert gate(mu).tolist() == pytest.approx([0, 0, 0.3, 0.5, 0.9, 1])
    noisy = torch.stack([gate(mu, 0.01) for _ in range(500)])
    assert float(noisy.min()) >= 0
    assert float(noisy.max()) <= 1
    assert float(noisy[:, 3].std()) == pytest.approx(0.01, rel=0.2)


def test_variant_penalty(short):
    _, model, _, _, _ = short(backbone="VBPR")
    mask = torch.rand(10)
    weight = model.backbone.encoder.linear["content"].weight
    torch.testing.assert_close(variant_penalty(model.backbone, mask), (weight * mask).abs().sum() / weight.numel())


@pytest.mark.parametrize("backbone", ["VBPR", "VLightGCN", "LATTICE", "VLATTICE", "BM3", "FREEDOM", "MICRO", "GRCN"])
def test_equal_environments_give_no_penalty_and_different_ones_do(short, backbone):
    _, model, train, _, _ = short(backbone=backbone, target_dropout=0.0)
    batches = list(train)
    found = []
    for pair in ([batches[0], batches[0]], batches[:2]):
        model.train()
        init_seed(2, True)
        model.pre_epoch(0)
        weights = redraw_first_layers(model.backbone.encoder)
        mu = torch.zeros_like(model.mask).requires_grad_()
        use_mask(model.backbone.encoder, gate(mu))
        losses = environment_losses(model.backbone, pair)
        # alpha so large that float32 shows the penalty beside the loss
        total = mask_loss(losses, weights, mu, 1e20, 0.1)
        gradients = torch.autograd.grad(total, [*weights, mu])
        assert all(bool(torch.isfinite(g).all()) and bool(g.any()) for g in gradients)
        found.append(float((total - torch.stack(losses).mean()).detach()))
    assert found[0] == 0.0
    assert found[1] > 0.0


def test_losses_are_summed_over_the_batch(short):
    _, model, train, _, _ = short(backbone="VBPR")
    batch = first_batch(train)
    (summed,) = environment_losses(model.backbone, [batch])
    torch.testing.assert_close(summed, len(batch) * sum(model.calculate_loss(batch)))


def test_gradients_of_the_mask_loss_equal_finite_differences(short):
    """On VBPR in double precision: the second derivatives through W are the right ones."""
    _, model, train, _, _ = short(backbone="VBPR", embedding_size=3)
    backbone = model.backbone.double()
    batches = [b for b, _ in zip(train, range(2), strict=False)]
    layer = backbone.encoder.linear["content"]
    mu = (0.1 * torch.randn(10, dtype=torch.float64)).requires_grad_()

    def value(mu):
        layer.mask = gate(mu)
        return mask_loss(environment_losses(backbone, batches), [layer.weight], mu, 0.5, 0.1)

    assert torch.autograd.gradcheck(value, mu)
    (exact,) = torch.autograd.grad(value(mu), layer.weight)
    step = 1e-5
    for row, col in ((0, 0), (1, 4), (2, 9)):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                layer.weight[row, col] += sign * step
            ends.append(float(value(mu).detach()))
            with torch.no_grad():
                layer.weight[row, col] -= sign * step
        assert float(exact[row, col]) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4)


# -- environments -----------------------------------------------------------------------------------------------------


def test_an_emptied_environment_is_filled_from_the_largest():
    labels = torch.tensor([0] * 6 + [2] * 3)
    filled = fill_environments(labels, 4)
    counts = torch.bincount(filled, minlength=4)
    assert bool((counts > 0).all())
    assert counts[2] == 3
    assert torch.equal(labels, torch.tensor([0] * 6 + [2] * 3))


def test_the_environments_share_out_the_training_interactions(short):
    config, model, train, _, _ = short(backbone="VBPR", n_environments=3, environment_repeats=2)
    trainer = trainer_of(config, model)
    backbone = model.fresh_backbone()
    fresh = {k: v.clone() for k, v in backbone.state_dict().items()}
    labels = trainer._find_environments(train, backbone, fresh, torch.zeros_like(model.mask), "test")
    assert labels.shape == (len(train._dataset),)
    assert sorted(labels.unique().tolist()) == [0, 1, 2]
    pairs = train._dataset.inter_feat
    every = {(int(u), int(i)) for u, i in zip(pairs["user_id"], pairs["item_id"], strict=True)}
    seen = []
    for e in range(3):
        for batch in trainer._loader(train, torch.nonzero(labels == e).flatten()):
            seen += [(int(u), int(i)) for u, i in zip(batch["user_id"], batch["item_id"], strict=True)]
            # negatives are those of all training data, not of the environment
            assert not every & {(int(u), int(j)) for u, j in zip(batch["user_id"], batch["neg_item_id"], strict=True)}
    assert sorted(seen) == sorted(every)


def test_one_environment_needs_no_training_to_be_found(short):
    config, model, train, _, _ = short(backbone="VBPR", n_environments=1)
    labels = trainer_of(config, model)._find_environments(train, None, {}, model.mask, "test")
    assert labels.tolist() == [0] * len(train._dataset)


# -- the mask in the backbone -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw_features", ["tuned", "frozen"])
def test_the_backbone_reads_masked_unit_features_everywhere(short, raw_features):
    _, model, train, _, _ = short(raw_features=raw_features, static_weight=1.0)
    mask = torch.tensor([1.0, 0, 0, 0.5] + [0.1, 0.9, 0.5, 0, 1, 0.3])
    model.set_mask(mask)
    features = {m: F.normalize(t, dim=1) for m, t in train._dataset.modalities.items()}
    masked = dict(zip(features, (f * p for f, p in zip(features.values(), mask.split([4, 6]), strict=True)), strict=True))
    latents = model.latents()
    for name, table in masked.items():
        layer = model.backbone.encoder.linear[name]
        torch.testing.assert_close(latents[name], table @ layer.weight.T + layer.bias)
    graph = model.item_graph(latents)
    edges = {*zip(graph.structure.rows.tolist(), graph.structure.cols.tolist(), strict=True)}
    for table in masked.values():
        rows, cols, _ = cosine_knn(table, 5)
        assert {*zip(rows.tolist(), cols.tolist(), strict=True)} <= edges


def test_a_new_mask_keeps_the_parameters_objects_and_starts_them_anew(short):
    _, model, _, _, _ = short()
    parameters = dict(model.named_parameters())
    first = {name: p.detach().clone() for name, p in parameters.items()}
    with torch.no_grad():
        for p in parameters.values():
            p.add_(1.0)
    state = torch.get_rng_state()
    model.set_mask(torch.full_like(model.mask, 0.5))
    assert torch.equal(state, torch.get_rng_state())
    for name, p in model.named_parameters():
        assert p is parameters[name]
        if "features" not in name:
            torch.testing.assert_close(p.detach(), first[name], msg=name)


def test_an_even_mask_leaves_the_graph_as_it_is(short):
    _, model, _, _, _ = short(static_weight=1.0)
    # the learned part, which the biases move, weighs 0
    before = dense(model.item_graph(model.latents()))
    model.set_mask(torch.full_like(model.mask, 0.5))
    torch.testing.assert_close(before, dense(model.item_graph(model.latents())))


# -- a run ------------------------------------------------------------------------------------------------------------


def test_fit_learns_the_mask_once_and_trains_what_the_optimizer_holds(short):
    config, model, train, valid, _ = short(epochs=1, mask_epochs=3, mask_learning_rate=0.05)
    trainer = trainer_of(config, model)
    assert type(trainer) is InvRLTrainer
    trainer.fit(train, valid, verbose=False, saved=False)
    mask = model.mask.clone()
    assert bool(model.mask_learned)
    assert 0 <= float(mask.min()) <= float(mask.max()) <= 1
    assert len(mask.unique()) > 1
    held = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}
    assert all(p.requires_grad for p in model.parameters())
    trainer.fit(train, valid, verbose=False, saved=False)
    assert torch.equal(model.mask, mask)


def test_a_resumed_run_keeps_the_mask_and_reaches_the_same_numbers(short):
    whole = {}
    for epochs in (2, 4):
        config, model, train, valid, _ = short(epochs=epochs, stopping_step=100)
        trainer = trainer_of(config, model)
        trainer.fit(train, valid, verbose=False)
        whole[epochs] = (trainer, scores_of(model, config, torch.arange(1, 9)), model.mask.clone())
    config, model, train, valid, _ = short(epochs=4, stopping_step=100)
    trainer = trainer_of(config, model)
    trainer.resume_checkpoint(last_path(whole[2][0].saved_model_file))
    trainer.learn_mask = None  # must not be called
    trainer.fit(train, valid, verbose=False)
    assert torch.equal(model.mask, whole[4][2])
    assert torch.equal(scores_of(model, config, torch.arange(1, 9)), whole[4][1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_environments": 0}, "n_environments is 0; it takes a whole number, 1 or more"),
        ({"invrl_rounds": 0}, "invrl_rounds is 0; it takes a whole number, 1 or more"),
        ({"mask_epochs": 0}, "mask_epochs is 0"),
        ({"item_graph": "frozen"}, "set item_graph: learned"),
    ],
)
def test_wrong_settings(short, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        short(**settings)


def test_more_environments_than_interactions(short):
    config, model, train, _, _ = short(backbone="VBPR", n_environments=10_000)
    with pytest.raises(ConfigurationError, match=r"more than the .* training interactions"):
        trainer_of(config, model).fit(train, None, verbose=False, saved=False)


# -- what it is for ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.01, 1.0])
def test_a_feature_that_predicts_in_one_environment_alone_gets_the_lower_mask(short, tmp_path, alpha):
    """Both blocks tell the item's group, ``spurious`` for the items of the first environment only."""
    rng = np.random.default_rng(0)
    n_users, n_items, groups = 120, 80, 4
    item_group, user_group = np.arange(n_items) % groups, np.arange(n_users) % groups
    taken = rng.random((n_users, n_items)) < np.where(user_group[:, None] == item_group, 0.5, 0.03)
    first = np.arange(n_items) < n_items // 2
    spurious = np.where(first, item_group, rng.integers(0, groups, n_items))
    blocks = {
        name: np.eye(groups)[code] + 0.1 * rng.standard_normal((n_items, groups))
        for name, code in (("invariant", item_group), ("spurious", spurious))
    }
    path = write_dataset(tmp_path / "data", "blocks", list(zip(*np.nonzero(taken), strict=True)), blocks)
    config, model, train, _, _ = short(
        dataset="blocks", data_path=str(path), backbone="VBPR", embedding_size=16, learning_rate=0.01, train_batch_size=512,
        mask_epochs=40, mask_learning_rate=0.02,
    )  # fmt: skip
    trainer = trainer_of(config, model)
    backbone = model.fresh_backbone()
    trainer._train_backbone(backbone, trainer._loader(train), 20)
    tokens = train._dataset.field2id_token["item_id"]
    second = torch.tensor([False] + [not first[int(t[1:])] for t in tokens[1:]])
    labels = second[train._dataset.inter_feat["item_id"]].long()
    invariant, variant = trainer._fit_mask(train, backbone, labels, alpha, 0.1, "test").split(groups)
    assert float(invariant.min()) > float(variant.max())
    assert float(invariant.mean()) > float(variant.mean()) + 0.25


def test_scores_in_evaluation_have_no_noise(short):
    config, model, _, _, _ = short(mask_noise=0.5)
    model.set_mask(torch.full_like(model.mask, 0.5))
    users = Interaction({"user_id": torch.arange(1, 5)})
    before = scores_of(model, config, users["user_id"])
    model.train()
    assert torch.equal(before, scores_of(model, config, users["user_id"]))

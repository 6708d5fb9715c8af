import re
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recbole_ib.config.declared import declared_keys
from recbole_ib.config.serialize import plain_config, quoted
from recbole_ib.errors import CheckpointError, ConfigurationError
from recbole_ib.model.backbones.vbpr import VBPR
from recbole_ib.training.checkpoint import checkpoint_path, last_path, read_checkpoint, write_checkpoint
from recbole_ib.training.resume import FREE_KEYS, LATER_KEYS
from recbole_ib.training.trainer import MultimodalTrainer
from tests.support.datasets import planted, write_dataset
from tests.support.training import run


@pytest.mark.parametrize("name", ["IBMRec", "LATTICE", "VBPR", "IBMRecLATTICE"])
def test_a_resumed_run_gives_the_numbers_of_an_uninterrupted_one(build, name):
    whole, expected, weights = run(build, name, 6)
    first, _, _ = run(build, name, 3)
    resumed, got, again = run(build, name, 6, resume=last_path(first.saved_model_file))
    assert got == expected
    assert resumed.train_loss_dict == whole.train_loss_dict
    assert resumed.best_valid_score == whole.best_valid_score
    assert resumed.best_valid_result == whole.best_valid_result
    assert resumed.cur_step == whole.cur_step
    assert all(torch.equal(weights[k], again[k]) for k in weights)


def test_resuming_from_the_best_epoch_gives_the_same_numbers_too(build):
    whole, expected, _ = run(build, "IBMRec", 6)
    first, _, _ = run(build, "IBMRec", 3)
    resumed, got, _ = run(build, "IBMRec", 6, resume=first.saved_model_file)
    assert got == expected
    assert resumed.best_valid_result == whole.best_valid_result


def test_a_run_that_had_ended_does_not_train_again(build):
    first, expected, _ = run(build, "VBPR", 3)
    before = Path(first.saved_model_file).read_bytes()
    resumed, got, _ = run(build, "VBPR", 3, resume=last_path(first.saved_model_file))
    assert got == expected
    assert resumed.best_valid_result == first.best_valid_result
    assert Path(first.saved_model_file).read_bytes() == before


def test_checkpoints_load_without_pickle_and_say_what_they_are(build):
    trainer, _, _ = run(build, "IBMRec", 2, fib_weight=0.7)
    state = torch.load(trainer.saved_model_file, weights_only=True)
    assert (state["model"], state["dataset"]) == ("IBMRec", "planted")
    assert set(state["optimizers"]) == {"L_1", "L_2"}
    assert state["config"]["fib_weight"] == 0.7
    best = {k: float(v) for k, v in trainer.best_valid_result.items()}
    assert read_checkpoint(trainer.saved_model_file)["best_valid_result"] == best
    assert read_checkpoint(last_path(trainer.saved_model_file))["epoch"] == 1


def test_save_last_off_leaves_the_best_epoch_alone(build):
    trainer, _, _ = run(build, "VBPR", 2, save_last=False)
    assert [p.name for p in Path("saved").iterdir()] == [Path(trainer.saved_model_file).name]


def test_runs_of_one_second_have_different_names():
    assert len({checkpoint_path("saved", "IBMRec", "ml-100k") for _ in range(50)}) == 50


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.pth"
    write_checkpoint({"epoch": 1}, path)
    with pytest.raises((AttributeError, TypeError)):
        write_checkpoint({"epoch": threading.Lock()}, path)
    assert read_checkpoint(path)["epoch"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.pth"]


@pytest.mark.parametrize(
    ("content", "message"), [(None, "there is no checkpoint"), (b"", "damaged"), (b"PK\x03\x04 half a file", "damaged")]
)
def test_unreadable_checkpoints_are_named(tmp_path, content, message):
    path = tmp_path / "broken.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{message}.*|.*broken\.pth.*{message}") as error:
        read_checkpoint(path)
    assert "broken.pth" in str(error.value)


def test_truncated_checkpoint(build):
    trainer, _, _ = run(build, "VBPR", 1)
    path = Path(trainer.saved_model_file)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)


def test_another_files_format_is_named(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="format None"):
        read_checkpoint(tmp_path / "x.pth")


def test_resuming_with_another_model_or_setting_is_refused(build):
    first, _, _ = run(build, "VBPR", 1)
    with pytest.raises(CheckpointError, match="of the model 'VBPR', this run of 'VLightGCN'"):
        run(build, "VLightGCN", 2, resume=first.saved_model_file)
    with pytest.raises(CheckpointError, match=r"reg_weight: 1\.0 then, 0\.5 now"):
        run(build, "VBPR", 2, resume=first.saved_model_file, reg_weight=0.5)


def test_the_last_epochs_file_needs_the_best_ones(build):
    first, _, _ = run(build, "VBPR", 1)
    last = last_path(first.saved_model_file)
    Path(first.saved_model_file).unlink()
    with pytest.raises(CheckpointError, match="best epoch's file"):
        run(build, "VBPR", 2, resume=last)


def test_losses_appear_by_name_in_the_log_the_bar_and_tensorboard(build, capsys, caplog):
    config, model, train, valid, _ = build("IBMRec", epochs=1)
    trainer = MultimodalTrainer(config, model)
    with caplog.at_level("INFO"):
        trainer.fit(train, valid, saved=False, show_progress=True)
    terms = ("bpr", "reg", "fib", "gib", "contrastive")
    line = next(r.getMessage() for r in caplog.records if "epoch 0 training" in r.getMessage())
    bar = capsys.readouterr().err
    trainer.tensorboard.flush()
    events = EventAccumulator(trainer.tensorboard.log_dir)
    events.Reload()
    for term in terms:
        assert re.search(rf"{term}\S*: \d", line)
        assert f"{term}/batch=" in bar
        assert events.Scalars(f"Loss/Train/{term}")[0].value > 0


def test_one_phase_trains_as_recboles_trainer(build):
    """The same losses as RecBole's own Trainer and Adam, within float error."""
    from recbole.trainer import Trainer

    losses = []
    for trainer_class in (MultimodalTrainer, Trainer):
        config, model, train, _, _ = build("VLightGCN", epochs=3)
        trainer = trainer_class(config, model)
        trainer.fit(train, None, verbose=False, saved=False)
        losses.append(list(trainer.train_loss_dict.values()))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_a_loss_that_is_not_finite_is_named(build):
    config, model, train, _, _ = build("IBMRec", epochs=1)
    with torch.no_grad():
        model.item_embedding.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="phase L_1 is not finite: bpr = nan"):
        MultimodalTrainer(config, model).fit(train, None, verbose=False, saved=False)


def test_on_another_device_a_loss_that_is_not_finite_is_named_after_its_epoch(build, monkeypatch):
    config, model, train, valid, _ = build("IBMRec", epochs=2)
    whole, loss = [], model.calculate_loss

    def broken_in_the_second_batch(interaction):
        whole.append(len(interaction))
        factor = float("inf") if len(whole) == 2 else 1.0
        losses = loss(interaction)
        return type(losses)({name: value * factor for name, value in zip(losses.names, losses, strict=True)})

    monkeypatch.setattr(model, "calculate_loss", broken_in_the_second_batch)
    trainer = MultimodalTrainer(config, model)
    trainer._checks_every_step = False
    with pytest.raises(
        ValueError, match=r"phase L_1 is not finite in the mean of epoch 0: bpr = (inf|nan), .*lower learning_rate"
    ):
        trainer.fit(train, valid, verbose=False)
    assert len(whole) == len(train) > 2
    assert not Path(trainer.saved_model_file).exists()


def test_clip_grad_norm_is_honored(build):
    config, model, train, _, _ = build("VBPR", clip_grad_norm={"max_norm": 1e-12}, learner="sgd")
    before = model.item_embedding.weight.detach().clone()
    MultimodalTrainer(config, model)._train_epoch(train, 0)
    torch.testing.assert_close(before, model.item_embedding.weight.detach(), atol=1e-10, rtol=0)


def test_several_processes_are_refused(build):
    config, model, _, _, _ = build("VBPR")
    config["single_spec"] = False
    with pytest.raises(ConfigurationError, match="one process"):
        MultimodalTrainer(config, model)


def test_recboles_full_ranking_equals_a_naive_one(build):
    """Recall, Precision and NDCG at 10 by the definitions, with training and validation items masked."""
    trainer, result, _ = run(build, "IBMRec", 2)
    model = trainer.model
    _, _, train, valid, test = build("IBMRec")
    taken = sum(d._dataset.inter_matrix(form="csr").toarray() for d in (train, valid)) > 0
    wanted = test._dataset.inter_matrix(form="csr").toarray() > 0
    model.eval()
    recalls, precisions, ndcgs = [], [], []
    for user in np.flatnonzero(wanted.any(1)):
        scores = model.full_sort_predict(Interaction({"user_id": torch.tensor([user])})).numpy().copy()
        scores[taken[user] | (np.arange(len(scores)) == 0)] = -np.inf
        hits = wanted[user][np.argsort(-scores)[:10]]
        gains = 1 / np.log2(np.arange(2, 12))
        recalls.append(hits.sum() / wanted[user].sum())
        precisions.append(hits.sum() / 10)
        ndcgs.append((hits * gains).sum() / gains[: min(10, wanted[user].sum())].sum())
    for name, values in (("recall", recalls), ("precision", precisions), ("ndcg", ndcgs)):
        assert float(result[f"{name}@10"]) == pytest.approx(np.mean(values), abs=6e-5)


class Plain(VBPR):
    """A user's own model: a frozen parameter, and losses without names."""

    losses = "tuple"

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.frozen = torch.nn.Parameter(torch.ones(1), requires_grad=False)

    def calculate_loss(self, interaction):
        terms = tuple(super().calculate_loss(interaction))
        return terms if self.losses == "tuple" else sum(terms)


@pytest.mark.parametrize(("kind", "names"), [("tuple", ("loss_1", "loss_2")), ("scalar", ("loss",))])
def test_what_recbole_lets_a_model_return_is_accepted(build, kind, names):
    config, _, train, _, _ = build("VBPR")
    model = Plain(config, train._dataset)
    model.losses = kind
    assert MultimodalTrainer(config, model)._train_epoch(train, 0).names == names


def test_every_phase_trains_its_own_parameters(build):
    """Also the first one: a critic's step must not move the model."""
    config, model, _, _, _ = build("IBMRec")
    first, second = model.phases()
    assert [first.name, second.name] == ["L_1", "L_2"]
    model.phases = lambda: [second, first]
    trainer = MultimodalTrainer(config, model)
    assert list(trainer.optimizers) == ["L_2", "L_1"]
    sizes = {n: sum(p.numel() for g in o.param_groups for p in g["params"]) for n, o in trainer.optimizers.items()}
    assert sizes["L_2"] == sum(p.numel() for p in model.user_content().parameters())
    assert sizes["L_1"] == sum(p.numel() for p in model.parameters())
    # RecBole's one optimizer is that of the model's loss
    assert trainer.optimizer is trainer.optimizers["L_1"]


def test_weight_decay_is_applied_once_a_batch(build):
    config, model, _, _, _ = build("IBMRec", weight_decay=0.1)
    decays = {n: o.param_groups[0]["weight_decay"] for n, o in MultimodalTrainer(config, model).optimizers.items()}
    assert decays == {"L_1": 0.1, "L_2": 0.0}


def test_learning_rate_decays_by_epoch(build):
    config, model, train, _, _ = build("LATTICE", learning_rate=0.01, learning_rate_decay=0.5)
    trainer = MultimodalTrainer(config, model)
    trainer._train_epoch(train, 25)
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * 0.5**0.5)


def test_a_renamed_last_checkpoint_is_still_the_last_one(build):
    whole, expected, _ = run(build, "IBMRec", 6, learning_rate=0.05)
    first, _, _ = run(build, "IBMRec", 4, learning_rate=0.05)
    renamed = Path("saved") / "mine.pth"
    renamed.write_bytes(last_path(first.saved_model_file).read_bytes())
    resumed, got, _ = run(build, "IBMRec", 6, resume=renamed, learning_rate=0.05)
    assert got == expected
    assert resumed.best_valid_result == whole.best_valid_result


def test_resuming_on_other_features_is_refused(build, tmp_path):
    pairs, modalities, _, _ = planted(30, 20)
    path = write_dataset(tmp_path / "data", "other", pairs, modalities)
    settings = {"dataset": "other", "data_path": str(path)}
    first, _, _ = run(build, "VBPR", 1, **settings)
    np.save(path / "other" / "visual.npy", -modalities["visual"].astype(np.float32))
    with pytest.raises(CheckpointError, match="other features"):
        run(build, "VBPR", 2, resume=first.saved_model_file, **settings)
    np.save(path / "other" / "visual.npy", modalities["visual"][:, :2].astype(np.float32))
    with pytest.raises(CheckpointError, match="does not fit this model"):
        run(build, "VBPR", 2, resume=first.saved_model_file, **settings)


@pytest.mark.parametrize(
    ("name", "others_now"),
    [
        ("VLATTICE", set()),
        ("VLATTICE+fib+gib", {"fib_estimator", "contrastive_negatives", "gate_self_loops", "hsic_items"}),
        ("VLATTICE+mrdib", {"rate_estimator", "kl_reduction", "noise_input", "unique_likelihood", "hsic_items"}),
    ],
)
def test_a_checkpoint_from_before_a_setting_is_resumed_with_its_old_meaning(build, name, others_now):
    today = plain_config(build(name)[0])
    later = {key: value for key, value in LATER_KEYS.items() if key in today}
    assert others_now <= set(later)
    first, _, _ = run(build, name, 1, **quoted(later))
    state = torch.load(first.saved_model_file, weights_only=True)
    for key in later:
        assert state["config"].pop(key) == LATER_KEYS[key]
    torch.save(state, first.saved_model_file)
    run(build, name, 2, resume=first.saved_model_file, **quoted(later))
    with pytest.raises(CheckpointError, match="feature_dtype: 'float32' then, 'float16' now"):
        run(build, name, 2, resume=first.saved_model_file, **{**quoted(later), "feature_dtype": "float16"})
    # a default that is another one now is another run's, but for the keys that may change
    assert {key for key, value in later.items() if today[key] != value} - FREE_KEYS == others_now
    if others_now:
        with pytest.raises(CheckpointError) as refusal:
            run(build, name, 2, resume=first.saved_model_file)
        for key in others_now:
            assert f"{key}: {LATER_KEYS[key]!r} then, {today[key]!r} now" in str(refusal.value)


def test_every_later_key_is_one_that_something_reads():
    assert set(LATER_KEYS) <= declared_keys()


def test_the_memory_for_kernels_may_change_between_a_run_and_its_continuation(build):
    first, _, _ = run(build, "IBMRecWoGIB", 1)
    state = torch.load(first.saved_model_file, weights_only=True)
    del state["config"]["kernel_memory"]  # as before the setting
    torch.save(state, first.saved_model_file)
    run(build, "IBMRecWoGIB", 2, resume=first.saved_model_file, kernel_memory=0)


def test_a_run_with_saved_dataloaders_is_not_resumed(build):
    first, _, _ = run(build, "VBPR", 1)
    with pytest.raises(CheckpointError, match="saved dataloaders"):
        run(build, "VBPR", 2, resume=first.saved_model_file, save_dataloaders=True)

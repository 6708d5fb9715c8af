"""How long a run waits for a better epoch: evaluations and training batches, both; and what is said of one that was cut."""

from __future__ import annotations

import pytest
import torch
from recbole.trainer import Trainer
from recbole.utils import get_trainer

from recbole_ib import run_recbole_ib
from recbole_ib.training.checkpoint import last_path
from recbole_ib.training.manifest import read_manifest
from recbole_ib.training.patience import how_it_ended, patience
from recbole_ib.training.trainer import MultimodalTrainer
from tests.support.training import run

#: the planted data have 3 batches of 256
BATCHES = 3
SETTINGS = {"stopping_step": 2, "stopping_batches": 4 * BATCHES + 1, "epochs": 30}
CUT = "Training was cut"


@pytest.fixture
def falling(monkeypatch):
    """Every evaluation is worse than the one before."""
    monkeypatch.setattr(Trainer, "_valid_epoch", lambda self, *_, **__: (-len(self.train_loss_dict), {"recall@20": 0.0}))


@pytest.fixture
def complete(planted_path):
    """``complete(model, **settings)``: the result and the manifest of a whole run."""

    def make(model, **settings):
        base = {"data_path": str(planted_path), "train_batch_size": 256, "use_gpu": False, "show_progress": False, "epochs": 30}
        result = run_recbole_ib(model, "planted", config_dict={**base, **settings})
        return result, read_manifest(result["manifest"])

    return make


@pytest.mark.parametrize(
    ("evaluations", "stopping_step", "stopping_batches", "epoch_batches", "eval_step"),
    [
        (59, 10, 1000, 17, 1),
        (46, 10, 1000, 22, 1),
        (23, 10, 1000, 22, 2),
        (20, 20, 1000, 60, 1),
        (10, 10, 1000, 100, 1),
        (10, 10, 1000, 99999, 1),
        (1000, 10, 1000, 1, 1),
        (5, 0, 5, 1, 1),
        (10, 10, 0, 17, 1),
        (0, 0, 0, 17, 1),
        (10, 10, 1000, 17, 0),  # never evaluated
        (10, 10, 1000, 17, -1),
        (10, 10, 1000, 0, 1),
    ],
)
def test_patience(evaluations, stopping_step, stopping_batches, epoch_batches, eval_step):
    assert patience(stopping_step, stopping_batches, epoch_batches, eval_step) == evaluations


@pytest.mark.parametrize("model", ["VBPR", "BPR"])
@pytest.mark.parametrize(
    ("settings", "evaluations", "epochs"),
    [
        ({}, 5, 7),  # the best one, and 5 that it survives, and the last straw
        ({"stopping_batches": 0}, 2, 4),
        ({"stopping_step": 6}, 6, 8),
        ({"eval_step": 2}, 3, 10),
    ],
)
def test_a_run_goes_on_until_both_have_passed(model, settings, evaluations, epochs, falling, complete, caplog):
    with caplog.at_level("INFO"):
        _, manifest = complete(model, **{**SETTINGS, **settings})
    result = manifest["result"]
    assert (result["ended"], result["patience"], result["epochs"]) == ("patience", evaluations, epochs)
    assert manifest["config"]["stopping_step"] == {**SETTINGS, **settings}["stopping_step"], "as the user wrote it"
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith(("patience:", CUT))]
    given = f"stopping_step {manifest['config']['stopping_step']}, stopping_batches 13 of 3 batches an epoch"
    assert lines == ([] if "stopping_batches" in settings else [f"patience: {evaluations} evaluations ({given})"])


@pytest.mark.parametrize(("model", "settings"), [("VBPR", {}), ("BPR", {}), ("BPR", {"stopping_step": 2})])
def test_by_default_a_small_set_trains_for_1000_batches(model, settings, falling, complete):
    _, manifest = complete(model, epochs=15, **settings)
    assert (manifest["result"]["epochs"], manifest["result"]["patience"]) == (15, 334)


def test_defaults_recbole_keep_recboles_rule(falling, complete):
    _, manifest = complete("BPR", defaults="recbole", stopping_step=2, train_neg_sample_args={"distribution": "uniform"})
    assert (manifest["result"]["epochs"], manifest["result"]["patience"]) == (4, 2)


def test_it_holds_under_recboles_own_entry_point_too(falling, build):
    config, model, train, valid, _ = build("VBPR", **SETTINGS)
    trainer = get_trainer(config["MODEL_TYPE"], "VBPR")(config, model)
    trainer.fit(train, valid, verbose=False, saved=False)
    assert (len(train), len(trainer.train_loss_dict)) == (BATCHES, 7)


# -- resumed runs -----------------------------------------------------------------------------------------------------


def epochs_of(trainer) -> int:
    return len(trainer.train_loss_dict)


def test_a_resumed_run_stops_where_an_uninterrupted_one_does(falling, build):
    first, *_ = run(build, "VBPR", **{**SETTINGS, "epochs": 3})
    resumed, *_ = run(build, "VBPR", **SETTINGS, resume=last_path(first.saved_model_file))
    assert (epochs_of(first), epochs_of(resumed), resumed.cur_step) == (3, 7, 6)


def test_one_that_had_stopped_goes_on_with_more_patience_alone(falling, build, caplog):
    first, *_ = run(build, "VBPR", **SETTINGS)
    last = last_path(first.saved_model_file)
    with caplog.at_level("INFO"):
        again, *_ = run(build, "VBPR", **SETTINGS, resume=last)
    assert epochs_of(again) == 7
    assert "Nothing to continue: it had stopped early" in caplog.text
    more, *_ = run(build, "VBPR", **{**SETTINGS, "stopping_batches": 8 * BATCHES}, resume=last)
    assert epochs_of(more) == 10


def test_a_checkpoint_from_before_it_keeps_its_rule(falling, build, caplog):
    old = {"stopping_step": 2, "epochs": 30}
    first, *_ = run(build, "VBPR", **old, stopping_batches=0)
    last = last_path(first.saved_model_file)
    state = torch.load(last, weights_only=True)
    del state["config"]["stopping_batches"]
    torch.save(state, last)
    with caplog.at_level("INFO"):
        again, *_ = run(build, "VBPR", **old, resume=last)
    assert epochs_of(again) == epochs_of(first) == 4
    assert "The checkpoint is older than stopping_batches" in caplog.text
    more, *_ = run(build, "VBPR", **SETTINGS, resume=last)
    assert epochs_of(more) == 7


# -- what ended it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["VBPR", "BPR"])
@pytest.mark.parametrize(("eval_step", "best"), [(1, 0), (2, 1)])
def test_a_cut_run_is_warned_of(model, eval_step, best, falling, complete, caplog):
    _, manifest = complete(model, epochs=5, eval_step=eval_step)
    assert (manifest["result"]["ended"], manifest["result"]["best_epoch"]) == ("epochs", best)
    (text,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING" and r.getMessage().startswith(CUT)]
    waits = -(-1000 // (BATCHES * eval_step))
    assert text == (
        f"Training was cut at its limit of 5 epochs: epoch {best} is the best so far, and early stopping waits {waits} "
        "evaluations. More epochs could raise it"
    )


def test_a_model_without_epochs_is_not_cut(complete, caplog):
    _, manifest = complete("ItemKNN", epochs=1)
    assert manifest["result"]["ended"] is None
    assert not [r for r in caplog.records if CUT in r.getMessage()]


def test_another_test_of_a_finished_run_is_no_cut(complete, caplog):
    first, _ = complete("VBPR", epochs=2)
    caplog.clear()
    _, manifest = complete("VBPR", epochs=1, resume_checkpoint=str(last_path(first["checkpoint"])))
    assert manifest["result"]["ended"] is None
    assert not [r for r in caplog.records if CUT in r.getMessage()]


def test_what_ended_a_run(build):
    config, model, *_ = build("VBPR", stopping_step=3, epochs=8)
    trainer = MultimodalTrainer(config, model)
    assert [how_it_ended(trainer, waited) for waited in (0, 3, 4)] == ["epochs", "epochs", "patience"]
    trainer.start_epoch = 9  # resumed with fewer epochs
    assert [how_it_ended(trainer, waited) for waited in (3, 4)] == [None, "patience"]

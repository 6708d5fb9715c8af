"""One trial without Ray: its numbers, what it reads, what it leaves, and going on after a kill."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.trainer import Trainer

from recbole_ib import run_recbole_ib
from recbole_ib.data import feature_file
from recbole_ib.data import features as feature_files
from recbole_ib.model.registry import CATALOG
from recbole_ib.tuning import trial as trial_module
from recbole_ib.tuning.shared_dataset import SharedDataset, prepare, read_base_settings
from recbole_ib.tuning.space import parse_space
from recbole_ib.tuning.trial import Job, TrialFailedError, read_record, run_trial

VALUES = {"learning_rate": 0.01, "reg_weight": 1e-3}


def run(job, name="t1", values=VALUES, report=None):
    reports = []
    record = run_trial(job, name, Path(job.folder) / name, values, report or reports.append)
    return record, reports


@pytest.mark.parametrize("model", ["VLATTICE", "IBMRec", "BPR", "LightGCN"])
def test_a_trial_gives_the_numbers_of_a_run(model, make_job, settings, tmp_path):
    values = {"learning_rate": 0.01} if model == "BPR" else VALUES
    job, _ = make_job(model, {key: {"choice": [value]} for key, value in values.items()})
    record, reports = run(job, values=values)
    whole = run_recbole_ib(model, "planted", config_dict={**settings, **values, "checkpoint_dir": str(tmp_path / "saved")})
    assert record.best_score == whole["best_valid_score"]
    manifest = json.loads(Path(whole["manifest"]).read_text())
    assert [p["score"] for p in record.curve] == [p["score"] for p in manifest["curve"]]
    assert record.best_epoch == manifest["result"]["best_epoch"]
    assert (record.status, record.epochs) == ("finished", 3)
    assert [r["epoch"] for r in reports] == [1, 2, 3]
    assert [r["best_score"] for r in reports] == list(np.maximum.accumulate([p["score"] for p in record.curve]))


def test_a_trial_reads_no_feature_file_and_leaves_the_shared_data_as_they_were(make_job, monkeypatch):
    job, _ = make_job()
    before = job.data.digest()
    for values in job.data.features.values():
        values.setflags(write=False)

    def refuse(*args, **kwargs):
        raise AssertionError("a trial read a feature file")

    monkeypatch.setattr(feature_files, "read_table", refuse)
    monkeypatch.setattr(feature_file, "_numpy_load", refuse)
    first, _ = run(job, "t1")
    second, _ = run(job, "t2")
    assert first.best_score == second.best_score
    assert [p["score"] for p in first.curve] == [p["score"] for p in second.curve]
    assert job.data.digest() == before


@pytest.mark.parametrize("model", [*CATALOG, "BPR", "LightGCN", "SGL", "FREEDOM+fib+gib"])
def test_every_model_trains_on_features_that_cannot_be_written(model, settings, tmp_path):
    short = {"pretrain_epochs": 1, "environment_epochs": 1, "mask_epochs": 1, "n_environments": 2, "invrl_rounds": 1}
    given = read_base_settings(model, "planted", config_dict={**settings, "epochs": 1, **(short if model == "InvRL" else {})})
    base = given.config()
    prepared, mapped = prepare(base), {}
    for name, values in prepared.features.items():
        np.save(tmp_path / f"{name}.npy", values)
        # as Ray maps them: writing would end the process
        mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    space = parse_space({"learning_rate": {"choice": [0.01]}}, "test")
    job = Job(given, SharedDataset(prepared.dataset, mapped), space, str(tmp_path / "trials"), threads=1, gpu=False)
    assert run(job, values={"learning_rate": 0.01})[0].status == "finished"


def test_the_features_are_shared_and_not_copied(make_job):
    job, base = make_job()
    made = job.data.copy(base)
    for name, values in job.data.features.items():
        assert made.modalities[name].data_ptr() == values.ctypes.data
    assert made.config is base
    made.inter_feat.iloc[0, 0] = -1
    assert job.data.dataset.inter_feat.iloc[0, 0] != -1


def test_a_trial_never_evaluates_on_the_test_set(make_job, monkeypatch):
    job, _ = make_job()
    seen, original = [], Trainer._valid_epoch

    def watched(self, valid_data, *args, **kwargs):
        seen.append(valid_data)
        return original(self, valid_data, *args, **kwargs)

    made = []
    prepare = trial_module.prepare
    monkeypatch.setattr(trial_module, "prepare", lambda *a, **k: made.append(prepare(*a, **k)) or made[-1])
    monkeypatch.setattr(Trainer, "_valid_epoch", watched)
    run(job)
    (setup,) = made
    assert len(seen) == 3
    assert all(data is setup.valid_data for data in seen)

    def refuse(*args, **kwargs):
        raise AssertionError("the test set was read")

    # any reading of the test loader, by whichever path
    monkeypatch.setattr(trial_module, "prepare", lambda *a, **k: _without_test(prepare(*a, **k), refuse))
    assert run(job, "t2")[0].status == "finished"


def _without_test(setup, refuse):
    class Refusing:
        __iter__ = __len__ = refuse

        def __getattr__(self, name):
            refuse()

    setup.test_data = Refusing()
    return setup


def test_a_finished_trial_only_says_what_it_came_to(make_job, monkeypatch):
    job, _ = make_job()
    record, _ = run(job)
    file = Path(job.folder) / "t1" / "trial.json"
    before = file.stat().st_mtime_ns
    monkeypatch.setattr(trial_module, "prepare", None)
    again, reports = run(job)
    assert again == record
    assert reports == [
        {"epoch": 3, "score": record.curve[-1]["score"], "best_score": record.best_score, "seconds": record.seconds}
    ]
    assert file.stat().st_mtime_ns == before


def test_a_failed_trial_is_recorded_and_not_trained_again(make_job, monkeypatch):
    job, _ = make_job()
    with pytest.raises(ValueError, match=r"learning_rate is -1\.0"):
        run(job, values={"learning_rate": -1.0, "reg_weight": 1e-3})
    record = read_record(Path(job.folder) / "t1")
    assert record.status == "failed"
    assert "Error: " in record.error
    monkeypatch.setattr(trial_module, "prepare", None)
    with pytest.raises(TrialFailedError, match="Error"):
        run(job, values={"learning_rate": -1.0, "reg_weight": 1e-3})


def test_another_trials_folder_of_the_same_name_is_not_taken_for_its_own(make_job):
    job, _ = make_job()
    run(job)
    other = {"learning_rate": 0.001, "reg_weight": 1e-3}
    assert run(job, values=other)[0].values == other


class Killed(BaseException):
    """Stands for a kill: no handler of the trial's sees it."""


@pytest.mark.parametrize("model", ["VLATTICE", "BPR"])
def test_a_killed_trial_goes_on_to_the_same_numbers(model, make_job):
    values = {"learning_rate": 0.01}
    job, _ = make_job(model, {"learning_rate": {"choice": [0.01]}}, epochs=5)
    whole, _ = run(job, "whole", values)

    def kill(result):
        if result["epoch"] == 3:
            raise Killed

    with pytest.raises(Killed):
        run(job, "t1", values, kill)
    record, reports = run(job, "t1", values)
    # RecBole's own models keep no random state: theirs start over
    assert [r["epoch"] for r in reports] == ([4, 5] if model == "VLATTICE" else [1, 2, 3, 4, 5])
    assert [p["score"] for p in record.curve] == [p["score"] for p in whole.curve]
    assert (record.best_score, record.best_epoch, record.starts) == (whole.best_score, whole.best_epoch, 2)
    names = {path.name for path in (Path(job.folder) / "t1").glob("*.pth")}
    assert record.checkpoint in names
    assert len(names) == (2 if model == "VLATTICE" else 1)
    best = torch.load(Path(job.folder) / "t1" / record.checkpoint, weights_only=True)
    other = torch.load(Path(job.folder) / "whole" / whole.checkpoint, weights_only=True)
    assert all(torch.equal(value, other["state_dict"][name]) for name, value in best["state_dict"].items())


def test_a_trial_killed_before_its_first_evaluation_starts_over(make_job):
    job, _ = make_job()
    folder = Path(job.folder) / "t1"
    record, _ = run(job)
    for path in folder.glob("*-last.pth"):
        path.unlink()
    plain = json.loads((folder / "trial.json").read_text())
    (folder / "trial.json").write_text(json.dumps({**plain, "status": "running"}))
    again, reports = run(job)
    assert [r["epoch"] for r in reports] == [1, 2, 3]
    assert [p["score"] for p in again.curve] == [p["score"] for p in record.curve]
    assert len(list(folder.glob("*-last.pth"))) == 1


def test_a_damaged_last_checkpoint_is_started_over(make_job):
    job, _ = make_job()
    folder = Path(job.folder) / "t1"
    record, _ = run(job)
    plain = json.loads((folder / "trial.json").read_text())
    (folder / "trial.json").write_text(json.dumps({**plain, "status": "running"}))
    (last,) = folder.glob("*-last.pth")
    shutil.copyfile(folder / "trial.json", last)
    again, _ = run(job)
    assert again.best_score == record.best_score

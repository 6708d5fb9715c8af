"""The trainings of a comparison: what makes two the same, what is left of a killed or a failed one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from recbole_ib.errors import ConfigurationError
from recbole_ib.experiments.jobs import Resources, make_job, resumable_checkpoint, run_jobs, train
from recbole_ib.training.checkpoint import read_checkpoint, write_checkpoint
from recbole_ib.training.manifest import read_manifest
from tests.support.datasets import planted, write_dataset

SETTINGS = {"epochs": 3, "seed": 1, "learning_rate": 0.01}


@pytest.fixture
def data_path(tmp_path):
    pairs, modalities, *_ = planted()
    return write_dataset(tmp_path / "data", "tiny", pairs, modalities)


def job(data_path, tmp_path, name="VBPR", **changes):
    return make_job(name, "tiny", {**SETTINGS, "data_path": str(data_path), **changes}, tmp_path / "runs")


def test_the_folder_is_named_after_all_that_decides_the_numbers(tmp_path):
    base = make_job("VBPR", "tiny", {"seed": 1, "topk": [5]}, tmp_path)
    assert base.folder == make_job("VBPR", "tiny", {"topk": [5], "seed": 1}, tmp_path).folder
    others = [
        make_job("VBPR", "other", {"seed": 1, "topk": [5]}, tmp_path),
        make_job("BPR", "tiny", {"seed": 1, "topk": [5]}, tmp_path),
        make_job("VBPR", "tiny", {"seed": 2, "topk": [5]}, tmp_path),
        make_job("VBPR", "tiny", {"seed": 1, "topk": [5, 10]}, tmp_path),
    ]
    assert len({base.folder, *(other.folder for other in others)}) == 5
    assert make_job("mmrec:DRAGON", "a", {"seed": 1}, tmp_path).folder.name.startswith("mmrec_DRAGON-seed1-")


@pytest.mark.parametrize("name", ["VBPR", "BPR"])
def test_a_training_leaves_its_manifest_and_the_users_metrics(name, data_path, tmp_path):
    this = job(data_path, tmp_path, name)
    assert this.manifest() is None
    seconds, error = train(this, cpus=1, keep_checkpoints=False)
    assert error is None
    assert seconds > 0
    manifest = read_manifest(this.manifest())
    assert manifest["seed"] == 1
    assert (this.folder / manifest["per_user"]).is_file()
    assert not list(this.folder.glob("*.pth"))
    kept = job(data_path, tmp_path, name, seed=2)
    train(kept, cpus=1, keep_checkpoints=True)
    assert (kept.folder / read_manifest(kept.manifest())["checkpoint"]).is_file()


def test_a_failed_training_leaves_its_error_and_is_trained_again(data_path, tmp_path):
    this = job(data_path, tmp_path)
    moved = tmp_path / "elsewhere"
    shutil.move(data_path, moved)
    _, error = train(this, cpus=1, keep_checkpoints=False)
    assert "there is no data set 'tiny'" in error
    assert this.error() == error
    assert this.manifest() is None
    shutil.move(moved, data_path)
    assert train(this, cpus=1, keep_checkpoints=False)[1] is None
    assert this.manifest() is not None
    assert this.error() is None


def test_a_killed_training_continues_to_the_same_numbers(data_path, tmp_path, monkeypatch):
    from recbole_ib.training.trainer import MultimodalTrainer

    whole = job(data_path, tmp_path, epochs=6)
    train(whole, cpus=1, keep_checkpoints=False)
    expected = read_manifest(whole.manifest())
    shutil.rmtree(whole.folder)

    epoch_of = MultimodalTrainer._train_epoch

    def killed(self, train_data, epoch_idx, *args, **kwargs):
        if epoch_idx == 4:
            raise KeyboardInterrupt
        return epoch_of(self, train_data, epoch_idx, *args, **kwargs)

    monkeypatch.setattr(MultimodalTrainer, "_train_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        train(whole, cpus=1, keep_checkpoints=False)
    monkeypatch.setattr(MultimodalTrainer, "_train_epoch", epoch_of)
    assert whole.manifest() is None
    assert resumable_checkpoint(whole.folder) is not None
    train(whole, cpus=1, keep_checkpoints=False)
    found = read_manifest(whole.manifest())
    assert found["result"] == expected["result"]
    assert [e["score"] for e in found["curve"]] == [e["score"] for e in expected["curve"]]


@pytest.mark.parametrize("content", [None, b"half"])
def test_a_checkpoint_that_cannot_be_continued_is_no_dead_end(content, data_path, tmp_path):
    this = job(data_path, tmp_path)
    train(this, cpus=1, keep_checkpoints=True)
    this.manifest().unlink()
    last = resumable_checkpoint(this.folder)
    if content is None:
        # of a run with other settings
        state = read_checkpoint(last)
        state["config"]["embedding_size"] = 3
        write_checkpoint(state, last)
    else:
        last.write_bytes(content)
    assert train(this, cpus=1, keep_checkpoints=False)[1] is None
    assert this.manifest() is not None


def test_leftovers_that_cannot_be_continued_are_removed(data_path, tmp_path):
    this = job(data_path, tmp_path, "BPR")
    this.folder.mkdir(parents=True)
    (this.folder / "BPR-tiny-old.pth").write_bytes(b"half")
    assert train(this, cpus=1, keep_checkpoints=True)[1] is None
    assert len(list(this.folder.glob("*.pth"))) == 1


@pytest.mark.slow
def test_more_than_any_machine_has_is_refused(data_path, tmp_path):
    with pytest.raises(ConfigurationError, match=r"cpus-per-run is 1000, and no machine of Ray's has more than"):
        run_jobs([job(data_path, tmp_path)], Resources(cpus=1000), False, lambda *args: None)


@pytest.mark.slow
def test_through_ray_one_that_fails_does_not_stop_the_others(data_path, tmp_path):
    jobs = [job(data_path, tmp_path), job(data_path, tmp_path, use_modalities=["smell"]), job(data_path, tmp_path, "BPR")]
    heard = {}
    run_jobs(jobs, Resources(), False, lambda job, seconds, error: heard.update({job.folder: error}))
    assert [heard[t.folder] is None for t in jobs] == [True, False, True]
    assert [t.manifest() is not None for t in jobs] == [True, False, True]
    assert "smell" in heard[jobs[1].folder]
    assert jobs[1].error() == heard[jobs[1].folder]
    here = Path.cwd()
    assert not (here / "log").exists()

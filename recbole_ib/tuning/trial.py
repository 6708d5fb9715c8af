"""One trial, as a worker runs it.

Train with sampled settings, report every evaluation, never look at the test set.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.trainer.trainer import AbstractTrainer

from recbole_ib.errors import CheckpointError
from recbole_ib.model.registry import is_multimodal
from recbole_ib.training.checkpoint import read_checkpoint
from recbole_ib.training.run import fit, prepare
from recbole_ib.tuning.shared_dataset import BaseSettings, SharedDataset
from recbole_ib.tuning.space import Space, decode
from recbole_ib.utils.files import atomic_write, write_text
from recbole_ib.utils.malloc import tune_malloc
from recbole_ib.utils.ray import apply_resources

#: of the file that holds the best epoch's weights of one of RecBole's own models, whose checkpoints are
#: pickles
WEIGHTS_FORMAT = "recbole_ib weights 1"

QUIET = {"show_progress": False, "state": "ERROR", "save_last": True}


class TrialFailedError(Exception):
    """A trial that failed before: it is not trained again."""


@dataclass(frozen=True)
class Job:
    """Settings that all trials of a search have in common."""

    given: BaseSettings
    data: SharedDataset
    space: Space
    folder: str
    threads: int
    gpu: bool


def trial_settings(values: dict, folder: str | Path) -> dict:
    """Return the changes to the user's settings that make a trial's."""
    return {**values, **QUIET, "checkpoint_dir": str(folder)}


def run_in_worker(sampled: dict, job: Job) -> None:
    """Run a trial in a worker of Ray's."""
    from ray import tune

    context = tune.get_context()
    folder = Path(job.folder) / context.get_trial_id()
    tune_malloc()
    run_trial(job, context.get_trial_id(), folder, decode(job.space, sampled), tune.report, _node())


def _node() -> str:
    import ray

    return ray.get_runtime_context().get_node_id()


def run_trial(
    job: Job, trial_id: str, folder: Path, values: dict, report: Callable[[dict], None], node: str = ""
) -> Record:
    """Train one trial, or go on where it was; one that has ended reports what it came to.

    Raises:
        TrialFailedError: it failed before.
        Exception: whatever training raises, after it is recorded.
    """
    record = read_record(folder)
    if record is not None and record.values != values:
        # the search was killed before it had noted this number: another trial had it
        shutil.rmtree(folder)
        record = None
    if record is not None and record.status in ENDED:
        if record.status == "failed":
            raise TrialFailedError(record.error)
        report(record.report())
        return record
    record = record or Record(trial_id, values)
    record.node, record.pid, record.starts = node, os.getpid(), record.starts + 1
    folder.mkdir(parents=True, exist_ok=True)
    write_record(record, folder)
    try:
        _train(job, folder, record, report)
    except Exception as error:
        record.status, record.error = "failed", f"{type(error).__name__}: {error}"
        write_record(record, folder)
        raise
    return record


def _train(job: Job, folder: Path, record: Record, report: Callable[[dict], None]) -> None:
    config = job.given.config({**trial_settings(record.values, folder), **apply_resources(job.threads)})
    bigger, ours = bool(config["valid_metric_bigger"]), is_multimodal(config.model_class)
    started = time.perf_counter()
    made = prepare(config, dataset=job.data.copy(config))
    trainer = made.trainer
    if not (ours and _resume(trainer, folder, record)):
        record.curve, record.best_score, record.best_epoch, record.epochs, record.seconds = (
            [],
            None,
            None,
            0,
            0.0,
        )
    before, reports = record.seconds, 0

    def evaluated(epoch: int, score: float) -> None:
        nonlocal reports
        record.add(epoch, float(score), before + time.perf_counter() - started, bigger)
        if record.best_epoch == epoch:
            if ours:
                record.checkpoint = Path(trainer.saved_model_file).name
            else:
                record.checkpoint = "weights.pth"
                save_weights(trainer.model, folder / record.checkpoint)
        last = epoch + config["eval_step"] >= config["epochs"] or trainer.cur_step > trainer.stopping_step
        if last:
            # the scheduler may stop it in this very report, where there is nothing left to stop
            record.status = "finished"
        write_record(record, folder)
        reports += 1
        report(record.report())

    # RecBole's own models would be pickled at every better epoch
    fit(made, saved=ours, callback=evaluated)
    record.status, record.seconds = "finished", before + time.perf_counter() - started
    write_record(record, folder)
    if not reports:
        # it had ended when it was killed, before it could say so
        report(record.report())


def _resume(trainer: AbstractTrainer, folder: Path, record: Record) -> bool:
    """Continue from the latest evaluated epoch, where there is one."""
    found = sorted(folder.glob("*-last.pth"), key=lambda path: path.stat().st_mtime)
    for path in reversed(found):
        try:
            trainer.resume_checkpoint(str(path))
        except CheckpointError:
            continue  # killed between its first two files
        # the checkpoint may be one evaluation ahead of the record, which is written after it
        record.curve = [point for point in record.curve if point["epoch"] < trainer.start_epoch]
        record.epochs, record.best_score = trainer.start_epoch, float(trainer.best_valid_score)
        record.checkpoint = Path(trainer.saved_model_file).name
        record.best_epoch = read_checkpoint(trainer.saved_model_file)["epoch"]
        return True
    for path in folder.glob("*.pth"):
        path.unlink()
    return False


def save_weights(model: AbstractRecommender, path: Path) -> None:
    """Write the weights of one of RecBole's own models, as tensors and plain values, whole or not at all."""
    state = {
        "format": WEIGHTS_FORMAT,
        "state_dict": model.state_dict(),
        "other_parameter": model.other_parameter(),
    }
    with atomic_write(path) as scratch:
        torch.save(state, scratch)


def load_weights(model: AbstractRecommender, path: Path) -> None:
    """Load what :func:`save_weights` wrote."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["state_dict"])
    model.load_other_parameter(state["other_parameter"])


def delete_checkpoints(folder: Path, keep: str | None = None) -> None:
    """Delete a trial's weights, but for the file ``keep``."""
    for path in folder.glob("*.pth"):
        if path.name != keep:
            path.unlink(missing_ok=True)


NAME = "trial.json"

#: a trial in one of these states is not trained again
ENDED = ("finished", "stopped", "failed")


@dataclass
class Record:
    """One trial.

    status: running, finished, stopped (by the scheduler) or failed. epochs: how many were trained. best_epoch
    counts from 0, as checkpoints do. curve: ``{"epoch", "score", "seconds"}`` of every evaluation. values:
    the searched settings.
    """

    id: str
    values: dict
    status: str = "running"
    epochs: int = 0
    best_score: float | None = None
    best_epoch: int | None = None
    curve: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    starts: int = 0
    node: str = ""
    pid: int = 0
    checkpoint: str | None = None
    error: str = ""

    def add(self, epoch: int, score: float, seconds: float, bigger: bool) -> None:
        """An evaluation; ``epoch`` counts from 0."""
        self.curve = [
            *(point for point in self.curve if point["epoch"] < epoch),
            {"epoch": epoch, "score": score, "seconds": seconds},
        ]
        self.epochs, self.seconds = epoch + 1, seconds
        # as RecBole's early stopping: of equal scores the later one, whose weights are the ones that are kept
        if self.best_score is None or not better(self.best_score, score, bigger):
            self.best_score, self.best_epoch = score, epoch

    def report(self) -> dict:
        """Return what is reported to Ray: ``epoch`` counts from 1, as schedulers count."""
        last = self.curve[-1]["score"] if self.curve else math.nan
        return {"epoch": self.epochs, "score": last, "best_score": self.best_score, "seconds": self.seconds}


def better(a: float, b: float, bigger: bool) -> bool:
    """Return whether score a is better than b."""
    return a > b if bigger else a < b


def read_record(folder: str | Path) -> Record | None:
    """Return the record of a trial's folder, or None where it has none."""
    path = Path(folder) / NAME
    if not path.is_file():
        return None
    return Record(**json.loads(path.read_text(encoding="utf-8")))


def write_record(record: Record, folder: str | Path) -> None:
    """Write a trial's record into its folder."""
    write_text(Path(folder) / NAME, json.dumps(asdict(record), indent=1) + "\n")

"""One trial, as a worker runs it: train with sampled settings, report every evaluation, never look at the test set."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from recbole_ib.checkpoint import read_checkpoint
from recbole_ib.cluster import use_share
from recbole_ib.errors import CheckpointError
from recbole_ib.memory import keep_freed_memory
from recbole_ib.quick_start import fit, set_up
from recbole_ib.registry import is_ours
from recbole_ib.tuning.record import ENDED, Record, read_record, write_record
from recbole_ib.tuning.shared import Data, Given
from recbole_ib.tuning.space import Space, decode
from recbole_ib.whole import written_whole

#: of the file that holds the best epoch's weights of one of RecBole's own models, whose checkpoints are pickles
WEIGHTS_FORMAT = "recbole_ib weights 1"
QUIET = {"show_progress": False, "state": "ERROR", "save_last": True}


class TrialFailed(Exception):
    """A trial that failed before: it is not trained again."""


@dataclass(frozen=True)
class Job:
    """What is the same for all trials of a search."""

    given: Given
    data: Data
    space: Space
    folder: str
    threads: int
    gpu: bool


def trial_settings(values: dict, folder: str | Path) -> dict:
    """The changes to the user's settings that make a trial's."""
    return {**values, **QUIET, "checkpoint_dir": str(folder)}


def run_in_worker(sampled: dict, job: Job) -> None:
    """What Ray calls in a worker."""
    from ray import tune

    context = tune.get_context()
    folder = Path(job.folder) / context.get_trial_id()
    keep_freed_memory()
    run_trial(job, context.get_trial_id(), folder, decode(job.space, sampled), tune.report, _node())


def _node() -> str:
    import ray

    return ray.get_runtime_context().get_node_id()


def run_trial(job: Job, trial_id: str, folder: Path, values: dict, report: Callable[[dict], None], node: str = "") -> Record:
    """Train one trial, or go on where it was; one that has ended reports what it came to.

    Raises:
        TrialFailed: it failed before.
        Exception: whatever training raises, after it is recorded.
    """
    record = read_record(folder)
    if record is not None and record.values != values:
        # the search was killed before it had noted this number: another trial had it
        shutil.rmtree(folder)
        record = None
    if record is not None and record.status in ENDED:
        if record.status == "failed":
            raise TrialFailed(record.error)
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
    config = job.given.config({**trial_settings(record.values, folder), **use_share(job.threads)})
    bigger, ours = bool(config["valid_metric_bigger"]), is_ours(config.model_class)
    started = time.perf_counter()
    made = set_up(config, dataset=job.data.copy(config))
    trainer = made.trainer
    if not (ours and _resume(trainer, folder, record)):
        record.curve, record.best_score, record.best_epoch, record.epochs, record.seconds = [], None, None, 0, 0.0
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


def _resume(trainer, folder: Path, record: Record) -> bool:
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


def save_weights(model, path: Path) -> None:
    """The weights of one of RecBole's own models, as tensors and plain values, written whole or not at all."""
    state = {"format": WEIGHTS_FORMAT, "state_dict": model.state_dict(), "other_parameter": model.other_parameter()}
    with written_whole(path) as scratch:
        torch.save(state, scratch)


def load_weights(model, path: Path) -> None:
    """Read what :func:`save_weights` wrote."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["state_dict"])
    model.load_other_parameter(state["other_parameter"])


def delete_checkpoints(folder: Path, keep: str | None = None) -> None:
    """Delete a trial's weights, but for the file ``keep``."""
    for path in folder.glob("*.pth"):
        if path.name != keep:
            path.unlink(missing_ok=True)

"""One run of a comparison, and the table of all that are done."""

from __future__ import annotations

import csv
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path

from recbole_ib.experiments.model_spec import candidate_text
from recbole_ib.utils.files import atomic_write
from recbole_ib.utils.ray import chdir

#: the columns that every row has, first; metrics and probe columns follow
HEAD = (
    "model", "candidate", "noise", "level", "seed", "dataset", "error", "best_epoch", "best_valid_score", "valid_score_bigger", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One training of a grid.

    model: the model_spec's text; name: what is trained; candidate: its own settings; settings: those of all runs; data: what the data
    set was made from, so that a change makes another run; truth: the planted data set's folder, to probe the latents.
    """

    model: str
    name: str
    candidate: dict
    settings: dict
    noise: str
    level: float
    seed: int
    dataset: str
    data_path: str
    data: dict
    truth: str | None = None

    @property
    def identity(self) -> str:
        """Everything that decides the numbers, as one text: two runs with the same one are the same run."""
        parts = {
            "name": self.name,
            "candidate": self.candidate,
            "settings": self.settings,
            "noise": self.noise,
            "level": float(self.level),
            "seed": self.seed,
            "data": self.data,
        }
        return json.dumps(parts, sort_keys=True, default=str)

    def config(self) -> dict:
        """The settings that the run is trained with; a candidate's own win over those of all runs."""
        # RecBole rounds metrics to four digits, coarser than what paired tests compare
        silenced = {"show_progress": False, "state": "ERROR", "save_last": False, "metric_decimal_place": 12}
        return {**silenced, **self.settings, **self.candidate, "data_path": self.data_path, "seed": self.seed}


def execute(run: Run) -> dict:
    """Train, test and probe one run; what went wrong stands in the column ``error``.

    Returns:
        A row of runs.csv: :data:`HEAD`, ``valid_*`` and ``test_*`` metrics, probe columns, and ``identity``.
    """
    row = {
        "model": run.model,
        "candidate": candidate_text(run.candidate),
        "noise": run.noise,
        "level": float(run.level),
        "seed": run.seed,
        "dataset": run.dataset,
        "identity": run.identity,
        "error": "",
    }
    started = time.perf_counter()
    try:
        row.update(_train(run))
    except Exception as error:
        # one failing model must not take the rest of a long grid with it
        row["error"] = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    return {**row, "seconds": time.perf_counter() - started}


def _train(run: Run) -> dict:
    from recbole_ib.experiments.robustness.linear_probe import probe_checkpoint
    from recbole_ib.model.registry import is_multimodal
    from recbole_ib.training.run import run_recbole_ib

    # RecBole writes log/, log_tensorboard/ and saved/ into the working directory
    with tempfile.TemporaryDirectory(prefix="robustness-") as scratch, chdir(scratch):
        result = run_recbole_ib(run.name, run.dataset, None, run.config(), saved=True)
        row = {
            "best_valid_score": result["best_valid_score"],
            "valid_score_bigger": result["valid_score_bigger"],
            **{f"valid_{name}": value for name, value in (result["best_valid_result"] or {}).items()},
            **{f"test_{name}": value for name, value in result["test_result"].items()},
        }
        if is_multimodal(_model_class(run)):
            from recbole_ib.training.checkpoint import read_checkpoint

            row["best_epoch"] = read_checkpoint(result["checkpoint"])["epoch"]
            if run.truth is not None:
                row.update(probe_checkpoint(result["checkpoint"], run.truth))
    return row


def _model_class(run: Run) -> type:
    from recbole_ib.config.config import Config

    return Config(run.name, run.dataset, None, run.config()).model_class


def run_all(runs: list[Run], jobs: int, done: Callable[[Run, dict], None]) -> None:
    """Execute runs, ``jobs`` at a time in processes of one thread each (here, where it is one), and hand over every row as it comes."""
    if jobs == 1:
        for run in runs:
            done(run, execute(run))
        return
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # read once, when a process imports numpy and torch
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_start_worker)
    try:
        futures = {pool.submit(execute, run): run for run in runs}
        for future in as_completed(futures):
            run, error = futures[future], future.exception()
            row = future.result() if error is None else _lost(run, error)
            done(run, row)
    finally:
        pool.shutdown(cancel_futures=True)
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _start_worker() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    import recbole_ib  # noqa: F401  (registers the models)

    torch.set_num_threads(1)


def _end_with_parent() -> None:
    """A worker whose command was killed would train on for nobody."""
    wait([parent_process().sentinel])
    os._exit(1)


def _lost(run: Run, error: BaseException) -> dict:
    """The row of a run whose process ended without an answer, as one that ran out of memory does."""
    row = {"model": run.model, "candidate": candidate_text(run.candidate), "noise": run.noise, "level": float(run.level)}
    row |= {"seed": run.seed, "dataset": run.dataset, "identity": run.identity, "seconds": 0.0}
    return {**row, "error": f"the process of this run ended: {type(error).__name__}: {error}"}


class RunTable:
    """``runs.csv``: one row a run, the whole file written anew after each, with all digits of every number."""

    def __init__(self, path: Path, fresh: bool = False):
        self.path = path
        self.rows: dict[str, dict] = {}
        if path.is_file() and not fresh:
            with path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    self.rows[row["identity"]] = {key: _read(key, value) for key, value in row.items() if value != ""}

    def finished(self, run: Run) -> bool:
        """Is this very run in the table, without an error?"""
        row = self.rows.get(run.identity)
        return row is not None and not row.get("error")

    def of(self, runs: list[Run]) -> list[dict]:
        """The rows of these runs that are there, under the models' present names."""
        return [{**self.rows[run.identity], "model": run.model} for run in runs if run.identity in self.rows]

    def add(self, row: dict) -> None:
        self.rows[row["identity"]] = row
        rest = dict.fromkeys(key for row in self.rows.values() for key in row if key not in HEAD and key != "identity")
        columns = [*HEAD, *rest, "identity"]
        with atomic_write(self.path) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            # repr keeps every digit of a float
            writer.writerows({k: repr(v) if isinstance(v, float) else v for k, v in row.items()} for row in self.rows.values())


#: columns that are text, whatever they look like
TEXTS = ("model", "candidate", "noise", "dataset", "error", "identity")


def _read(key: str, value: str):
    if key in TEXTS:
        return value
    if value in ("True", "False"):
        return value == "True"
    return int(value) if key in ("seed", "best_epoch") else float(value)

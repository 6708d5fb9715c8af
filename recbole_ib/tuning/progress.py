"""Terminal output of a search, and the fate of a trial's files when it ends."""

# ruff: noqa: ARG002  (the signatures are Ray's)
from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from ray.tune import Callback  # noqa: TID253  (this module is imported when a search runs)

from recbole_ib.tuning.trial import ENDED, Record, better, delete_checkpoints, read_record, write_record
from recbole_ib.tuning.trials_table import ranked, values_text

#: seconds between two status lines on a terminal, and in a log file
TERMINAL_EVERY, LOG_EVERY = 1.0, 30.0


class Progress(Callback):
    """Lines when a trial starts, ends, fails or is stopped, and a status line from time to time.

    Ray keeps it with the search and takes it out again when that is resumed: what it counts, it reads from
    the trials' folders.
    """

    def __init__(self, folder: str, total: int, bigger: bool, metric: str, keep_checkpoints: bool):
        self.folder, self.total, self.bigger, self.metric, self.keep = (
            folder,
            total,
            bigger,
            metric,
            keep_checkpoints,
        )
        self._begin()

    def _begin(self) -> None:
        self.best: tuple[float, str] | None = None
        self.started, self.spoken, self.width = time.monotonic(), 0.0, 0
        self.running: set[str] = set()
        self.ended: set[str] = set()
        self.failed: set[str] = set()

    def __getstate__(self) -> dict:
        return {key: self.__dict__[key] for key in ("folder", "total", "bigger", "metric", "keep")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._begin()

    # -- Ray calls these -------------------------------------------------------------------------------------

    def setup(self, *args: Any, **info: Any) -> None:
        """Read from the trials' folders what has ended before."""
        self._begin()
        for path in sorted(Path(self.folder).glob("*/trial.json")):
            record = read_record(path.parent)
            if record is not None and record.status in ("finished", "stopped"):
                self.ended.add(record.id)
                self._note_best(record)

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Say that a trial starts, or goes on."""
        self.running.add(trial.trial_id)
        known = read_record(Path(self.folder) / trial.trial_id)
        if known is not None and known.status in ENDED:
            return  # its worker only says once more what it came to
        again = f", goes on after epoch {known.epochs}" if known is not None and known.epochs else ""
        self._line(f"{trial.trial_id} started{again}: {values_text(trial.config)}")

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: Any, **info: Any) -> None:
        """Note the best score so far."""
        score = result.get("best_score")
        if score is not None and (self.best is None or better(score, self.best[0], self.bigger)):
            self.best = score, trial.trial_id
        self._status()

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Say what a trial came to, and note that the scheduler has stopped it where it has."""
        known = trial.trial_id in self.ended
        self._end(trial.trial_id)
        record = read_record(Path(self.folder) / trial.trial_id)
        if known:
            return
        if record is None:
            self._line(f"{trial.trial_id} ended and left no {self.folder}/{trial.trial_id}/trial.json")
            return
        if record.status == "running":
            # the scheduler stops a worker inside its report, where it can note nothing any more
            record.status = "stopped"
            write_record(record, Path(self.folder) / record.id)
        after = f"after {record.epochs} epochs, {record.seconds:.0f} s"
        self._line(f"{record.id} {record.status} {after}: {self.metric} {_score(record.best_score)}")
        if not self.keep:
            self._tidy()

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Say that a trial failed."""
        self._end(trial.trial_id)
        self.failed.add(trial.trial_id)
        record = read_record(Path(self.folder) / trial.trial_id)
        error = (record.error if record is not None else "") or "its worker ended; Ray's log says more"
        self._line(f"{trial.trial_id} FAILED: {' '.join(error.split())[:300]}")
        if not self.keep and record is not None and record.status == "failed":
            delete_checkpoints(Path(self.folder) / trial.trial_id)

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        """Show the status."""
        self._status()

    def on_experiment_end(self, trials: list, **info: Any) -> None:
        """Clear the status line."""
        self._clear()

    # -- files -----------------------------------------------------------------------------------------------

    def _tidy(self) -> None:
        """Delete all checkpoints of ended trials but the best one's best epoch.

        A large catalog would fill the disk.
        """
        folders = [Path(self.folder) / trial_id for trial_id in sorted(self.ended)]
        records = [
            record
            for folder in folders
            if (record := read_record(folder)) is not None and record.status in ("finished", "stopped")
        ]
        best = ranked(records, self.bigger)[0] if records else None
        for record in records:
            delete_checkpoints(
                Path(self.folder) / record.id, keep=record.checkpoint if record is best else None
            )

    # -- lines -----------------------------------------------------------------------------------------------

    def _end(self, trial_id: str) -> None:
        self.running.discard(trial_id)
        self.ended.add(trial_id)

    def _note_best(self, record: Record) -> None:
        if record.best_score is not None and (
            self.best is None or better(record.best_score, self.best[0], self.bigger)
        ):
            self.best = record.best_score, record.id

    def _clear(self) -> None:
        if self.width and sys.stdout.isatty():
            sys.stdout.write("\r" + " " * self.width + "\r")
            self.width = 0

    def _line(self, text: str) -> None:
        self._clear()
        print(f"[{len(self.ended)}/{self.total}] {text}", flush=True)

    def _status(self) -> None:
        terminal, now = sys.stdout.isatty(), time.monotonic()
        if now - self.spoken < (TERMINAL_EVERY if terminal else LOG_EVERY):
            return
        self.spoken = now
        best = f"best {self.metric} {_score(self.best[0])} ({self.best[1]})" if self.best else "no score yet"
        failed = f", {len(self.failed)} failed" if self.failed else ""
        counts = f"{len(self.running)} running, {len(self.ended)} of {self.total} done{failed}"
        text = f"{counts}, {best}, {now - self.started:.0f} s"
        if terminal:
            sys.stdout.write("\r" + text.ljust(self.width))
            sys.stdout.flush()
            self.width = len(text)
        else:
            print(text, flush=True)


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"

"""``trial.json``: what a trial was given and how far it came, written whole at every report."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

from recbole_ib.whole import write_text

NAME = "trial.json"
#: a trial in one of these states is not trained again
ENDED = ("finished", "stopped", "failed")


@dataclass
class Record:
    """One trial.

    status: running, finished, stopped (by the scheduler) or failed. epochs: how many were trained. best_epoch counts from 0, as checkpoints
    do. curve: ``{"epoch", "score", "seconds"}`` of every evaluation. values: the searched settings.
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
        """What Ray is told: ``epoch`` counts from 1, as schedulers count."""
        last = self.curve[-1]["score"] if self.curve else math.nan
        return {"epoch": self.epochs, "score": last, "best_score": self.best_score, "seconds": self.seconds}


def better(a: float, b: float, bigger: bool) -> bool:
    return a > b if bigger else a < b


def read_record(folder: str | Path) -> Record | None:
    """The record of a trial's folder, or None where it has none."""
    path = Path(folder) / NAME
    if not path.is_file():
        return None
    return Record(**json.loads(path.read_text(encoding="utf-8")))


def write_record(record: Record, folder: str | Path) -> None:
    write_text(Path(folder) / NAME, json.dumps(asdict(record), indent=1) + "\n")

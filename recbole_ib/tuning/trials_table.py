"""Tables of a search: ``trials.csv``, the terminal's, and ``best.yaml``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from recbole_ib.tuning.trial import Record
from recbole_ib.utils.files import write_text

#: the columns that every row has, before those of the searched settings
HEAD = ("id", "status", "score", "best_epoch", "epochs", "seconds", "error")


def value_text(value: object) -> str:
    """Return a setting's value, short."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def values_text(values: Mapping) -> str:
    """Return settings as ``key=value``, short."""
    return " ".join(f"{key}={value_text(value)}" for key, value in values.items())


def ranked(records: Sequence[Record], bigger: bool) -> list[Record]:
    """Sort trials, best score first; those without one last, failed ones at the end."""

    def place(record: Record) -> Any:
        score = record.best_score
        return (
            record.status == "failed",
            score is None,
            0.0 if score is None else (-score if bigger else score),
            record.id,
        )

    return sorted(records, key=place)


def trials_frame(records: Sequence[Record], keys: Sequence[str], bigger: bool) -> pd.DataFrame:
    """Return all trials, best first: :data:`HEAD`, then a column per searched setting."""
    rows = [
        {
            "id": r.id,
            "status": r.status,
            "score": r.best_score,
            "best_epoch": r.best_epoch,
            "epochs": r.epochs,
            "seconds": r.seconds,
            "error": " ".join(r.error.split()),
            **{key: r.values.get(key) for key in keys},
        }
        for r in ranked(records, bigger)
    ]
    frame = pd.DataFrame(rows, columns=[*HEAD, *keys])
    return frame.astype({"score": "float64", "best_epoch": "Int64", "epochs": "int64", "seconds": "float64"})


def write_trials(frame: pd.DataFrame, path: Path) -> None:
    """Write ``trials.csv``."""
    write_text(path, frame.to_csv(index=False, lineterminator="\n"))


def terminal_table(frame: pd.DataFrame, keys: Sequence[str], metric: str, top: int = 10) -> str:
    """Return the best trials, one line each."""
    head = ["trial", f"valid {metric}", "best epoch", "epochs", "status", *keys]
    rows = [head]
    for row in frame.head(top).to_dict("records"):
        score = "-" if pd.isna(row["score"]) else f"{row['score']:.4f}"
        epoch = "-" if pd.isna(row["best_epoch"]) else str(row["best_epoch"])
        rows.append(
            [
                row["id"],
                score,
                epoch,
                str(row["epochs"]),
                row["status"],
                *(value_text(row[key]) for key in keys),
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([lines[0], "-" * min(len(lines[0]), 120), *lines[1:]])


def write_best(path: Path, settings: Mapping, comment: Sequence[str]) -> None:
    """Write settings as ``--config_files`` takes them, under a comment."""
    head = "".join(f"# {line}\n" for line in comment)
    write_text(
        path,
        head + yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True, default_flow_style=False),
    )

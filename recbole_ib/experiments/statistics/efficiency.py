"""The cost of the models and the way to their best epoch: seconds, memory, parameters, validation curves."""

from __future__ import annotations

import numpy as np
import pandas as pd

from recbole_ib.experiments.results import Results, RunResult, number


def _epoch_seconds(run: RunResult) -> float | None:
    """Return the seconds of training, validation included, over the epochs trained."""
    epochs = run.manifest["result"]["epochs"]
    return run.manifest["seconds"]["train"] / epochs if epochs else None


#: column -> what it reads from a run
MEASURES = {
    "seconds_epoch": _epoch_seconds,
    "seconds_train": lambda run: run.manifest["seconds"]["train"],
    "seconds_set_up": lambda run: run.manifest["seconds"]["set_up"],
    "seconds_test": lambda run: run.manifest["seconds"]["test"],
    "epochs": lambda run: run.manifest["result"]["epochs"],
    "best_epoch": lambda run: run.manifest["result"]["best_epoch"],
    "peak_bytes": lambda run: run.manifest["memory"]["peak_bytes"],
    "gpu_peak_bytes": lambda run: run.manifest["memory"]["gpu_peak_bytes"],
    "parameters": lambda run: run.manifest["parameters"],
}
CURVE_COLUMNS = ("entry", "seed", "epoch", "score", "seconds")


def cost_table(results: Results) -> pd.DataFrame:
    """Return cost.csv: the mean over the seeds of every measure, a row per entry.

    Columns in ``_sd`` are its sample standard deviation. ``best_epoch`` counts from 0, as RecBole's log does.
    What a run did not measure, as memory of a GPU that was not there, is empty.
    """
    rows = []
    for name, runs in results.runs.items():
        row: dict = {"entry": name, "seeds": len(runs)}
        for column, read in MEASURES.items():
            values = np.array([number(read(run)) for run in runs], dtype=float)
            values = values[~np.isnan(values)]
            row[column] = float(values.mean()) if len(values) else np.nan
            row[f"{column}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def curve_table(results: Results) -> pd.DataFrame:
    """Return curves.csv: the validation score after every evaluation of every run.

    Epochs count from 0, as RecBole's log does, seconds from the start of training.
    """
    rows = [
        (name, run.seed, point["epoch"], number(point["score"]), number(point["seconds"]))
        for name, runs in results.runs.items()
        for run in runs
        for point in run.manifest["curve"]
    ]
    return pd.DataFrame(rows, columns=list(CURVE_COLUMNS))


def user_table(results: Results) -> pd.DataFrame | None:
    """Return per_user.parquet: the users of every run, after ``entry`` and ``seed``.

    The runs stand under each other; ``None`` where no run kept its users.
    """
    tables = []
    for name, runs in results.runs.items():
        for run in runs:
            if run.users is not None:
                table = run.users.copy()
                table.insert(0, "entry", name)
                table.insert(1, "seed", run.seed)
                tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else None

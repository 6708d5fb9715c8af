"""Where a model is good.

On popular, rare and nearly unseen items, and for users of little and much activity.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd

from recbole_ib.experiments.results import Results, RunResult
from recbole_ib.training.per_user import COLD_AT_MOST, HEAD_SHARE

QUARTERS = ("least active quarter", "second quarter", "third quarter", "most active quarter")
ITEMS = {
    "head": f"head: the {HEAD_SHARE:.0%} of the items with the most training interactions",
    "tail": "tail: all other items",
    "cold": f"cold: items with at most {COLD_AT_MOST} training interactions, some of the tail or none",
}
COLUMNS = ("of", "slice", "bounds", "metric", "entry", "mean", "sd", "seeds", "users_min", "users_max")


def slice_table(results: Results) -> pd.DataFrame:
    """Return slices.csv: one row for each slice, metric and entry; columns :data:`COLUMNS`.

    A run's value is the mean over its users that have one; ``mean`` and ``sd`` (n - 1; NaN for one seed) are
    over the seeds that have such users, ``users_min`` and ``users_max`` the numbers of users there.
    ``bounds`` of users: training interactions, over all seeds.
    """
    rows = []
    for name, runs in results.runs.items():
        kept = [(run, run.users) for run in runs if run.users is not None]
        for column in results.slice_columns:
            metric, _, part = column.partition(":")
            values = [users[column].to_numpy() for _, users in kept if column in users]
            rows.append(_row("items", part, ITEMS.get(part, part), metric, name, values))
        quarters = [quarters_of(run) for run, _ in kept]
        for i, quarter in enumerate(QUARTERS):
            members = [
                users.iloc[groups[i]]
                for (_, users), groups in zip(kept, quarters, strict=True)
                if len(groups[i])
            ]
            bounds = _bounds(members)
            for metric in results.user_metrics:
                values = [users[metric].to_numpy() for users in members if metric in users]
                rows.append(_row("users", quarter, bounds, metric, name, values))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def quarters_of(run: RunResult) -> list[np.ndarray]:
    """Return the rows of the users of each quarter by training interactions.

    The fewest come first; the quarters are as equal in number as can be.

    Users with equally many training interactions may stand on both sides of a bound; they are ordered by
    their token, so every run of one split has the same quarters.
    """
    # only for runs that keep the values of their users
    users = cast("pd.DataFrame", run.users)
    order = np.lexsort((users["user_id"].to_numpy(dtype=str), users["n_train"].to_numpy()))
    return np.array_split(order, len(QUARTERS))


def _bounds(members: list[pd.DataFrame]) -> str:
    if not members:
        return ""
    low, high = (
        int(limit)
        for limit in (min(m["n_train"].min() for m in members), max(m["n_train"].max() for m in members))
    )
    return f"{low} to {high} training interactions"


def _row(of: str, part: str, bounds: str, metric: str, name: str, values: list[np.ndarray]) -> dict:
    known = [v[~np.isnan(v)] for v in values]
    known = [v for v in known if len(v)]
    means = np.array([v.mean() for v in known])
    row = {"of": of, "slice": part, "bounds": bounds, "metric": metric, "entry": name, "seeds": len(known)}
    row |= {"mean": float(means.mean()) if len(means) else np.nan}
    row |= {"sd": float(means.std(ddof=1)) if len(means) > 1 else np.nan}
    sizes = [len(v) for v in known] or [0]
    return row | {"users_min": min(sizes), "users_max": max(sizes)}

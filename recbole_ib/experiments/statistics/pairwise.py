"""Every pair of models, tested over the users that both have; a user's value is the mean over the seeds."""

from __future__ import annotations

import itertools
from dataclasses import asdict

import numpy as np
import pandas as pd

from recbole_ib.experiments.results import Results, RunResult
from recbole_ib.experiments.statistics.paired_tests import Paired, holm, paired

#: below it a corrected p is called significant
LEVEL = 0.05
COLUMNS = (
    "metric", "a", "b", "users", "users_left_out", "seeds", "mean_a", "mean_b", "mean_difference",
    "ci95_low", "ci95_high", "t", "p_t", "p_t_holm", "users_equal", "wilcoxon_w", "p_wilcoxon",
    "p_wilcoxon_holm", "cohen_d_z", "rank_biserial", "not_tested",
)  # fmt: skip


def compare_pairs(results: Results) -> pd.DataFrame:
    """Return tests.csv: one row for each metric and pair ``a``, ``b`` of entries.

    The difference is that of a minus that of b.

    A pair shares the seeds for which both have a file of users and the same test set (by the manifests'
    digests), and of these the users that both files have. ``users_left_out`` counts the users that are in one
    of the files alone. Holm's correction runs over the pairs of one metric and one test. Where no test could
    be made, ``not_tested`` says why.
    """
    pairs = [_Pair(results, a, b) for a, b in itertools.combinations(results.names, 2)]
    rows = []
    for metric in results.user_metrics:
        metric_rows = [pair.row(metric) for pair in pairs]
        for test in ("t", "wilcoxon"):
            for row, p in zip(metric_rows, holm([row[f"p_{test}"] for row in metric_rows]), strict=True):
                row[f"p_{test}_holm"] = float(p)
        rows += metric_rows
    return pd.DataFrame(rows, columns=list(COLUMNS))


class _Pair:
    """Two entries: the runs that they share, and the users' means over these, for all metrics at once."""

    def __init__(self, results: Results, a: str, b: str) -> None:
        self.names = {"a": a, "b": b}
        by_seed = {run.seed: run for run in results.runs[b]}
        both = [(run, by_seed[run.seed]) for run in results.runs[a] if run.seed in by_seed]
        kept = [pair for pair in both if all(run.users is not None for run in pair)]
        self.shared = [pair for pair in kept if len({split_digest(run) for run in pair}) == 1]
        reasons = [
            (both, "they have no seed in common"),
            (kept, "no seed has the values of users for both (per_user)"),
            (self.shared, "their test sets differ"),
        ]
        self.why = next((why for pairs, why in reasons if not pairs), "")
        self.means, self.left_out = _means(self.shared)

    def row(self, metric: str) -> dict:
        """Return the pair's row of one metric, but for Holm's correction."""
        why, has = self.why, all(metric in side for side in self.means)
        values = [side[metric].to_numpy() if has else np.empty(0) for side in self.means]
        test = paired(*values)
        if not why and not has:
            why = "not both computed it"
        elif not why and test.n < 2:
            why = "one user" if test.n else "no user is in the files of both"
        elif not why and test.equal == test.n:
            why = "every user has the same value under both"
        elif not why and np.isnan(test.t):
            why = "the difference is the same for every user: no t-test"
        means = {
            f"mean_{side}": float(v.mean()) if len(v) else float("nan")
            for side, v in zip("ab", values, strict=True)
        }
        counts = {"users_left_out": self.left_out, "seeds": len(self.shared)}
        return {"metric": metric, **self.names, **_named(test), **counts, **means, "not_tested": why}


def _means(shared: list[tuple[RunResult, RunResult]]) -> tuple[list[pd.DataFrame], int]:
    """Return, for each side, the means over the seeds of the users that both files of a seed have.

    The second value is how many users one file alone has.
    """
    tables: tuple[list, list] = ([], [])
    lost: set[str] = set()
    for pair in shared:
        sides = [run.users.set_index("user_id") for run in pair if run.users is not None]
        lost |= set(sides[0].index.symmetric_difference(sides[1].index))
        users = sides[0].index.intersection(sides[1].index)
        for table, side in zip(tables, sides, strict=True):
            table.append(side.loc[users])
    if not shared:
        return [pd.DataFrame(), pd.DataFrame()], 0
    return [pd.concat(table).groupby(level=0, sort=True).mean() for table in tables], len(lost)


def split_digest(run: RunResult) -> str:
    """Return the digest of the test set of a run."""
    return str((run.manifest["data"].get("test") or {}).get("digest"))


def _named(test: Paired) -> dict:
    names = {
        "n": "users", "equal": "users_equal", "difference": "mean_difference", "low": "ci95_low",
        "high": "ci95_high", "w": "wilcoxon_w", "p_w": "p_wilcoxon", "d_z": "cohen_d_z",
    }  # fmt: skip
    return {names.get(key, key): value for key, value in asdict(test).items()}


def pair_row(tests: pd.DataFrame, metric: str, a: str, b: str) -> dict:
    """Return the row of a pair as seen from ``a``.

    Differences and effect sizes are of a minus b, whatever the order of the table.
    """
    rows = tests[
        (tests["metric"] == metric)
        & (((tests["a"] == a) & (tests["b"] == b)) | ((tests["a"] == b) & (tests["b"] == a)))
    ]
    row = rows.iloc[0].to_dict()
    if row["a"] == a:
        return row
    turned = {key: -row[key] for key in ("mean_difference", "t", "cohen_d_z", "rank_biserial")}
    turned |= {"a": a, "b": b, "mean_a": row["mean_b"], "mean_b": row["mean_a"]}
    return row | turned | {"ci95_low": -row["ci95_high"], "ci95_high": -row["ci95_low"]}


def significant(row: dict) -> bool:
    """Return whether both corrected tests find a difference."""
    return bool(row["p_t_holm"] < LEVEL and row["p_wilcoxon_holm"] < LEVEL)

"""Slices of items and users against loops over the users."""

import numpy as np
import pandas as pd
import pytest

from recbole_ib.experiments.results import Entry, read_results
from recbole_ib.experiments.statistics.slices import COLUMNS, QUARTERS, quarters_of, slice_table
from tests.support.made_runs import Made, comparison_of, make_entry, manifest_of, write_run


def one_run(folder, users, name="A", seed=0):
    return write_run(folder, manifest_of(Made(name), users, seed, 2020), users)


def results_of(*tables, folder):
    entries = [Entry(f"M{i}", [one_run(folder / f"{i}", users)]) for i, users in enumerate(tables)]
    return read_results(comparison_of(entries))


def users_with(n_train, recall, **more):
    size = len(n_train)
    users = pd.DataFrame({"user_id": [f"u{i:02}" for i in range(size)], "n_train": n_train, "n_test": 1})
    return users.assign(**{"recall@20": recall}, **more)


def test_every_slice_is_the_mean_over_its_users_then_over_the_seeds(tmp_path):
    results = read_results(
        comparison_of([make_entry(tmp_path, made, [0, 1, 2], 101) for made in (Made("A"), Made("B", 0.3, 0.2))])
    )
    table = slice_table(results)
    assert list(table.columns) == list(COLUMNS)
    for name, runs in results.runs.items():
        for part in ("head", "tail", "cold"):
            means, counts = [], []
            for run in runs:
                values = [v for v in run.users[f"recall@20:{part}"] if v == v]
                means.append(sum(values) / len(values))
                counts.append(len(values))
            row = table[(table["entry"] == name) & (table["slice"] == part)].iloc[0]
            assert (row["mean"], row["sd"]) == pytest.approx((np.mean(means), np.std(means, ddof=1)))
            assert (row["users_min"], row["users_max"], row["seeds"]) == (min(counts), max(counts), 3)
        for i, quarter in enumerate(QUARTERS):
            means = []
            for run in runs:
                people = sorted(zip(run.users["n_train"], run.users["user_id"], run.users["ndcg@10"], strict=True))
                start = sum(26 if j < 1 else 25 for j in range(i))
                means.append(np.mean([p[2] for p in people[start : start + (26 if i < 1 else 25)]]))
            row = table[(table["entry"] == name) & (table["slice"] == quarter) & (table["metric"] == "ndcg@10")].iloc[0]
            assert row["mean"] == pytest.approx(np.mean(means))
            assert (row["users_min"], row["users_max"]) == ((26, 26) if i < 1 else (25, 25))


def test_quarters_are_equal_in_number_though_activity_ties_and_rows_are_mixed(tmp_path):
    users = users_with([5] * 6 + [9, 7], [0, 0, 0, 0, 1, 1, 0.5, 0.5])
    results = results_of(users, users.sample(frac=1, random_state=3), folder=tmp_path)
    groups = []
    for name in results.names:
        (run,) = results.runs[name]
        groups.append([sorted(run.users["user_id"].iloc[rows]) for rows in quarters_of(run)])
    assert groups[0] == groups[1] == [["u00", "u01"], ["u02", "u03"], ["u04", "u05"], ["u06", "u07"]]
    table = slice_table(results)
    own = table[(table["entry"] == "M0") & (table["of"] == "users")]
    assert own["mean"].tolist() == [0, 0, 1, 0.5]
    assert own["bounds"].tolist() == [f"{b} training interactions" for b in ("5 to 5", "5 to 5", "5 to 5", "7 to 9")]
    assert own["sd"].isna().all()


def test_a_slice_that_no_user_has_is_nan_and_not_zero(tmp_path):
    empty = {"recall@20:cold": [np.nan] * 4, "recall@20:head": [1.0, np.nan, 0.0, 0.5]}
    table = slice_table(results_of(users_with([1, 2, 3, 4], [0.1] * 4, **empty), folder=tmp_path)).set_index("slice")
    assert np.isnan(table.loc["cold", "mean"])
    assert (table.loc["cold", "seeds"], table.loc["cold", "users_max"]) == (0, 0)
    assert (table.loc["head", "mean"], table.loc["head", "users_max"]) == (0.5, 3)


def test_fewer_users_than_quarters(tmp_path):
    table = slice_table(results_of(users_with([4, 2], [0.2, 0.4]), folder=tmp_path))
    assert table[table["seeds"] > 0][["slice", "mean"]].values.tolist() == [[QUARTERS[0], 0.4], [QUARTERS[1], 0.2]]


def test_runs_without_users_have_no_slices(tmp_path):
    users = users_with([1, 2], [0.1, 0.2])
    entry = Entry("A", [write_run(tmp_path, manifest_of(Made("A"), users, 0, 2020), None)])
    table = slice_table(read_results(comparison_of([entry])))
    assert (table["seeds"] == 0).all()

"""Pairs of models: who is paired with whom, what is left out and said, and that the order of the models is nothing."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recbole_ib.experiments.results import Entry, read_results
from recbole_ib.experiments.statistics.paired_tests import holm
from recbole_ib.experiments.statistics.pairwise import COLUMNS, compare_pairs, pair_row, significant
from tests.support.made_runs import Made, comparison_of, make_entry, manifest_of, plain_entry, write_run

A = {0: [0.1, 0.5, 0.9, 0.3, 0.8, 0.2], 1: [0.3, 0.7, 0.7, 0.3, 1.0, 0.4]}
B = {0: [0.0, 0.4, 0.9, 0.1, 0.5, 0.3], 1: [0.2, 0.4, 0.5, 0.5, 0.7, 0.1]}


def pairs_of(entries):
    return compare_pairs(read_results(comparison_of(entries)))


def test_a_users_value_is_the_mean_over_the_seeds(tmp_path):
    table = pairs_of([plain_entry(tmp_path, "A", A), plain_entry(tmp_path, "B", B)])
    assert list(table.columns) == list(COLUMNS)
    (row,) = table.to_dict("records")
    a, b = np.mean([A[0], A[1]], axis=0), np.mean([B[0], B[1]], axis=0)
    t, w = stats.ttest_rel(a, b), stats.wilcoxon(np.round(a - b, 12))
    assert (row["metric"], row["a"], row["b"], row["users"], row["seeds"]) == ("recall@20", "A", "B", 6, 2)
    assert (row["mean_a"], row["mean_b"]) == pytest.approx((a.mean(), b.mean()))
    assert (row["t"], row["p_t"], row["p_t_holm"]) == pytest.approx((t.statistic, t.pvalue, t.pvalue))
    assert (row["wilcoxon_w"], row["p_wilcoxon"]) == pytest.approx((w.statistic, w.pvalue))
    assert row["not_tested"] == ""


def test_holm_runs_over_the_pairs_of_each_metric_and_test(tmp_path):
    models = [Made("A"), Made("B", 0.1), Made("C", 0.15)]
    table = pairs_of([make_entry(tmp_path, made, [0, 1], 120) for made in models])
    assert len(table) == 3 * 6
    for _, rows in table.groupby("metric"):
        for test in ("t", "wilcoxon"):
            np.testing.assert_allclose(rows[f"p_{test}_holm"], holm(rows[f"p_{test}"]))
    assert not any(":" in metric for metric in table["metric"])


def test_the_order_of_entries_users_and_seeds_changes_no_p(tmp_path):
    models = [Made("A"), Made("B", 0.1), Made("C", 0.2)]
    entries = [make_entry(tmp_path, made, [0, 1, 2], 150) for made in models]
    first = pairs_of(entries)
    mixed = [Entry(e.name, list(reversed(e.manifests))) for e in (entries[2], entries[0], entries[1])]
    for entry in mixed:
        for path in entry.manifests:
            file = next(path.parent.glob(f"{path.stem}-users.parquet"))
            pd.read_parquet(file).sample(frac=1, random_state=1).to_parquet(file, index=False)
    second = pairs_of(mixed)
    for row in first.to_dict("records"):
        other = pair_row(second, row["metric"], row["a"], row["b"])
        for key in COLUMNS[3:-1]:
            assert other[key] == pytest.approx(row[key], rel=1e-9, abs=1e-12), key


def test_the_same_pair_seen_from_the_other_side(tmp_path):
    table = pairs_of([plain_entry(tmp_path, "A", A), plain_entry(tmp_path, "B", B)])
    row, turned = pair_row(table, "recall@20", "A", "B"), pair_row(table, "recall@20", "B", "A")
    for key in ("mean_difference", "t", "cohen_d_z", "rank_biserial"):
        assert turned[key] == -row[key] != 0
    assert (turned["ci95_low"], turned["ci95_high"]) == (-row["ci95_high"], -row["ci95_low"])
    assert (turned["mean_a"], turned["mean_b"]) == (row["mean_b"], row["mean_a"])
    assert turned["p_t_holm"] == row["p_t_holm"]


def test_users_of_one_file_alone_are_left_out_and_counted(tmp_path):
    table = pairs_of([plain_entry(tmp_path, "A", {0: A[0]}), plain_entry(tmp_path, "B", {0: B[0][:4]})])
    # as many users as there are in a split tell its digest in these made runs
    assert table["not_tested"].tolist() == ["their test sets differ"]
    whole = manifest_of(Made("B"), users := plain_users(B[0]), 0, 2020)
    short = users.iloc[:4]
    whole["result"]["test"]["recall@20"] = float(short["recall@20"].mean())
    entry = Entry("B", [write_run(tmp_path / "short", whole, short)])
    (row,) = pairs_of([plain_entry(tmp_path / "again", "A", {0: A[0]}), entry]).to_dict("records")
    assert (row["users"], row["users_left_out"]) == (4, 2)
    assert row["mean_difference"] == pytest.approx(np.mean(A[0][:4]) - np.mean(B[0][:4]))


def plain_users(values):
    size = len(values)
    return pd.DataFrame(
        {"user_id": [f"u{i}" for i in range(size)], "n_train": range(1, size + 1), "n_test": 1, "recall@20": values}
    )


def test_seeds_with_another_test_set_are_not_paired(tmp_path):
    a, b = Made("A"), Made("B", 0.2)
    other = make_entry(tmp_path / "other", b, [1], 100, shared_split=7)
    both = Entry("B", [*make_entry(tmp_path, b, [0], 100).manifests, *other.manifests])
    table = pairs_of([make_entry(tmp_path, a, [0, 1], 100), both])
    assert set(table["seeds"]) == {1}
    table = pairs_of([make_entry(tmp_path / "second", a, [1], 100), other])
    assert set(table["not_tested"]) == {"their test sets differ"}
    assert table["p_t_holm"].isna().all()


def test_a_split_for_each_seed_pairs_the_users_of_that_seed(tmp_path):
    entries = [make_entry(tmp_path, made, [0, 1], 90, shared_split=None) for made in (Made("A"), Made("B", 0.2))]
    assert set(pairs_of(entries)["seeds"]) == {2}


@pytest.mark.parametrize(
    ("values", "reason"),
    [({0: A[0]}, "every user has the same value under both"), ({5: A[0]}, "they have no seed in common")],
    ids=["identical", "other seeds"],
)
def test_what_cannot_be_tested_says_why_and_has_no_p(tmp_path, values, reason):
    (row,) = pairs_of([plain_entry(tmp_path, "A", {0: A[0]}), plain_entry(tmp_path, "B", values)]).to_dict("records")
    assert row["not_tested"] == reason
    assert np.isnan([row["p_t"], row["p_t_holm"], row["p_wilcoxon_holm"], row["cohen_d_z"]]).all()
    assert not significant(row)


def test_runs_without_users_are_not_tested(tmp_path):
    with_users = make_entry(tmp_path, Made("A"), [0], 50)
    manifest = manifest_of(Made("B"), plain_users(A[0]), 0, 2020)
    table = pairs_of([with_users, Entry("B", [write_run(tmp_path, manifest, None)])])
    assert set(table["not_tested"]) == {"no seed has the values of users for both (per_user)"}


def test_a_metric_that_one_of_them_did_not_compute_is_not_tested(tmp_path):
    entries = [make_entry(tmp_path, Made("A"), [0], 30), plain_entry(tmp_path, "B", {0: list(np.linspace(0, 1, 30))})]
    table = pairs_of(entries).set_index("metric")
    assert table.loc["ndcg@10", "not_tested"] == "not both computed it"
    assert np.isnan(table.loc["ndcg@10", "p_t_holm"])
    assert table.loc["recall@20", "not_tested"] == "no user is in the files of both"

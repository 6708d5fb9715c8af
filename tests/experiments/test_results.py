"""What a comparison reads, and every input that it refuses: what is wrong, where, and what to do."""

import json

import numpy as np
import pandas as pd
import pytest

from recbole_ib.errors import ConfigurationError
from recbole_ib.experiments.results import Comparison, Entry, read_results
from tests.support.made_runs import Made, comparison_of, make_entry, plain_entry


def test_runs_are_read_by_seed_with_values_of_all_digits(tmp_path):
    entry = make_entry(tmp_path, Made("A"), [3, 1, 2], 60)
    results = read_results(comparison_of([entry]))
    assert [run.seed for run in results.runs["A"]] == [1, 2, 3] == results.seeds
    assert results.metrics == results.user_metrics == [f"{m}@{k}" for m in ("recall", "precision", "ndcg") for k in (10, 20)]
    assert results.slice_columns == ["recall@20:head", "recall@20:tail", "recall@20:cold"]
    users = [run.users["ndcg@20"].mean() for run in results.runs["A"]]
    np.testing.assert_array_equal(results.values("A", "ndcg@20"), users)
    assert any(round(value, 4) != value for value in users)


def test_without_users_the_manifest_tells_and_unknown_numbers_are_nan(tmp_path):
    entry = plain_entry(tmp_path, "A", {0: [0.25, 0.75]})
    (path,) = entry.manifests
    manifest = json.loads(path.read_text()) | {"per_user": None}
    manifest["result"]["test"] |= {"gauc": None, "auc": "nan"}
    path.write_text(json.dumps(manifest))
    results = read_results(comparison_of([entry]))
    assert results.values("A", "recall@20").tolist() == [0.5]
    assert np.isnan(results.values("A", "gauc")).all()
    assert np.isnan(results.values("A", "auc")).all()


def test_an_entry_without_a_run_is_missing_and_not_an_error(tmp_path):
    results = read_results(comparison_of([Entry("Lost", []), plain_entry(tmp_path, "A", {0: [0.1, 0.2]})]))
    assert (results.names, results.missing, results.baseline) == (["A"], ["Lost"], None)


def edit(entry, **changes):
    for path in entry.manifests:
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_users(entry, change):
    for path in entry.manifests:
        file = next(path.parent.glob(f"{path.stem}-users.parquet"))
        change(pd.read_parquet(file)).to_parquet(file, index=False)


def damage(entry):
    next(entry.manifests[0].parent.glob("*.parquet")).write_bytes(b"PAR1 and then nothing")


BROKEN = {
    "other data": (lambda e: edit(e, dataset="baby"), "run on 'baby', and the comparison is on 'ml-100k'"),
    "seed twice": (lambda e: edit(e, seed=4), "both are runs of seed 4"),
    "no test": (lambda e: edit(e, result={"test": {}}), "holds no test result"),
    "no file": (lambda e: edit(e, per_user="gone.parquet"), "there is no .*gone.parquet, which its manifest names"),
    "damaged": (damage, "is damaged or no parquet file"),
    "no column": (lambda e: edit_users(e, lambda t: t.drop(columns="n_train")), "has no column n_train; it has user_id"),
    "user twice": (lambda e: edit_users(e, lambda t: t.assign(user_id="u7")), "more than one row for user u7"),
    "text": (lambda e: edit_users(e, lambda t: t.assign(**{"recall@20": "much"})), "column recall@20 holds object, not numbers"),
    "no value": (
        lambda e: edit_users(e, lambda t: t.assign(**{"recall@20": [np.nan, 0.2]})), "recall@20 has no value for user u0"
    ),
    "empty": (lambda e: edit_users(e, lambda t: t.iloc[:0]), "holds no user"),
    "another run": (lambda e: edit_users(e, lambda t: t.assign(**{"recall@20": 0.3})), "they are not of one run"),
    "other format": (lambda e: edit(e, format="recbole_ib run 9"), "recbole_ib run 9"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_run_that_cannot_be_read_is_named_and_refused(tmp_path, kind):
    entry = plain_entry(tmp_path, "Broken", {0: [0.1, 0.2], 1: [0.2, 0.3]})
    change, message = BROKEN[kind]
    change(entry)
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_results(comparison_of([plain_entry(tmp_path, "A", {0: [0.1, 0.2]}), entry]))
    if kind != "other format":
        assert "Broken" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": "VBPQ"}, "baseline 'VBPQ' is none of the models. Did you mean VBPR"),
        ({"metric": "recal@20"}, "'recal@20', which no run computed. Did you mean recall@20"),
        ({"groups": {"parts": ["VPBR"]}}, "group 'parts' names 'VPBR'.*Did you mean VBPR"),
        ({"groups": {"a": ["VBPR"], "b": ["VBPR"]}}, "'VBPR' stands in more than one group"),
        ({"entries": []}, "no model is given"),
        ({"entries": [Entry("VBPR", [])]}, "no model has a finished run"),
        ({"entries": [Entry("VBPR", []), Entry("VBPR", [])]}, "'VBPR' is given twice"),
    ],
)
def test_a_lineup_that_cannot_be_meant_is_refused(tmp_path, change, message):
    good = {"title": "T", "dataset": "ml-100k", "baseline": "VBPR", "metric": "recall@20"}
    entries = [plain_entry(tmp_path, "VBPR", {0: [0.1, 0.2]})]
    assert read_results(Comparison(entries=entries, **good)).names == ["VBPR"]
    with pytest.raises(ConfigurationError, match=message):
        read_results(Comparison(**({"entries": entries} | good | change)))


def test_a_metric_that_one_entry_lacks_is_refused(tmp_path):
    entries = [make_entry(tmp_path, Made("A"), [0], 40), plain_entry(tmp_path, "B", {0: [0.1, 0.2]})]
    assert read_results(comparison_of(entries)).names == ["A", "B"]
    with pytest.raises(ConfigurationError, match=r"'ndcg@20', and the runs of B did not compute it"):
        read_results(comparison_of(entries, metric="ndcg@20"))

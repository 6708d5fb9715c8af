"""Every way in which entries are not on equal terms is said, and nothing is said where they are."""

import json
import re

import pytest

from recbole_ib.experiments.report.fairness import stopped_runs, unequal_conditions
from recbole_ib.experiments.results import Entry, read_results
from tests.support.made_runs import TEXT, VISUAL, Made, comparison_of, make_entry


def said(folder, *makes, seeds=((0, 1), (0, 1)), change=None, **more):
    entries = [make_entry(folder, made, own, 40) for made, own in zip(makes, seeds, strict=True)]
    for path in entries[1].manifests if change else ():
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))
    return unequal_conditions(read_results(comparison_of(entries, **more)))


def test_equal_terms_are_not_warned_of(tmp_path):
    assert said(tmp_path, Made("A"), Made("B", 0.2, given={"reg_weight": 0.1})) == []
    assert said(tmp_path / "none", Made("A", features={}), Made("B")) == [], "a model that reads no features is no unequal term"


OTHER = {
    "trials": (Made("B", trials=40), r"different numbers of trials \(12: A; 40: B\)"),
    "trials unknown": (Made("B", trials=None), r"12: A; unknown or none: B"),
    "encoder": (Made("B", features={"text": TEXT, "visual": VISUAL | {"encoder": "ResNet"}}), r"visual features .*encoders.*ResNet: B"),
    "digest": (Made("B", features={"text": TEXT | {"digest": "00"}, "visual": VISUAL}), r"text features are not the same numbers"),
    "modalities": (Made("B", features={"text": TEXT}), r"different modalities \(text, visual: A; text: B\)"),
    "protocol": (Made("B", config={"protocol": "mmrec"}), r"not measured alike: protocol differs \(recbole: A; mmrec: B\)"),
    "metrics": (Made("B", config={"topk": [5, 20]}), r"topk differs \(10, 20: A; 5, 20: B\)"),
    "epochs": (Made("B", config={"epochs": 1000}), r"training budgets differ: epochs differs \(300: A; 1000: B\)"),
    "patience": (Made("B", config={"stopping_step": 50}), r"stopping_step differs"),
    "batches": (Made("B", config={"stopping_batches": 1000}), r"stopping_batches differs \(0: A; 1000: B\)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHER)
def test_what_differs_is_named_with_its_values_and_entries(tmp_path, kind):
    made, pattern = OTHER[kind]
    (text,) = said(tmp_path, Made("A"), made)
    assert re.search(pattern, text), text


CHANGES = {
    "version": (lambda m: m["versions"].update(torch="2.6.0"), "Versions of torch differ (2.13.0: A; 2.6.0: B)."),
    "processor": (lambda m: m["machine"].update(processor="arm64"), "so seconds do not compare (x86_64: A; arm64: B)."),
    "users": (lambda m: m.update(per_user=None), "left out of tests and slices: B (seed 0), B (seed 1)."),
    "test data": (
        lambda m: m["data"]["test"].update(digest="ff"),
        "The test data of B differ from those of A (seed 0, 1); pairs with different test sets are not tested.",
    ),
    "training data": (lambda m: m["data"]["train"].update(digest="ff"), "The training data of B differ from those of A (seed 0, 1)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_differences_between_manifests_are_said(tmp_path, kind):
    change, text = CHANGES[kind]
    (found,) = said(tmp_path, Made("A"), Made("B"), change=change)
    assert text in found


def test_other_seeds_are_said(tmp_path):
    (text,) = said(tmp_path, Made("A"), Made("B"), seeds=((0, 1, 2), (0, 1)))
    assert text == "Entries were run with different seeds (0, 1, 2: A; 0, 1: B)."


def test_runs_of_one_entry_with_other_settings_are_said(tmp_path):
    one = make_entry(tmp_path, Made("B", given={"reg_weight": 0.1}), [0], 40)
    other = make_entry(tmp_path / "other", Made("B", given={"reg_weight": 1}, model="BPR"), [1], 40)
    entries = [make_entry(tmp_path, Made("A"), [0, 1], 40), Entry("B", [*one.manifests, *other.manifests], trials=12)]
    (text,) = unequal_conditions(read_results(comparison_of(entries)))
    assert text == "The runs of B do not share their settings (model B or BPR, reg_weight 0.1 or 1)."


def test_spelling_of_metrics_is_no_difference(tmp_path):
    def lower(manifest):
        manifest["config"]["metrics"] = [m.lower() for m in manifest["config"]["metrics"]]

    assert said(tmp_path, Made("A"), Made("B"), change=lower) == []


def test_the_many_are_not_listed(tmp_path):
    makes = [Made(f"M{i}") for i in range(5)] + [Made("odd", trials=3)]
    entries = [make_entry(tmp_path, made, [0], 30) for made in makes]
    (text,) = unequal_conditions(read_results(comparison_of(entries)))
    assert "(3: odd; 12: all others)" in text


def test_a_run_whose_best_epoch_was_its_last_possible_one_is_named(tmp_path):
    stopped = [Made(name, epochs=25, config={"epochs": 25}) for name in ("A", "B")]
    entries = [make_entry(tmp_path, made, [0, 1], 30) for made in stopped]
    half = make_entry(tmp_path / "half", Made("C", epochs=25, config={"epochs": 25}), [0], 30)
    early = make_entry(tmp_path / "early", Made("C", epochs=20), [1], 30)
    entries.append(Entry("C", [*half.manifests, *early.manifests]))
    entries.append(make_entry(tmp_path, Made("D"), [0, 1], 30))
    assert stopped_runs(read_results(comparison_of(entries))) == [
        "A, B (every seed): stopped by its epoch limit of 25: could still rise.",
        "C (seed 0): stopped by its epoch limit of 25: could still rise.",
    ]


def test_data_that_changed_between_the_seeds_of_one_split_are_said(tmp_path):
    entry = make_entry(tmp_path, Made("A"), [0, 1, 2], 40)
    manifest = json.loads(entry.manifests[2].read_text())
    manifest["data"]["test"]["digest"] = "ff"
    entry.manifests[2].write_text(json.dumps(manifest))
    (text,) = unequal_conditions(read_results(comparison_of([entry])))
    assert text == "A was tested on different data under one split_seed (2020; seeds 0, 1 and 2): the data have changed."


@pytest.mark.parametrize(("patience", "named"), [(3, False), (4, True), (10, True)])
def test_a_run_that_reached_its_limit_before_its_patience_ended_is_named(patience, named, tmp_path):
    entry = make_entry(tmp_path, Made("A", epochs=25, config={"epochs": 25, "stopping_step": patience}), [0], 30)
    (path,) = entry.manifests
    manifest = json.loads(path.read_text())
    manifest["result"]["best_epoch"] = 20
    path.write_text(json.dumps(manifest))
    assert bool(stopped_runs(read_results(comparison_of([entry])))) is named


@pytest.mark.parametrize(("ended", "named"), [("epochs", True), ("patience", False), ("scheduler", False), (None, False)])
def test_what_ended_a_run_stands_in_its_manifest(ended, named, tmp_path):
    entry = make_entry(tmp_path, Made("A", epochs=25, config={"epochs": 25}), [0], 30)
    (path,) = entry.manifests
    manifest = json.loads(path.read_text())
    manifest["result"]["ended"] = ended
    path.write_text(json.dumps(manifest))
    assert bool(stopped_runs(read_results(comparison_of([entry])))) is named

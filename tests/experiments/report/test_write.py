"""The folder of a report: what lies in it, that its tables read back, and that nothing else is touched."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_ib.errors import ConfigurationError
from recbole_ib.experiments.report.write import FILES, write_report
from recbole_ib.experiments.results import Comparison, Entry, read_results
from recbole_ib.experiments.statistics.pairwise import compare_pairs
from tests.support.made_runs import Made, comparison_of, make_entry, plain_entry


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    makes = [Made("A", epochs=12), Made("B", 0.3, epochs=9)]
    comparison = comparison_of(
        [make_entry(folder / "runs", made, [0, 1], 60) for made in makes], failures=["B, seed 9: out of memory"]
    )
    return comparison, write_report(comparison, folder / "deep" / "out")


def test_the_folder_holds_every_file_and_no_scratch(written):
    _, page = written
    assert page.name == "report.html"
    assert {path.name for path in page.parent.iterdir()} == set(FILES)


def test_tables_read_back_as_they_were(written):
    comparison, page = written
    results = read_results(comparison)
    back = pd.read_csv(page.with_name("tests.csv"), float_precision="round_trip", keep_default_na=True)
    expected = compare_pairs(results)
    assert back["p_t_holm"].tolist() == expected["p_t_holm"].tolist()
    curves = pd.read_csv(page.with_name("curves.csv"), float_precision="round_trip")
    assert len(curves) == sum(len(run.manifest["curve"]) for run in results.all_runs)
    first = results.runs["A"][0].manifest
    assert curves.iloc[0].tolist() == ["A", 0, 0, first["curve"][0]["score"], first["curve"][0]["seconds"]]
    cost = pd.read_csv(page.with_name("cost.csv"), float_precision="round_trip").set_index("entry")
    runs = [run.manifest for run in results.runs["B"]]
    assert cost.loc["B", "seconds_train"] == pytest.approx(np.mean([m["seconds"]["train"] for m in runs]))
    assert cost.loc["B", "seconds_epoch"] == pytest.approx(np.mean([m["seconds"]["train"] / m["result"]["epochs"] for m in runs]))
    assert cost.loc["B", "best_epoch"] == pytest.approx(np.mean([m["result"]["best_epoch"] for m in runs]))
    assert np.isnan(cost.loc["B", "gpu_peak_bytes"])


def test_the_users_of_all_runs_stand_in_one_file(written):
    comparison, page = written
    users = pd.read_parquet(page.with_name("per_user.parquet"))
    results = read_results(comparison)
    assert list(users.columns[:5]) == ["entry", "seed", "user_id", "n_train", "n_test"]
    assert len(users) == 4 * 60
    for run in results.runs["B"]:
        own = users[(users["entry"] == "B") & (users["seed"] == run.seed)]
        pd.testing.assert_frame_equal(own.drop(columns=["entry", "seed"]).reset_index(drop=True), run.users)


def test_markdown_says_what_was_found_and_what_failed(written):
    text = written[1].with_name("table.md").read_text()
    assert text.startswith("# A comparison\n")
    assert "has the best test Recall@20" in text
    assert "**Failed**: B, seed 9: out of memory" in text


def test_the_same_runs_give_the_same_bytes(written, tmp_path):
    comparison, page = written
    again = write_report(comparison, tmp_path)
    for name in FILES:
        assert again.with_name(name).read_bytes() == page.with_name(name).read_bytes(), name


@pytest.mark.usefixtures("small_pictures")
def test_other_files_stay_and_charts_of_an_earlier_report_go(tmp_path):
    out = tmp_path / "out"
    (out / "runs").mkdir(parents=True)
    (out / "runs" / "keep.json").write_text("{}")
    (out / "slices.png").write_text("old")
    (out / "per_user.parquet").write_text("old")
    write_report(comparison_of([plain_entry(tmp_path, "A", {0: [0.2, 0.4]}, per_user=None)]), out)
    left = {path.name for path in out.iterdir()}
    assert "keep.json" in {path.name for path in (out / "runs").iterdir()}
    assert left & {"slices.png", "per_user.parquet", "pairs.png"} == set()
    assert {"report.html", "bars.png", "cost.png", "table.md", "runs"} <= left


def test_what_is_refused_writes_nothing(tmp_path):
    entry = plain_entry(tmp_path, "A", {0: [0.2, 0.4]})
    with pytest.raises(ConfigurationError):
        write_report(comparison_of([entry], metric="ndcg@3"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("small_pictures")
def test_an_entry_whose_runs_all_failed_is_among_the_failures(tmp_path):
    comparison = Comparison("T", "ml-100k", [plain_entry(tmp_path, "A", {0: [0.2, 0.4]}), Entry("Gone", [])], "Gone")
    page = write_report(comparison, tmp_path / "out")
    assert "Gone has no finished run." in page.read_text()
    assert "**Failed**: Gone has no finished run." in page.with_name("table.md").read_text()


@pytest.mark.slow
def test_real_runs_are_reported(tmp_path):
    from recbole_ib.training.run import run_recbole_ib

    settings = {"epochs": 2, "per_user": True, "split_seed": 2020, "show_progress": False, "state": "ERROR"}
    entries = []
    for name in ("BPR", "VBPR"):
        runs = [run_recbole_ib(name, "ml-100k", None, settings | {"seed": seed}) for seed in (0, 1)]
        entries.append(Entry(name, [run["manifest"] for run in runs]))
        for run in runs:
            manifest = json.loads(Path(run["manifest"]).read_text())
            assert manifest["result"]["test"] == run["test_result"]
    page = write_report(Comparison("Real", "ml-100k", entries, "BPR"), tmp_path / "out")
    tests = pd.read_csv(page.with_name("tests.csv"))
    assert (tests["users"] == 938).all()
    assert (tests["seeds"] == 2).all()
    assert (tests["users_left_out"] == 0).all()
    slices = pd.read_csv(page.with_name("slices.csv"))
    assert set(slices["slice"]) >= {"head", "tail", "cold"}
    assert "stopped by its epoch limit of 2" in page.read_text()

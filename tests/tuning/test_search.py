"""Whole searches on Ray: the files they leave, failures, kills, resuming, two machines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

import recbole_ib
from recbole_ib import run_recbole_ib
from recbole_ib.errors import ConfigurationError
from recbole_ib.training.checkpoint import read_checkpoint
from recbole_ib.training.manifest import read_manifest
from tests.support.tuning import SPACE

ROOT = Path(__file__).resolve().parents[2]
FILES = {"search.json", "trials.csv", "best.yaml", "best.pth", "result.json", "parallel.png", "slices.png"}


def records(folder: Path) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in (folder / "trials").glob("*/trial.json")]
    return {record["id"]: record for record in found}


def test_a_search_of_two_trials_on_one_core(settings, tmp_path):
    out = tmp_path / "out"
    found = recbole_ib.tune(
        "VLATTICE", "planted", SPACE, config_dict=settings, samples=2, out=out, cpus=1, scheduler="none", search="random"
    )
    assert {path.name for path in out.iterdir()} >= FILES
    assert list(found.trials["status"]) == ["finished", "finished"]
    assert found.best_valid_score == found.trials["score"].max()
    # a random search tries the model's own settings too
    assert (0.001, 0.001) in {(r["values"]["learning_rate"], r["values"]["reg_weight"]) for r in records(out).values()}
    # the winner's own test, as a run with best.yaml gives it
    run = run_recbole_ib(config_file_list=[str(out / "best.yaml")], config_dict={"checkpoint_dir": str(tmp_path / "saved")})
    assert run["test_result"] == found.test_result
    assert run["best_valid_result"] == found.valid_result
    assert read_checkpoint(out / "best.pth")["best_valid_score"] == found.best_valid_score
    # only the winner's weights are kept
    assert len(list((out / "trials").glob("*/*.pth"))) == 1


def test_a_folder_with_a_search_is_refused(settings, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "search.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"holds a search already: --resume .* --fresh .* --out=DIR"):
        recbole_ib.tune("VLATTICE", "planted", SPACE, config_dict=settings, out=out)


@pytest.mark.slow
def test_four_trials_of_optuna_with_asha(settings, tmp_path, capsys):
    out = tmp_path / "out"
    found = recbole_ib.tune(
        "IBMRec",
        "planted",
        config_dict={**settings, "epochs": 6},
        samples=4,
        out=out,
        cpus=2,
        grace=1,
        heatmaps=("knn_k,sigma2",),
    )
    assert len(found.trials) == 4
    assert f"knn_k = {settings['knn_k']!r} is given, and searched: trials take the space's values" in capsys.readouterr().out
    assert set(found.trials["status"]) <= {"finished", "stopped"}
    for pair in ("fib_weight-sigma2", "gib_weight-gib_sigma2", "knn_k-sigma2"):
        assert (out / f"heatmap-{pair}.png").stat().st_size > 10_000
    table = pd.read_csv(out / "trials.csv")
    assert list(table["score"]) == sorted(table["score"], reverse=True)
    stopped = [r for r in records(out).values() if r["status"] == "stopped"]
    assert all(r["epochs"] < 6 for r in stopped)
    assert yaml.safe_load((out / "best.yaml").read_text())["fib_weight"] == found.best["fib_weight"]


@pytest.mark.slow
def test_asha_stops_what_falls_behind(settings, tmp_path):
    out = tmp_path / "out"
    rates = [0.01, 1e-7, 1e-8, 1e-9]
    found = recbole_ib.tune(
        "VBPR",
        "planted",
        {"learning_rate": {"choice": rates}},
        config_dict={**settings, "epochs": 6},
        search="grid",
        grace=2,
        out=out,
        cpus=1,
    )
    by_rate = {record["values"]["learning_rate"]: record for record in records(out).values()}
    assert by_rate[0.01]["status"] == "finished"
    assert by_rate[0.01]["epochs"] == 6
    assert [by_rate[rate]["status"] for rate in rates[1:]] == ["stopped"] * 3
    assert all(by_rate[rate]["epochs"] < 6 for rate in rates[1:])
    assert found.best["learning_rate"] == 0.01
    # the winner's record, as every run's
    manifest = read_manifest(out / "best.json")
    assert manifest["result"]["test"] == found.test_result
    assert manifest["result"]["epochs"] == len(manifest["curve"]) == 6
    assert manifest["result"]["ended"] == "epochs"
    assert manifest["result"]["patience"] > 300, "a set with few batches an epoch"
    assert manifest["memory"]["peak_bytes"] is None  # the trial's process is gone


@pytest.mark.slow
@pytest.mark.parametrize("model", ["BPR", "LightGCN"])
def test_recboles_own_models(model, settings, tmp_path):
    out = tmp_path / "out"
    found = recbole_ib.tune(model, "planted", config_dict=settings, samples=2, out=out, cpus=2, search="random")
    run = run_recbole_ib(config_file_list=[str(out / "best.yaml")], config_dict={"checkpoint_dir": str(tmp_path / "saved")})
    assert run["test_result"] == found.test_result
    assert (out / "best.pth").is_file()


@pytest.mark.slow
def test_a_failing_trial_among_good_ones(settings, tmp_path, capsys):
    out = tmp_path / "out"
    space = {"learning_rate": {"choice": [0.001, -1.0, 0.01]}}
    found = recbole_ib.tune("VLATTICE", "planted", space, config_dict=settings, out=out, cpus=2, search="grid", scheduler="none")
    assert sorted(found.trials["status"]) == ["failed", "finished", "finished"]
    bad = found.trials[found.trials["status"] == "failed"].iloc[0]
    assert bad["learning_rate"] == -1.0
    assert "ValueError: Invalid learning rate" in bad["error"]
    assert "FAILED: ValueError: Invalid learning rate" in capsys.readouterr().out
    assert f"{bad['id']} failed (learning_rate=-1): ValueError" in found.text
    assert found.best["learning_rate"] in (0.001, 0.01)
    table = pd.read_csv(out / "trials.csv")
    assert table["error"].notna().sum() == 1


@pytest.mark.slow
def test_no_trial_that_finishes_is_an_error_that_names_them_all(settings, tmp_path):
    space = {"learning_rate": {"choice": [-1.0, -2.0]}}
    with pytest.raises(ConfigurationError, match=r"(?s)none of the 2 trials finished:.*=-1.*=-2|=-2.*=-1"):
        recbole_ib.tune("VLATTICE", "planted", space, config_dict=settings, out=tmp_path / "out", cpus=2, search="grid")


def start(words, log: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with log.open("a") as file:
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
                "import sys; from recbole_ib.cli.main import main; sys.exit(main())",
                "tune",
                *words,
            ],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=log.parent,
        )


def wait_for(condition, seconds: float, what: str):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what} did not come within {seconds} s")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def words_of(settings, out: Path, space: Path) -> list[str]:
    given = {**settings, "epochs": 60, "stopping_step": 60}
    words = [
        "--model",
        "VLATTICE",
        "--dataset=planted",
        f"--space={space}",
        "--samples",
        "5",
        "--scheduler",
        "none",
        "--cpus",
        "2",
    ]
    return [*words, "--out", str(out), *(f"--{key}={value}" for key, value in given.items())]


@pytest.fixture
def space_file(tmp_path) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(
        yaml.safe_dump({"learning_rate": {"choice": [0.001, 0.003, 0.01]}, "reg_weight": {"loguniform": [1e-5, 1e-2]}})
    )
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("ended_by", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_an_ended_command_leaves_nobody_training_and_goes_on_where_it_was(ended_by, status, settings, tmp_path, space_file):
    out, log = tmp_path / "out", tmp_path / "command.log"
    words = words_of(settings, out, space_file)
    command = start(words, log)
    try:
        wait_for(lambda: sum(r["status"] == "finished" for r in records(out).values()) >= 2, 120, "two finished trials")
        time.sleep(3)  # Ray notes the state of the search every two seconds
        finished = {
            trial: (out / "trials" / trial / "trial.json").stat().st_mtime_ns
            for trial, record in records(out).items()
            if record["status"] == "finished"
        }
        running = wait_for(lambda: [r for r in records(out).values() if r["status"] == "running"], 60, "a running trial")
    finally:
        command.send_signal(ended_by)
        command.wait(60)
    assert command.returncode == status
    assert ("Interrupted. The same command with --resume" in log.read_text()) is (ended_by is signal.SIGINT)
    assert len(finished) < 5
    wait_for(lambda: not any(alive(record["pid"]) for record in running), 30, "the end of the workers")

    refused = start(words, tmp_path / "refused")
    assert refused.wait(120) == 1
    assert "holds a search already: --resume" in (tmp_path / "refused").read_text()

    again = start([*words, "--resume"], log)
    assert again.wait(300) == 0, log.read_text()
    after = records(out)
    assert [r["status"] for r in after.values()] == ["finished"] * 5
    for trial, changed in finished.items():
        assert (out / "trials" / trial / "trial.json").stat().st_mtime_ns == changed
    for trial, record in after.items():
        assert [point["epoch"] for point in record["curve"]] == list(range(60)), trial
    assert "going on with the search" in log.read_text()
    assert {path.name for path in out.iterdir()} >= FILES


@pytest.mark.slow
def test_a_killed_worker_goes_on_from_its_last_checkpoint(settings, tmp_path, space_file):
    out, log = tmp_path / "out", tmp_path / "command.log"
    command = start(words_of(settings, out, space_file), log)
    try:
        victim = wait_for(
            lambda: next((r for r in records(out).values() if r["status"] == "running" and r["epochs"] >= 5), None),
            120,
            "a running trial",
        )
        os.kill(victim["pid"], signal.SIGKILL)
        assert command.wait(300) == 0, log.read_text()
    finally:
        if command.poll() is None:
            command.kill()
    record = records(out)[victim["id"]]
    assert (record["status"], record["starts"]) == ("finished", 2)
    assert record["pid"] != victim["pid"]
    assert [point["epoch"] for point in record["curve"]] == list(range(60))
    given = {**settings, "epochs": 60, "stopping_step": 60, **record["values"]}
    whole = run_recbole_ib("VLATTICE", "planted", config_dict={**given, "checkpoint_dir": str(tmp_path / "saved")})
    assert record["best_score"] == whole["best_valid_score"]


@pytest.mark.slow
def test_another_search_is_not_resumed(settings, tmp_path):
    out = tmp_path / "out"
    recbole_ib.tune("BPR", "planted", config_dict={**settings, "epochs": 1}, samples=1, out=out, cpus=1, scheduler="none")
    with pytest.raises(ConfigurationError, match=r"another search .* samples: 1 then, 2 now"):
        recbole_ib.tune(
            "BPR", "planted", config_dict={**settings, "epochs": 1}, samples=2, out=out, scheduler="none", resume=True
        )
    with pytest.raises(ConfigurationError, match='model: "BPR" then, "LightGCN" now'):
        recbole_ib.tune(
            "LightGCN", "planted", config_dict={**settings, "epochs": 1}, samples=1, out=out, scheduler="none", resume=True
        )
    # a finished one says again what it found
    again = recbole_ib.tune(
        "BPR", "planted", config_dict={**settings, "epochs": 1}, samples=1, out=out, cpus=1, scheduler="none", resume=True
    )
    assert len(again.trials) == 1


@pytest.mark.slow
def test_a_grid_on_two_machines(settings, tmp_path):
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        space = {"learning_rate": {"choice": [0.001, 0.01]}, "knn_k": {"int": [4, 5]}}
        found = recbole_ib.tune(
            "VLATTICE", "planted", space, config_dict={**settings, "epochs": 20}, out=tmp_path / "out", address=cluster.address,
            search="grid", scheduler="none",
        )  # fmt: skip
        assert sorted(zip(found.trials["learning_rate"], found.trials["knn_k"], strict=True)) == [
            (0.001, 4), (0.001, 5), (0.01, 4), (0.01, 5),
        ]  # fmt: skip
        assert len({record["node"] for record in records(tmp_path / "out").values()}) == 2
    finally:
        ray.shutdown()
        cluster.shutdown()

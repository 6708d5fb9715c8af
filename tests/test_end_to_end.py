"""Real commands in processes of their own: from a cold start, or, where the start is not looked at, forked from a prepared one."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from recbole_ib.training.checkpoint import last_path
from tests.support.processes import fresh_python

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def command(*words, **kwargs):
    return subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, **kwargs)


def test_the_bare_command_trains_ibmrec_on_the_bundled_sample(tmp_path):
    done = command(sys.executable, str(ROOT / "run_recbole_ib.py"), "--epochs=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "IBMRec on ml-100k" in done.stdout
    assert re.search(r"^recall@20 +0\.\d{4} +0\.\d{4}$", done.stdout, re.MULTILINE)
    (checkpoint,) = (p for p in (tmp_path / "saved").glob("*.pth") if not p.stem.endswith("-last"))
    assert f"checkpoint: saved/{checkpoint.name}" in done.stdout
    assert "Traceback" not in done.stderr
    assert "Warning: " not in done.stderr


def test_a_wrong_key_ends_with_one_line_and_no_traceback(tmp_path):
    done = fresh_python("-m", "recbole_ib", "--fib_wieght=2", cwd=tmp_path, env=ENVIRONMENT)
    assert done.returncode == 1
    assert "fib_weight" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("model", ["BPR", "LightGCN"])
def test_recboles_own_models_run_on_the_sample(tmp_path, model):
    words = ["-m", "recbole_ib", f"--model={model}", "--epochs=1", "--topk=[5]", "--valid_metric=NDCG@5"]
    done = fresh_python(*words, cwd=tmp_path, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"^ndcg@5 +0\.\d{4} +0\.\d{4}$", done.stdout, re.MULTILINE)


def test_a_killed_run_is_resumed_to_the_same_numbers(tmp_path, planted_path):
    """kill -9 in the middle, then --resume_checkpoint: the table equals that of a run left alone."""
    words = ["-m", "recbole_ib", "--model=IBMRec", "--dataset=planted", f"--data_path={planted_path}"]
    words += ["--epochs=20", "--stopping_step=100", "--train_batch_size=64", "--show_progress=False"]
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = fresh_python(*words, cwd=tmp_path / "whole", env=ENVIRONMENT)
    assert whole.returncode == 0, whole.stderr[-2000:]

    victim = subprocess.Popen(
        [sys.executable, *words], cwd=tmp_path / "killed", env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    saved, deadline = tmp_path / "killed" / "saved", time.monotonic() + 200
    while not list(saved.glob("*-last.pth")) and time.monotonic() < deadline:
        assert victim.poll() is None
        time.sleep(0.02)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    (last,) = saved.glob("*-last.pth")
    stopped_at = torch.load(last, weights_only=True)["epoch"]
    assert stopped_at < 19

    resumed = fresh_python(*words, f"--resume_checkpoint={last}", cwd=tmp_path / "killed", env=ENVIRONMENT)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    table = r"^(?:recall|precision|ndcg)@\d+ .*$"
    assert re.findall(table, resumed.stdout, re.MULTILINE) == re.findall(table, whole.stdout, re.MULTILINE)
    assert torch.load(last_path(str(last).replace("-last", "")), weights_only=True)["epoch"] == 19


def test_two_runs_started_together_keep_apart(tmp_path, planted_path):
    words = [sys.executable, "-m", "recbole_ib", "--model=VBPR", "--dataset=planted", f"--data_path={planted_path}", "--epochs=1"]
    runs = [
        subprocess.Popen(words, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [run.communicate(timeout=200)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    assert len([p for p in (tmp_path / "saved").glob("VBPR-*.pth") if not p.stem.endswith("-last")]) == 2

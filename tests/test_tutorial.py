"""docs/tutorial.md, run as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

TUTORIAL = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"
SHELLS = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}


def blocks() -> list[tuple[str, str]]:
    """The page's blocks of commands, in order: (language, text)."""
    return re.findall(r"^```(bash|python)\n(.*?)^```$", TUTORIAL.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_every_block_of_the_page_is_one_that_is_run():
    fences = re.findall(r"^```(\w+)$", TUTORIAL.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(blocks()) == len(fences) >= 8


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path):
    # the command as an installed package has it
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    command = bin_folder / "recbole-ib"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m recbole_ib "$@"\n')
    command.chmod(0o755)
    here = tmp_path / "empty"
    here.mkdir()
    environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(TUTORIAL.parents[1])}
    said = []
    for language, text in blocks():
        done = subprocess.run([*SHELLS[language], text], cwd=here, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        said.append(done.stdout)
    trials = pd.read_csv(here / "tuned" / "IBMRec" / "trials.csv")
    assert len(trials) == 4
    for name in ("BPR", "VBPR", "IBMRec"):
        assert name in (here / "compared" / "table.md").read_text()
    assert (here / "compared" / "report.html").stat().st_size > 10_000
    recommended = pd.read_csv(here / "recommendations.csv", dtype=str)
    assert recommended["user_id"].tolist() == ["c1"] * 5 + ["c42"] * 5
    events = pd.read_csv(here / "events.csv", dtype=str)
    had = events[events["stars"].astype(float) >= 4].groupby("customer")["product"].agg(set)
    for user, item in zip(recommended["user_id"], recommended["item_id"], strict=True):
        assert item not in had[user]
    assert (here / "embeddings" / "items.npy").is_file()
    for item in recommended["item_id"]:
        assert item in said[-1]

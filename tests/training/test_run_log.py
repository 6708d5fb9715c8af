"""A run's log: its own file, closed with it, none of a refused run; and many runs in one process leave nothing open."""

import logging
import os
import threading
from pathlib import Path

import pytest

from recbole_ib import run_recbole_ib
from recbole_ib.errors import ConfigurationError, DataError
from recbole_ib.utils.files import atomic_write, remove_scratch

SETTINGS = {"epochs": 1, "show_progress": False, "use_gpu": False, "state": "INFO", "train_batch_size": 512}


def run(planted_path, model="VBPR", **settings):
    return run_recbole_ib(model, "planted", config_dict={**SETTINGS, "data_path": str(planted_path), **settings})


def logs():
    return sorted(Path("log").rglob("*.log"))


def test_every_run_has_a_log_of_its_own(planted_path):
    before = list(logging.getLogger().handlers)
    for _ in range(3):
        run(planted_path)
    assert len(logs()) == 3
    assert all(text.count("best valid") == 1 for text in (path.read_text() for path in logs()))
    assert logging.getLogger().handlers == before


def test_a_refused_run_leaves_none(planted_path, tmp_path):
    with pytest.raises(ConfigurationError):
        run(planted_path, epochs=-1)
    (tmp_path / "d" / "planted").mkdir(parents=True)
    (tmp_path / "d" / "planted" / "planted.inter").write_text("user_id:token\titem_id:token\nu\n")
    with pytest.raises(DataError, match="line 2 has 1 fields"):
        run(tmp_path / "d", model="BPR")
    assert logs() == []


def test_runs_in_one_process_leave_no_thread_and_no_open_file(planted_path):
    def held():
        return threading.active_count(), len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0

    run(planted_path)
    before = held()
    for _ in range(4):
        run(planted_path)
    threads, files = held()
    assert threads <= before[0]
    assert files <= before[1] + 1


def test_scratch_files_of_killed_processes_are_removed_by_the_next_run(planted_path):
    Path("saved").mkdir()
    with atomic_write("saved/x.pth") as scratch:
        mine = scratch
        scratch.write_text("")
        dead = scratch.with_name(scratch.name.replace(f"-{os.getpid()}-", "-99999999-"))
        dead.write_text("half")
        other = Path("saved/.y.abcdef-99999999-000000.tmp.pth")
        other.write_text("another machine's")
        run(planted_path)
        assert mine.exists()
        assert not dead.exists()
        assert other.exists()
    assert remove_scratch("saved") == []

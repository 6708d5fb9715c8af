"""The setting ``threads``: how many a run takes, and that a resumed run takes those of its checkpoint."""

import logging

import pytest
import torch

from recbole_ib.errors import ConfigurationError
from recbole_ib.training import threads
from recbole_ib.training.checkpoint import read_checkpoint
from recbole_ib.training.run import run_recbole_ib
from recbole_ib.utils.threads import Load


@pytest.fixture
def machine(monkeypatch):
    """A machine of eight cores on which torch has eight threads, whatever this one is."""
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    now, busy = [8], [0.0]
    monkeypatch.setattr(threads, "TORCHS_OWN", 8)
    monkeypatch.setattr(threads, "usable_cores", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: now[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda number: now.__setitem__(0, number))
    monkeypatch.setattr(Load, "elsewhere", lambda _: busy[0])
    return now, busy


def taken(**settings):
    config = {"threads": "auto", "resume_checkpoint": None, **settings}
    with threads.threads_of(config) as number:
        assert torch.get_num_threads() == number == config["threads"]
        return number


def test_what_decides(machine, monkeypatch, caplog):
    now, busy = machine
    caplog.set_level(logging.INFO)
    assert taken() == 8
    busy[0] = 2.9
    assert taken() == 5
    assert "Threads: 5 of 8 cores, 2.9 of them busy with other work; --threads=5 repeats the run" in caplog.text
    assert taken(threads=3) == 3
    now[0] = 6  # torch.set_num_threads(6)
    assert taken() == 6
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert taken() == 6
    assert "as OMP_NUM_THREADS says" in caplog.text
    assert now == [6]  # as before the runs


def test_a_run_that_goes_on_takes_the_threads_that_it_had(planted_path, tmp_path, caplog, monkeypatch):
    settings = {"data_path": str(planted_path), "checkpoint_dir": str(tmp_path), "epochs": 1, "show_progress": False}
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    run_recbole_ib("VBPR", "planted", config_dict={**settings, "threads": 3})
    last = next(tmp_path.glob("*-last.pth"))
    assert read_checkpoint(last)["config"]["threads"] == 3
    caplog.set_level(logging.INFO)
    run_recbole_ib("VBPR", "planted", config_dict={**settings, "epochs": 2, "resume_checkpoint": str(last)})
    assert "Threads: 3 of" in caplog.text
    assert "those of the run that goes on" in caplog.text


@pytest.mark.parametrize("value", [0, -1, 1.5, "all", None])
def test_other_values_are_refused(planted_path, value):
    with pytest.raises(ConfigurationError, match=r"threads is .*; it takes a whole number, 1 or more, or auto"):
        run_recbole_ib("VBPR", "planted", config_dict={"data_path": str(planted_path), "threads": value})

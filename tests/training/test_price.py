"""What a run will cost, said before and at its start."""

import logging
from types import SimpleNamespace

import pytest
import torch

from recbole_ib.training import price
from recbole_ib.training.run import run_recbole_ib


@pytest.fixture
def clock(monkeypatch):
    """A clock that a batch moves by half a second, the first two by five."""
    now = [0.0]
    monkeypatch.setattr(price.time, "perf_counter", lambda: now[0])

    def batches(number):
        for batch in range(number):
            yield batch
            now[0] += 5.0 if batch < 2 else 0.5

    return batches


def test_an_epochs_seconds_are_those_of_the_batches_after_the_first(clock, caplog):
    caplog.set_level(logging.INFO)
    told = price.Price(epochs=300)
    assert list(told.of(clock(40), 400)) == list(range(40))
    assert "An epoch takes about 3.3 min: 400 batches of 0.5 s; 300 epochs, the most that there are, 17 h" in caplog.text
    assert "GiB at most so far" in caplog.text
    caplog.clear()
    list(told.of(clock(40), 400))
    assert not caplog.text


@pytest.mark.parametrize(("seen", "total"), [(40, 15), (5, 5), (0, 0)])
def test_a_short_epoch_tells_itself(seen, total, clock, caplog):
    caplog.set_level(logging.INFO)
    list(price.Price(epochs=2).of(clock(seen), total))
    assert not caplog.text


def test_seconds_as_people_say_them():
    assert [price.duration(s) for s in (0.4, 119, 121, 3600, 7300, 90_000)] == [
        "0 s",
        "119 s",
        "2.0 min",
        "60 min",
        "2.0 h",
        "25 h",
    ]


def test_what_is_not_there_is_said_before_training(monkeypatch, caplog, tmp_path):
    model = torch.nn.Linear(2**10, 2**10, bias=False)  # 4 MiB of weights: 12 for gradient and moments, 36 on the disk
    memory, disk = [2**40], [2**40]
    monkeypatch.setattr(price.psutil, "virtual_memory", lambda: SimpleNamespace(available=memory[0]))
    monkeypatch.setattr(price.shutil, "disk_usage", lambda _: SimpleNamespace(free=disk[0]))
    folder = tmp_path / "not" / "yet"
    price.say_room(model, torch.device("cpu"), str(folder), saved=True)
    assert not caplog.text
    memory[0] = 11 * 2**20
    price.say_room(model, torch.device("cpu"), str(folder), saved=True)
    assert "Gradients and the optimizer's moments take 0.0 GiB" in caplog.text
    assert "embedding_size" in caplog.text
    caplog.clear()
    price.say_room(model, "cuda", str(folder), saved=True)
    assert not caplog.text
    memory[0], disk[0] = 2**40, 35 * 2**20
    price.say_room(model, torch.device("cpu"), str(folder), saved=True)
    assert f"are free in {tmp_path}: free some space, or set checkpoint_dir" in caplog.text
    caplog.clear()
    price.say_room(model, torch.device("cpu"), str(folder), saved=False)
    assert not caplog.text


@pytest.mark.parametrize("model", ["VBPR", "BPR"])
def test_a_run_says_it(model, planted_path, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(price, "WORTH_SAYING", 0.0)
    monkeypatch.setattr(price, "SECONDS", 0.0)
    monkeypatch.setattr(price.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    caplog.set_level(logging.INFO)
    settings = {"data_path": str(planted_path), "checkpoint_dir": str(tmp_path), "epochs": 1, "show_progress": False}
    run_recbole_ib(model, "planted", config_dict={**settings, "train_batch_size": 64})
    assert "The checkpoints take up to" in caplog.text
    assert ("An epoch takes about" in caplog.text) is (model == "VBPR")

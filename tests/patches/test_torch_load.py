"""Pickles that RecBole loads: those of this process, or with consent."""

import os
import pickle
import re
import sys
from pathlib import Path

import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.model.general_recommender import BPR
from recbole.quick_start import load_data_and_model
from recbole.trainer import Trainer

from recbole_ib.config.config import Config
from recbole_ib.errors import CheckpointError
from recbole_ib.patches import compat
from tests.support.plain_recbole import PRELUDE, SETTINGS, run_python, write_tiny

TRAIN_AND_SAVE = """
import recbole_ib
from recbole.quick_start import run_recbole
run_recbole(model="BPR", dataset="tiny", config_dict={**settings, "checkpoint_dir": "foreign"})
"""


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A folder with the data set ``tiny`` and a checkpoint of RecBole's that another process wrote."""
    folder = tmp_path_factory.mktemp("foreign")
    write_tiny(folder / "data")
    done = run_python(PRELUDE + TRAIN_AND_SAVE, folder)
    assert done.returncode == 0, done.stderr
    (checkpoint,) = (folder / "foreign").glob("*.pth")
    return folder, checkpoint


@pytest.fixture
def in_folder(foreign, monkeypatch):
    """Work beside the foreign checkpoint, trusting nothing; gives its path."""
    folder, checkpoint = foreign
    monkeypatch.chdir(folder)
    monkeypatch.delenv(compat.TRUST_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    return checkpoint


def save_here(name):
    """A BPR checkpoint that RecBole's Trainer writes in this process."""
    config = Config("BPR", "tiny", config_dict={**SETTINGS, "checkpoint_dir": "here"})
    dataset = create_dataset(config)
    train_data, _, _ = data_preparation(config, dataset)
    trainer = Trainer(config, BPR(config, train_data.dataset))
    trainer._save_checkpoint(0, verbose=False, saved_model_file=name)
    return trainer


def as_recbole(expression, **names):
    """Evaluate code as a module of RecBole would."""
    return eval(expression, {"__name__": "recbole.trainer.trainer", "torch": torch, **names})


@pytest.mark.parametrize("trust", [None, "0", "yes"])
def test_pickle_of_another_process_is_refused(trust, in_folder, monkeypatch):
    if trust is not None:
        monkeypatch.setenv(compat.TRUST_VARIABLE, trust)
    with pytest.raises(CheckpointError) as caught:
        load_data_and_model(str(in_folder))
    assert str(in_folder) in str(caught.value)
    assert "RECBOLE_IB_TRUST_CHECKPOINTS=1" in str(caught.value)


def test_pickle_of_another_process_is_not_resumed_by_recboles_trainer(in_folder):
    trainer = save_here("resume.pth")
    with pytest.raises(CheckpointError, match=re.escape(in_folder.name)):
        trainer.resume_checkpoint(str(in_folder))


def test_pickle_of_another_process_is_loaded_with_consent(in_folder, monkeypatch):
    monkeypatch.setenv(compat.TRUST_VARIABLE, "1")
    config, model, _, _, _, test_data = load_data_and_model(str(in_folder))
    assert (config["model"], type(model).__name__) == ("BPR", "BPR")
    saved = torch.load(in_folder, weights_only=False)["state_dict"]
    assert all(torch.equal(value, saved[key]) for key, value in model.state_dict().items())
    assert len(test_data) > 0


@pytest.mark.parametrize("name", ["own.pth", Path("own_path.pth")])
def test_pickle_of_this_process_is_loaded(name, in_folder):
    trainer = save_here(name)
    _, model, *_ = load_data_and_model(name)
    saved = trainer.model.state_dict()
    assert all(torch.equal(value, saved[key]) for key, value in model.state_dict().items())
    trainer.resume_checkpoint(Path(name).resolve())
    assert trainer.start_epoch == 1


def test_pickle_of_this_process_is_refused_after_it_was_replaced(in_folder):
    trainer = save_here("replaced.pth")
    Path("replaced.new").write_bytes(in_folder.read_bytes())
    os.replace("replaced.new", "replaced.pth")
    with pytest.raises(CheckpointError, match=re.escape("replaced.pth")):
        trainer.resume_checkpoint("replaced.pth")
    trainer._save_checkpoint(0, verbose=False, saved_model_file="replaced.pth")
    trainer.resume_checkpoint("replaced.pth")
    assert trainer.start_epoch == 1


def test_pickle_of_this_process_is_refused_after_it_was_overwritten_in_place(in_folder):
    trainer = save_here("overwritten.pth")
    with open("overwritten.pth", "r+b") as file:
        file.write(in_folder.read_bytes())
        file.truncate()
    stat = os.stat("overwritten.pth")
    os.utime("overwritten.pth", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    with pytest.raises(CheckpointError, match=re.escape("overwritten.pth")):
        trainer.resume_checkpoint("overwritten.pth")


def test_pickle_that_another_module_wrote_in_this_process_is_refused(in_folder):
    state = as_recbole("torch.load(f, weights_only=False)", f=in_folder)
    torch.save(state, "not_recboles.pth")
    with pytest.raises(CheckpointError, match=re.escape("not_recboles.pth")):
        load_data_and_model("not_recboles.pth")


class Malicious:
    """Unpickling it creates a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["zip", "pickle"])
def test_malicious_pickle_is_not_executed(form, in_folder, tmp_path):
    target = tmp_path / "executed"
    content = {"config": Malicious(target), "state_dict": {}}
    if form == "zip":
        torch.save(content, "malicious.pth")
    else:
        Path("malicious.pth").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(CheckpointError, match=re.escape("malicious.pth")):
        load_data_and_model("malicious.pth")
    assert not target.exists()
    # the file does what this test fears as soon as it is unpickled
    if form == "zip":
        torch.load("malicious.pth", weights_only=False)
    else:
        pickle.loads(Path("malicious.pth").read_bytes())
    assert target.is_dir()


def test_tensors_of_another_module_are_loaded_for_recbole(in_folder):
    torch.save({"state_dict": {"weight": torch.ones(2)}, "epoch": 3}, "plain.pth")
    loaded = as_recbole("torch.load('plain.pth', map_location='cpu')")
    assert loaded["epoch"] == 3
    assert torch.equal(loaded["state_dict"]["weight"], torch.ones(2))


@pytest.mark.parametrize("module", ["somewhere", "recbole_ib.training.checkpoint", "recbolex.trainer", "__main__"])
def test_torch_load_from_other_modules_is_untouched(module, in_folder):
    names = {"__name__": module, "torch": torch, "f": in_folder}
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        eval("torch.load(f)", dict(names))
    assert eval("torch.load(f, weights_only=False)", dict(names))["config"]["model"] == "BPR"


def test_consent_is_for_recboles_modules_alone(in_folder, monkeypatch):
    monkeypatch.setenv(compat.TRUST_VARIABLE, "1")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(in_folder)


def test_an_explicit_weights_only_of_recbole_is_respected(in_folder):
    with pytest.raises(pickle.UnpicklingError):
        as_recbole("torch.load(f, weights_only=True)", f=in_folder)
    assert as_recbole("torch.load(f, weights_only=False)", f=in_folder)["config"]["model"] == "BPR"


def test_a_missing_file_stays_a_missing_file(in_folder):
    with pytest.raises(FileNotFoundError):
        load_data_and_model("nowhere.pth")

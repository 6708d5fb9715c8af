"""Trained models are loaded with the data they were trained on, or refused."""

import os
import pickle
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_ib import load
from recbole_ib.config.config import Config
from recbole_ib.errors import CheckpointError, ConfigurationError, DataError
from recbole_ib.patches.compat import TRUST_VARIABLE
from tests.support.datasets import planted, write_dataset
from tests.support.recommend import naive, planted_seen, train


@pytest.fixture
def moved(tmp_path):
    """A data path, a checkpoint of VBPR on its data set ``planted``."""
    pairs, modalities, _, _ = planted()
    path = write_dataset(tmp_path / "data", "planted", pairs, modalities)
    return path, train(path, tmp_path / "saved")


def test_data_that_changed_since_are_refused(moved):
    path, checkpoint = moved
    inter = path / "planted" / "planted.inter"
    before = inter.read_text()
    taken = planted_seen()
    new = next(f"u0\ti{i}\n" for i in range(60) if ("u0", f"i{i}") not in taken)
    inter.write_text(before + new)
    with pytest.raises(CheckpointError, match=r"interactions or features of 'planted' .* are not those"):
        load(checkpoint)
    inter.write_text(before)
    load(checkpoint)
    np.save(path / "planted" / "text.npy", np.load(path / "planted" / "text.npy") + 1)
    with pytest.raises(CheckpointError, match=r"interactions or features of 'planted' .* are not those"):
        load(checkpoint)


def test_data_that_moved_are_found_by_data_path(moved, tmp_path):
    path, checkpoint = moved
    expected = load(checkpoint).recommend(k=3)
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match=r"no data set 'planted': .*--data_path=DIR says where"):
        load(checkpoint)
    pd.testing.assert_frame_equal(load(checkpoint, data_path=tmp_path / "elsewhere").recommend(k=3), expected)
    (tmp_path / "elsewhere" / "planted" / "planted.inter").unlink()
    with pytest.raises(DataError, match=r"planted\.inter is not there"):
        load(checkpoint, data_path=tmp_path / "elsewhere")


def test_another_json_beside_the_checkpoint_is_no_manifest(vbpr, tmp_path):
    mine = tmp_path / "mine.pth"
    mine.write_bytes(Path(vbpr).read_bytes())
    mine.with_suffix(".json").write_text('{"format": "recbole_ib run 1"}')
    assert len(load(mine).recommend(k=1))


def test_sizes_that_do_not_fit_a_recbole_model_are_refused(tmp_path):
    pairs, _, _, _ = planted()
    checkpoint = train(write_dataset(tmp_path / "data", "planted", pairs, {}), tmp_path / "saved", "BPR")
    inter = tmp_path / "data" / "planted" / "planted.inter"
    inter.write_text(inter.read_text() + "u0\ti999\n")
    with pytest.raises(CheckpointError, match="are not those that"):
        load(checkpoint)
    # without its manifest the sizes alone tell
    Path(checkpoint).with_suffix(".json").unlink()
    with pytest.raises(CheckpointError, match="does not fit BPR on its data set"):
        load(checkpoint)


def test_the_manifest_tells_of_a_test_set_that_alone_has_changed(tmp_path):
    pairs, modalities, _, _ = planted()
    data = write_dataset(tmp_path / "data", "planted", pairs, modalities, benchmark_filename=["train", "valid", "test"])
    folder = data / "planted"
    header, *lines = (folder / "planted.inter").read_text().splitlines()
    for i, part in enumerate(("train", "valid", "test")):
        (folder / f"planted.{part}.inter").write_text("\n".join([header, *lines[i::3]]) + "\n")
    checkpoint = train(data, tmp_path / "saved", "VBPR")
    load(checkpoint)
    test = folder / "planted.test.inter"
    test.write_text("\n".join(test.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(CheckpointError, match="are not those that"):
        load(checkpoint)


def test_loading_leaves_the_process_and_the_folder_as_they_were(vbpr, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    folder = Path(vbpr).parent
    files, state = sorted(folder.rglob("*")), (torch.get_rng_state(), np.random.get_state()[1].copy())
    load(vbpr, device="cpu").recommend(k=2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert sorted(folder.rglob("*")) == files
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])
    assert list(Path.cwd().iterdir()) == []


class Touch:
    """Runs code where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_pickle_beside_the_checkpoint_is_read(vbpr, tmp_path):
    shutil.copy(vbpr, tmp_path / "run.pth")
    for name in ("planted-MultimodalDataset.pth", "planted-VBPRDataset.pth", "planted-for-VBPR-dataloader.pth"):
        (tmp_path / name).write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    load(tmp_path / "run.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("device", "message"), [("nonsense", "device is 'nonsense'"), ("cuda:63", "torch sees .* GPUs here")])
def test_a_device_that_is_not_there_is_refused(vbpr, device, message):
    with pytest.raises(ConfigurationError, match=message):
        load(vbpr, device=device)


def test_files_that_are_no_checkpoint_are_named(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load(tmp_path / "none.pth")
    torch.save({"config": SimpleNamespace()}, tmp_path / "other.pth", pickle_protocol=4)
    with pytest.raises(CheckpointError, match=TRUST_VARIABLE):
        load(tmp_path / "other.pth")
    monkeypatch.setenv(TRUST_VARIABLE, "1")
    with pytest.raises(CheckpointError, match="holds no configuration"):
        load(tmp_path / "other.pth")


def test_a_sequential_model_is_refused(tmp_path, planted_path, monkeypatch):
    config = Config("GRU4Rec", "planted", config_dict={"data_path": str(planted_path), "train_neg_sample_args": None})
    torch.save({"config": config, "state_dict": {}}, tmp_path / "gru.pth", pickle_protocol=4)
    monkeypatch.setenv(TRUST_VARIABLE, "1")
    with pytest.raises(ConfigurationError, match="GRU4Rec, a sequential recommender"):
        load(tmp_path / "gru.pth")


def test_a_checkpoint_of_plain_recbole_is_read_with_its_own_settings(planted_path, tmp_path):
    from recbole.config import Config as RecBoleConfig
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    settings = {"data_path": str(planted_path), "checkpoint_dir": str(tmp_path), "epochs": 1, "show_progress": False}
    sys.argv = sys.argv[:1]
    config = RecBoleConfig("BPR", "planted", config_dict={**settings, "load_col": {"inter": ["user_id", "item_id"]}})
    init_seed(config["seed"], True)
    train_data, valid_data, _ = data_preparation(config, create_dataset(config))
    model = get_model("BPR")(config, train_data._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], "BPR")(config, model)
    trainer.fit(train_data, valid_data, verbose=False, saved=True)
    found = load(trainer.saved_model_file)
    assert found.config["eval_args"]["split"] == config["eval_args"]["split"]
    assert torch.equal(found.model.user_embedding.weight, model.user_embedding.weight)
    assert list(found.recommend(k=6).itertuples(index=False, name=None)) == naive(found, planted_seen(), 6)

"""Configuration: the host process, RecBole's own models, evaluation settings."""

import os

import pytest
import torch
from recbole.config import Config as RecBoleConfig

from recbole_ib.config.config import Config
from recbole_ib.errors import ConfigurationError
from tests.support.config_files import set_key

# -- the host process -------------------------------------------------------------------------------------------------


def test_arguments_of_the_host_process_are_ignored(monkeypatch):
    monkeypatch.setattr("sys.argv", ["pytest", "--learning_rate=0.5", "-x", "--fib_wieght=1", "--model=BPR"])
    config = Config("VBPR", "ml-100k")
    assert (config["model"], config["learning_rate"]) == ("VBPR", 0.001)
    # RecBole's own Config still reads them
    assert RecBoleConfig("VBPR", "ml-100k")["learning_rate"] == 0.5


@pytest.mark.parametrize(("use_gpu", "device"), [(False, "cpu"), (True, "cuda"), ("False", "cpu"), (None, "cuda")])
def test_use_gpu_decides_the_device(use_gpu, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    settings = {} if use_gpu is None else {"use_gpu": use_gpu}
    assert Config("VBPR", "ml-100k", config_dict=settings)["device"].type == device


def test_use_gpu_false_hides_the_gpus():
    assert Config("VBPR", "ml-100k", argv=["--use_gpu=False"])["gpu_id"] == ""
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


# -- RecBole's own models ---------------------------------------------------------------------------------------------


#: model -> settings that it needs
RECBOLE_SETTINGS = {
    "BPR": {},
    "LightGCN": {},
    "Pop": {},
    "ItemKNN": {},
    "NeuMF": {"epochs": 3},
    "MultiVAE": {"train_neg_sample_args": None},
    "GRU4Rec": {"train_neg_sample_args": None},
    "DeepFM": {},
}


@pytest.mark.parametrize("model", RECBOLE_SETTINGS)
def test_defaults_recbole_are_recboles_settings(model):
    settings = RECBOLE_SETTINGS[model]
    recboles = RecBoleConfig(model=model, dataset="ml-100k", config_dict=dict(settings)).final_config_dict
    ours = Config(model, "ml-100k", config_dict={**settings, "defaults": "recbole"}).final_config_dict
    assert {key: ours.get(key, "missing") for key in recboles} == recboles
    assert set(ours) - set(recboles) == {"defaults"}


def test_recboles_general_models_run_on_our_data_and_metrics():
    ours, theirs = Config("IBMRec", "ml-100k"), Config("BPR", "ml-100k")
    evaluation = ("metrics", "topk", "valid_metric", "stopping_step", "epochs", "eval_batch_size", "eval_args")
    assert theirs["stopping_batches"] == ours["stopping_batches"] == 1000
    for key in (*evaluation, "val_interval", "user_inter_num_interval", "item_inter_num_interval", "load_col"):
        assert theirs[key] == ours[key], key
    assert theirs["valid_metric"] == "Recall@20"


def test_defaults_keep_what_a_model_of_recbole_sets_itself(own_properties):
    set_key(own_properties / "overall.yaml", "embedding_size", 3)
    assert Config("BPR", "ml-100k")["embedding_size"] == 64


@pytest.mark.parametrize("model", ["IBMRec", "VBPR"])
def test_defaults_recbole_are_refused_for_our_models(model):
    with pytest.raises(ConfigurationError, match=f"defaults: recbole .*{model} needs the settings of recbole_ib"):
        Config(model, "ml-100k", argv=["--defaults=recbole"])


@pytest.mark.parametrize("model", ["IBMRec", "BPR"])
def test_other_defaults_are_refused(model):
    with pytest.raises(ConfigurationError, match="defaults is 'mmrec'; allowed: recbole_ib, recbole"):
        Config(model, "ml-100k", config_dict={"defaults": "mmrec"})


@pytest.mark.parametrize("model", ["GRU4Rec", "DeepFM", "CKE"])
def test_other_kinds_of_models_keep_recboles_settings(model):
    settings = {"train_neg_sample_args": None} if model == "GRU4Rec" else {}
    recboles = RecBoleConfig(model=model, dataset="ml-100k", config_dict=dict(settings))
    config = Config(model, "ml-100k", config_dict=settings)
    for key in ("metrics", "topk", "valid_metric", "stopping_step", "eval_batch_size", "eval_args", "load_col", "val_interval"):
        assert config[key] == recboles[key], key
    assert config["modalities"] is None

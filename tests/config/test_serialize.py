"""Plain copies of a configuration."""

from pathlib import Path

import pytest
import torch
from recbole.config import Config as RecBoleConfig

from recbole_ib.config.config import PAIRS_SCORED_ONE_BY_ONE, Config
from recbole_ib.config.serialize import config_from_plain, plain_config
from recbole_ib.errors import ConfigurationError
from tests.support.config_files import make_folder, set_key, write_yaml

COPIES = {
    "IBMRec": ("IBMRec", {}),
    "weights": ("VLATTICE", {"modality_weights": {"text": 0.9, "visual": 0.1}, "use_modalities": ["text", "visual"]}),
    "BPR": ("BPR", {}),
    "BPR, RecBole's defaults": ("BPR", {"defaults": "recbole"}),
    "MultiVAE": ("MultiVAE", {"train_neg_sample_args": None}),
    "popular negatives": ("VBPR", {"train_neg_sample_args": {"distribution": "popularity", "sample_num": 2}}),
    "sampled evaluation": (
        "VBPR",
        {"eval_args": {"mode": {"valid": "uni100", "test": "pop50"}, "order": "TO", "split": {"LS": "valid_and_test"}}},
    ),
    "GRU4Rec": ("GRU4Rec", {"train_neg_sample_args": None}),
    "closed interval": ("VBPR", {"val_interval": {"rating": "[3,5]"}}),
    "other folders": ("VBPR", {"topk": [5], "valid_metric": "Recall@5", "feature_path": "features", "checkpoint_dir": "kept"}),
}


@pytest.mark.parametrize("case", COPIES)
def test_config_from_plain_gives_the_same_settings(case):
    model, settings = COPIES[case]
    config = Config(model, "ml-100k", config_dict=settings)
    copy = config_from_plain(plain_config(config))
    old, new = dict(config.final_config_dict), dict(copy.final_config_dict)
    assert Path(old.pop("data_path")).resolve() == Path(new.pop("data_path")).resolve()
    assert new == old
    assert copy.model_class is config.model_class


def test_text_that_looks_like_a_value_survives_the_copy():
    file = write_yaml(Path("a.yaml"), user_inter_num_interval="[5,100]", wandb_project="2024", seq_separator="1")
    config = Config("VBPR", "ml-100k", config_file_list=[file])
    copy = config_from_plain(plain_config(config))
    for key, value in {"user_inter_num_interval": "[5,100]", "wandb_project": "2024", "seq_separator": "1"}.items():
        assert config[key] == value
        assert copy[key] == value, key


def test_relative_data_path_is_made_absolute_for_the_copy(tmp_path, monkeypatch):
    config = Config("VBPR", "mine", config_dict=make_folder("mine", seed=3))
    values = plain_config(config)
    assert values["data_path"] == str((tmp_path / "data").resolve())
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    copy = config_from_plain(values)
    assert (Path(copy["data_path"]), copy["seed"]) == ((tmp_path / "data" / "mine").resolve(), 3)


def test_changes_win_over_the_copied_settings():
    values = plain_config(Config("VBPR", "ml-100k", config_dict={"epochs": 4, "seed": 9}))
    copy = config_from_plain(values, epochs=7)
    assert (copy["epochs"], copy["seed"]) == (7, 9)
    assert values["epochs"] == 4


def test_a_copy_keeps_the_settings_when_the_yaml_changes(own_properties):
    values = plain_config(Config("VBPR", "ml-100k", config_dict={"topk": [20]}))
    set_key(own_properties / "overall.yaml", "stopping_step", values["stopping_step"] + 1)
    assert Config("VBPR", "ml-100k")["stopping_step"] == values["stopping_step"] + 1
    assert config_from_plain(values)["stopping_step"] == values["stopping_step"]


@pytest.mark.parametrize("case", COPIES)
def test_plain_config_is_made_of_plain_values(case):
    model, settings = COPIES[case]
    values = plain_config(Config(model, "ml-100k", config_dict=settings))

    def check(value):
        if isinstance(value, dict):
            assert all(type(key) is str for key in value)
            value = list(value.values())
        if isinstance(value, list):
            for part in value:
                check(part)
        else:
            assert value is None or type(value) in (bool, int, float, str), value

    check(values)


def test_plain_config_is_loaded_without_unpickling():
    values = plain_config(Config("IBMRec", "ml-100k"))
    torch.save(values, "config.pth")
    assert torch.load("config.pth", weights_only=True) == values
    assert (values["model"], values["dataset"]) == ("IBMRec", "ml-100k")


def test_plain_config_names_no_device():
    values = plain_config(Config("IBMRec", "ml-100k", config_dict={"use_gpu": False}))
    assert not {"device", "gpu_id", "use_gpu", "local_rank", "single_spec"} & set(values)


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"metrics": ["Recal"]}, ["'Recal'", "Did you mean recall"]),
        ({"valid_metric": "Recal@20"}, ["'Recal@20'", "Recall@20"]),
        ({"valid_metric": "Recall@50"}, ["'Recall@50'", "Computed: Recall@10, Recall@20"]),
        ({"topk": 0}, ["topk is 0", "1 or more"]),
        ({"eval_args": {"splitt": {"RS": [0.8, 0.1, 0.1]}}}, ["'splitt'", "Did you mean split"]),
        ({"train_neg_sample_args": {"distribution": "uniform", "sample_nums": 2}}, ["'sample_nums'", "Did you mean sample_num"]),
    ],
)
def test_wrong_evaluation_settings_are_named_before_training(settings, parts):
    with pytest.raises(ConfigurationError) as error:
        Config("IBMRec", "ml-100k", config_dict=settings)
    assert all(part in str(error.value) for part in parts), str(error.value)


@pytest.mark.parametrize(
    ("model", "settings", "expected"),
    [
        ("IBMRec", {}, 1 << 21),
        ("NeuMF", {}, PAIRS_SCORED_ONE_BY_ONE),
        ("IBMRec", {"eval_args": {"mode": "uni100"}}, PAIRS_SCORED_ONE_BY_ONE),
        ("NeuMF", {"eval_batch_size": 123}, 123),
    ],
)
def test_pairs_scored_one_by_one_come_in_smaller_batches(model, settings, expected):
    assert Config(model, "ml-100k", config_dict=settings)["eval_batch_size"] == expected


def test_recboles_own_config_refuses_unknown_keys_for_our_models():
    """Through RecBole's entry points too; the host process's command line is not ours to judge there."""
    with pytest.raises(ConfigurationError, match="fib_weight"):
        RecBoleConfig(model="IBMRec", dataset="ml-100k", config_dict={"fib_wieght": 3})

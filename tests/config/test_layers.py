"""The order of the layers, from overall.yaml to the command line, and the yaml of a data set's folder."""

import itertools
from pathlib import Path

import pytest
import recbole
import yaml

from recbole_ib.config.config import Config
from recbole_ib.config.layers import RECBOLE_PROPERTIES
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.backbones.vbpr import VBPR
from recbole_ib.model.settings import Override
from tests.support.config_files import make_folder, set_key, write_yaml

# -- precedence -------------------------------------------------------------------------------------------------------


LAYERS = ("overall", "model", "dataset", "folder", "file", "later file", "config_dict", "argv")


def config_with(present, key, properties, monkeypatch):
    """A Config of VBPR on ``mine`` where each present layer gives ``key`` the value 1 + its number."""
    value = {layer: LAYERS.index(layer) + 1 if layer in present else None for layer in LAYERS}
    Path("data/mine").mkdir(parents=True)
    if "model" in present:
        monkeypatch.setattr(VBPR, "settings", (*VBPR.settings, Override(key, default=value["model"])))
    for layer, path in {
        "overall": properties / "overall.yaml",
        "dataset": properties / "dataset" / "mine.yaml",
        "folder": Path("data/mine/mine.yaml"),
        "file": Path("first.yaml"),
        "later file": Path("second.yaml"),
    }.items():
        set_key(path, key, value[layer])
    settings = {"data_path": "data"}
    if "config_dict" in present:
        settings[key] = value["config_dict"]
    argv = [f"--{key}={value['argv']}"] if "argv" in present else []
    return Config("VBPR", "mine", config_file_list=["first.yaml", "second.yaml"], config_dict=settings, argv=argv)


@pytest.mark.parametrize("top", LAYERS)
def test_a_layer_wins_over_all_below_it(top, own_properties, monkeypatch):
    present = LAYERS[: LAYERS.index(top) + 1]
    assert config_with(present, "stopping_step", own_properties, monkeypatch)["stopping_step"] == LAYERS.index(top) + 1


@pytest.mark.parametrize(("lower", "upper"), list(itertools.pairwise(LAYERS)))
def test_a_layer_wins_over_the_next_one(lower, upper, own_properties, monkeypatch):
    assert config_with({lower, upper}, "stopping_step", own_properties, monkeypatch)["stopping_step"] == LAYERS.index(upper) + 1


def test_recboles_default_lies_below_ours(own_properties, monkeypatch):
    recboles = yaml.safe_load((RECBOLE_PROPERTIES / "overall.yaml").read_text())["stopping_step"]
    assert config_with(set(), "stopping_step", own_properties, monkeypatch)["stopping_step"] == recboles


def test_a_list_replaces_the_list_of_a_lower_layer():
    config = Config("VBPR", "ml-100k", config_dict={"topk": [5]}, argv=["--metrics=[MRR]", "--valid_metric=MRR@5"])
    assert (config["topk"], config["metrics"]) == ([5], ["MRR"])


def test_model_and_dataset_may_come_from_any_layer():
    file = write_yaml(Path("run.yaml"), model="VBPR", dataset="ml-100k")
    config = Config(config_file_list=[file], argv=["--model=LATTICE"])
    assert (config["model"], config["dataset"], config["item_graph"]) == ("LATTICE", "ml-100k", "learned")


def test_callers_config_dict_is_left_alone():
    settings = {"epochs": "3", "eval_args": {"mode": "full"}}
    assert Config("VBPR", "ml-100k", config_dict=settings)["epochs"] == 3
    assert settings == {"epochs": "3", "eval_args": {"mode": "full"}}


def test_config_file_reads_1e_4_as_a_number():
    Path("a.yaml").write_text("reg_weight: 1e-4\nweight_decay: +1.5E+3\nseed: 12\n")
    config = Config("VBPR", "ml-100k", config_file_list=["a.yaml"])
    assert (config["reg_weight"], config["weight_decay"], config["seed"]) == (1e-4, 1500.0, 12)


def test_empty_config_file_changes_nothing():
    Path("empty.yaml").write_text("# nothing\n")
    with_file = Config("VBPR", "ml-100k", config_file_list=["empty.yaml"])
    assert with_file.final_config_dict == Config("VBPR", "ml-100k").final_config_dict


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: [1", "is not valid yaml"), ("- 1\n- 2\n", "must map keys to values, got list"), ("just text", "got str")],
)
def test_broken_config_file_is_named(content, message):
    Path("broken.yaml").write_text(content)
    with pytest.raises(ConfigurationError, match=message) as caught:
        Config("VBPR", "ml-100k", config_file_list=["broken.yaml"])
    assert "broken.yaml" in str(caught.value)


def test_missing_config_file_names_a_near_one():
    write_yaml(Path("settings.yaml"), epochs=1)
    with pytest.raises(ConfigurationError, match=r"no config file setings\.yaml\. Did you mean settings\.yaml\?"):
        Config("VBPR", "ml-100k", config_file_list=["setings.yaml"])


# -- the data set's folder --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["VBPR", "BPR"])
def test_yaml_of_the_data_sets_folder_is_read(model):
    settings = make_folder("mine", USER_ID_FIELD="who", modalities={"sound": {"file": "sound.npz"}})
    config = Config(model, "mine", config_dict=settings)
    assert config["USER_ID_FIELD"] == "who"
    assert config["modalities"] == {"sound": {"file": "sound.npz"}}
    assert Path(config["data_path"]) == Path("data/mine")


def test_data_path_of_a_config_file_leads_to_the_folder():
    make_folder("mine", seed=77)
    file = write_yaml(Path("run.yaml"), data_path="data")
    assert Config("VBPR", "mine", config_file_list=[file])["seed"] == 77


def test_a_data_set_without_a_yaml_needs_none():
    Path("data/bare").mkdir(parents=True)
    assert Config("VBPR", "bare", config_dict={"data_path": "data"})["modalities"] is None


def test_ml_100k_of_the_users_folder_is_used_where_it_exists():
    make_folder("ml-100k", seed=5)
    config = Config("VBPR", "ml-100k", config_dict={"data_path": "data"})
    assert (Path(config["data_path"]), config["seed"]) == (Path("data/ml-100k"), 5)
    bundled = Config("VBPR", "ml-100k", config_dict={"data_path": "elsewhere"})
    assert Path(bundled["data_path"]).resolve() == Path(recbole.__file__).resolve().parent / "dataset_example" / "ml-100k"

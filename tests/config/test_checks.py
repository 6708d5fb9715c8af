"""Names that nobody reads: refused, with the nearest ones."""

from pathlib import Path

import pytest

from recbole_ib.config.checks import unread_settings
from recbole_ib.config.config import Config
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.registry import list_models
from tests.support.config_files import make_folder, write_yaml

# -- unknown names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["argv", "config_dict", "file", "folder"])
def test_unknown_key_is_refused_wherever_it_stands(where):
    settings, argv, files = {}, [], []
    dataset = "ml-100k"
    if where == "argv":
        argv = ["--fib_wieght=2"]
    elif where == "config_dict":
        settings = {"fib_wieght": 2}
    elif where == "file":
        files = [write_yaml(Path("a.yaml"), fib_wieght=2)]
    else:
        dataset, settings = "mine", make_folder("mine", fib_wieght=2)
    with pytest.raises(ConfigurationError, match=r"unknown setting 'fib_wieght'.*Did you mean fib_weight\b"):
        Config("IBMRec", dataset, config_file_list=files, config_dict=settings, argv=argv)


def test_all_unknown_keys_are_named_at_once():
    with pytest.raises(ConfigurationError) as caught:
        Config("IBMRec", "ml-100k", config_dict={"fib_wieght": 1, "epochs": 2}, argv=["--learnin_rate=1"])
    assert "'fib_wieght'" in str(caught.value)
    assert "'learnin_rate'. Did you mean learning_rate" in str(caught.value)
    assert "epochs" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "near"),
    [("IBMRek", "IBMRec"), ("ibmrec", "IBMRec"), ("IBMREC", "IBMRec"), ("vbpr", "VBPR"), ("LightGNC", "LightGCN")],
)
def test_unknown_model_names_the_nearest(name, near):
    with pytest.raises(ConfigurationError, match=rf"no model '{name}'\. Did you mean .*\b{near}\b"):
        Config(name, "ml-100k")


def test_unknown_model_names_the_catalog():
    with pytest.raises(ConfigurationError) as caught:
        Config("Qqqqqq", "ml-100k")
    assert all(name in str(caught.value) for name in list_models())
    assert "Did you mean" not in str(caught.value)


def test_unknown_dataset_names_the_nearest():
    with pytest.raises(ConfigurationError, match=r"no data set 'ml-100'.*Did you mean ml-100k\b") as caught:
        Config("IBMRec", "ml-100")
    assert "data_path" in str(caught.value)


def test_unknown_dataset_names_those_of_the_folder():
    settings = make_folder("clothing")
    with pytest.raises(ConfigurationError, match="Did you mean clothing"):
        Config("IBMRec", "cloting", config_dict=settings)


@pytest.mark.parametrize("missing", ["model", "dataset"])
def test_missing_name_tells_the_argument(missing):
    names = {"model": "IBMRec", "dataset": "ml-100k"}
    names.pop(missing)
    with pytest.raises(ConfigurationError, match=f"--{missing}="):
        Config(**names)


# -- settings of other models -----------------------------------------------------------------------------------------


def test_settings_that_only_other_models_read_are_named():
    config = Config("MICRO", "ml-100k", config_dict={"modality_weights": "equal", "knn_k": 5, "fib_weight": 1.0, "seed": 3})
    assert unread_settings(config) == ["modality_weights", "fib_weight"]
    # a plug-in's backbone reads its own
    config = Config("SGFD", "ml-100k", config_dict={"backbone": "FREEDOM", "edge_dropout": 0.5, "hidden_dim": 3})
    assert unread_settings(config) == ["hidden_dim"]
    assert unread_settings(Config("BPR", "ml-100k")) == []

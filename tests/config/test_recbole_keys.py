"""Keys of RecBole and of its models stay valid."""

import ast
from pathlib import Path
from types import SimpleNamespace

import pytest
import recbole
from recbole.utils import argument_list, get_model

from recbole_ib.config import recbole_values
from recbole_ib.config.checks import RUN_KEYS, our_keys
from recbole_ib.config.config import Config
from recbole_ib.config.declared import model_defaults
from recbole_ib.config.layers import RECBOLE_PROPERTIES, our_yaml
from recbole_ib.config.recbole_keys import CODE_KEYS, UNREAD_KEYS, recbole_keys
from recbole_ib.config.serialize import DERIVED_KEYS, quoted
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.registry import list_models, recbole_models
from recbole_ib.utils.yaml import read_yaml


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        ("BPR", "embedding_size", 7),
        ("NGCF", "node_dropout", 0.3),
        ("NGCF", "hidden_size_list", [8, 8]),
        ("MultiVAE", "anneal_cap", 0.1),
        ("MultiVAE", "latent_dimension", 9),
        ("LightGCN", "require_pow", True),
        ("SGL", "ssl_tau", 0.7),
        ("NeuMF", "mlp_hidden_size", [8]),
        ("ItemKNN", "shrink", 1.0),
        ("GRU4Rec", "train_neg_sample_args", None),
        ("BPR", "benchmark_filename", ["train", "valid", "test"]),
        ("BPR", "alias_of_item_id", ["other_id"]),
        ("BPR", "tail_ratio", 0.2),
        ("BPR", "save_dataloaders", False),
        ("IBMRec", "numerical_features", []),
        ("IBMRec", "weight_decay", 0.1),
        ("IBMRec", "clip_grad_norm", {"max_norm": 1}),
    ],
)
def test_recboles_keys_are_valid(model, key, value):
    settings = {"train_neg_sample_args": None} if model in ("MultiVAE", "GRU4Rec") else {}
    config = Config(model, "ml-100k", config_dict={**settings, key: value})
    given = config.external_config_dict[key]
    assert given == value
    assert config[key] == (value if key != "train_neg_sample_args" else {**config[key], "distribution": "none"})


@pytest.mark.parametrize("category", ["general", "training", "evaluation", "dataset"])
def test_every_key_that_recbole_lists_is_valid(category):
    listed = set(getattr(argument_list, f"{category}_arguments")) - {"config_file"} - DERIVED_KEYS
    # (nothing in RecBole reads config_file)
    assert listed <= recbole_keys() | our_keys()


def keys_read_by_recbole():
    """Every key that RecBole's code takes from a config: ``config["a"]``, ``config.get("a")``, ``"a" in config``."""
    keys = set()

    def is_config(node):
        name = getattr(node, "attr", getattr(node, "id", ""))
        return name in ("config", "final_config_dict", "internal_config_dict")

    for path in Path(recbole.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Subscript) and is_config(node.value):
                found = node.slice
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "get" and is_config(node.func.value):
                found = node.args[0]
            elif isinstance(node, ast.Compare) and is_config(node.comparators[0]):
                found = node.left
            else:
                continue
            if isinstance(found, ast.Constant) and isinstance(found.value, str):
                keys.add(found.value)
    return keys


def test_every_key_that_recboles_code_reads_is_valid():
    # RecBole reads these two only to warn that it no longer follows them
    keys = keys_read_by_recbole() - {"neg_sampling", "training_neg_sample_num"}
    assert {"embedding_size", "benchmark_filename", "tail_ratio"} <= keys
    assert keys <= recbole_keys() | RUN_KEYS


def test_the_kept_list_of_keys_is_no_longer_than_it_must_be():
    """Every one of them stands in RecBole's sources, and in neither its yaml files nor its lists of arguments."""
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(recbole.__file__).parent.rglob("*.py"))
    assert [key for key in sorted(CODE_KEYS) if f'"{key}"' not in sources and f"'{key}'" not in sources] == []
    files = [path for path in RECBOLE_PROPERTIES.rglob("*.yaml") if path.stem not in ("url", "kg_url")]
    listed = {
        key for name in ("general", "training", "evaluation", "dataset") for key in getattr(argument_list, f"{name}_arguments")
    }
    assert {key for path in files for key in read_yaml(path)} & CODE_KEYS == set()
    assert listed & CODE_KEYS == set()
    assert listed - keys_read_by_recbole() >= UNREAD_KEYS


@pytest.mark.parametrize("model", recbole_models())
def test_every_key_of_a_model_of_recbole_is_valid(model):
    try:
        get_model(model)
    except ImportError as error:
        pytest.skip(f"{model} needs a package that is not installed: {error}")
    own = read_yaml(RECBOLE_PROPERTIES / "model" / f"{model}.yaml", missing_ok=True)
    config = Config(model, "ml-100k", config_dict={**own, "train_neg_sample_args": None})
    assert config["model"] == model
    assert set(own) <= set(config.external_config_dict)


@pytest.mark.parametrize("model", list_models())
def test_every_key_of_a_model_of_ours_is_valid(model):
    own = model_defaults(get_model(model))
    # as a comparison passes settings on; the word none stays a word
    config = Config(model, "ml-100k", config_dict=quoted(own))
    assert own
    if own.pop("train_neg_sample_args", own) is None:
        # RecBole spells "no negatives" out
        assert config["train_neg_sample_args"]["distribution"] == "none"
    assert {key: config[key] for key in own} == own


@pytest.mark.parametrize("model", list_models())
def test_a_catalog_model_has_our_defaults(model):
    config = Config(model, "ml-100k")
    assert (config["metrics"], config["topk"], config["valid_metric"]) == (["Recall", "Precision", "NDCG"], [10, 20], "Recall@20")
    of_model = model_defaults(get_model(model))
    backbone = model_defaults(get_model(of_model["backbone"])) if "backbone" in of_model else {}
    above = {**backbone, **of_model, **our_yaml("dataset/ml-100k")}
    defaults = {key: value for key, value in our_yaml("overall").items() if key not in above}
    defaults["bottleneck"] = ",".join(get_model(model).bottlenecks) or None
    assert {key: config[key] for key in defaults} == defaults
    assert list(config["modalities"]) == ["text", "visual"]


def test_wandb_is_asked_for_where_it_is(monkeypatch):
    spec = SimpleNamespace(origin="wandb/__init__.py")
    for found in (None, SimpleNamespace(origin=None)):  # no such package, and the folder that a run of it leaves
        monkeypatch.setattr(recbole_values, "find_spec", lambda _, found=found: found)
        with pytest.raises(ConfigurationError, match=r"log_wandb is True, and the package wandb .* pip install wandb"):
            Config("VBPR", "ml-100k", config_dict={"log_wandb": True})
    monkeypatch.setattr(recbole_values, "find_spec", lambda _: spec)
    assert Config("VBPR", "ml-100k", config_dict={"log_wandb": True})["log_wandb"] is True

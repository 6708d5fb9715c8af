"""Configuration: the order of the layers, the command line, checks, RecBole's own models, and plain copies."""

import ast
import importlib
import itertools
import os
import re
import shutil
from pathlib import Path

import pytest
import recbole
import torch
import yaml
from recbole.config import Config as RecBoleConfig
from recbole.utils import argument_list, get_model

from recbole_ib.config import layers
from recbole_ib.config.argv import parse_arguments, parse_value
from recbole_ib.config.checks import RUN_KEYS, our_keys, unread_settings
from recbole_ib.config.config import PAIRS_SCORED_ONE_BY_ONE, Config
from recbole_ib.config.declared import model_defaults
from recbole_ib.config.layers import RECBOLE_PROPERTIES, our_yaml, properties_folder
from recbole_ib.config.recbole_keys import CODE_KEYS, UNREAD_KEYS, recbole_keys
from recbole_ib.config.serialize import DERIVED_KEYS, config_from_plain, plain_config
from recbole_ib.errors import ConfigurationError
from recbole_ib.model import registry
from recbole_ib.model.backbones.vbpr import VBPR
from recbole_ib.model.registry import list_models, recbole_models, register_model
from recbole_ib.model.settings import Override
from recbole_ib.utils.yaml import read_yaml

QUIET = ["pytest"]


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """A folder of its own, no arguments of the host process, and CUDA_VISIBLE_DEVICES put back (every Config writes it)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", QUIET)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", ""))


def write_yaml(path, **values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values))
    return str(path)


def make_folder(name, **values):
    """``data/NAME`` with a yaml of its own; returns the settings that lead there."""
    write_yaml(Path("data") / name / f"{name}.yaml", **values)
    return {"data_path": "data"}


# -- precedence -------------------------------------------------------------------------------------------------------

LAYERS = ("overall", "model", "dataset", "folder", "file", "later file", "config_dict", "argv")


@pytest.fixture
def own_properties(tmp_path, monkeypatch):
    """A copy of the yaml files that a test may change."""
    folder = tmp_path / "properties"
    shutil.copytree(properties_folder(), folder)
    monkeypatch.setattr(layers, "properties_folder", lambda: folder)
    return folder


def set_key(path, key, value):
    """Set or (with ``None``) remove one key of a yaml file."""
    content = (yaml.safe_load(path.read_text()) or {}) if path.is_file() else {}
    content.pop(key, None)
    if value is not None:
        content[key] = value
    path.write_text(yaml.safe_dump(content))


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
    Path("a.yaml").write_text("reg_weight: 1e-4\nlearning_rate: -1.5E+3\nseed: 12\n")
    config = Config("VBPR", "ml-100k", config_file_list=["a.yaml"])
    assert (config["reg_weight"], config["learning_rate"], config["seed"]) == (1e-4, -1500.0, 12)


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


# -- values and arguments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-3", -3),
        ("0.5", 0.5),
        ("1e-4", 1e-4),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("none", None),
        ("None", None),
        ("null", None),
        ("~", None),
        ("", ""),
        ("[10, 20]", [10, 20]),
        ("['Recall','NDCG']", ["Recall", "NDCG"]),
        ("[Recall,NDCG]", ["Recall", "NDCG"]),
        ("[1e-4,1e-3]", [1e-4, 1e-3]),
        ("{'RS': [0.8, 0.1, 0.1]}", {"RS": [0.8, 0.1, 0.1]}),
        ("{text: .9, visual: .1}", {"text": 0.9, "visual": 0.1}),
        ("{text: 9e-1, visual: 1e-1}", {"text": 0.9, "visual": 0.1}),
        ("{}", {}),
        ("IBMRec", "IBMRec"),
        ("Recall@20", "Recall@20"),
        ("b=c", "b=c"),
        ("data/my set", "data/my set"),
        ("[5,inf)", "[5,inf)"),
        ("(0,5]", "(0,5]"),
        ("[broken", "[broken"),
        ("[a: b: c]", "[a: b: c]"),
        ("1+1", "1+1"),
        ("2**10", "2**10"),
        ("inf", "inf"),
        ("'1'", "1"),
        ("os", "os"),
    ],
)
def test_parse_value(text, value):
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch executed')",
        "open('executed', 'w')",
        "[open('executed', 'w')]",
        "[__import__('os').system('touch executed'), 1]",
        "{'a': open('executed', 'w')}",
        "!!python/object/apply:os.system ['touch executed']",
        "{a: !!python/object/apply:os.system ['touch executed']}",
        "(lambda: open('executed', 'w'))()",
    ],
)
def test_no_value_is_executed(text):
    parsed = parse_value(text)
    assert not Path("executed").exists()
    # a list of words is a list; nothing in it is anything but text
    assert parsed == text or all(isinstance(part, (str, int)) for part in parsed)


def test_import_call_stays_text():
    text = "__import__('os').system('touch executed')"
    assert parse_value(text) == text
    assert Config("VBPR", "ml-100k", argv=[f"--wandb_project={text}"])["wandb_project"] == text
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    "text",
    ["3", "-2.5", "1e-3", "True", "false", "None", "[1, 2]", "(1, 2)", "{'a': 1}", "'x'", "plain", "b'x'", "{1, 2}", "..."],
)
def test_harmless_values_are_read_as_recbole_reads_them(text):
    recboles = RecBoleConfig._convert_config_dict(None, {"key": text})["key"]
    assert (parse_value(text), type(parse_value(text))) == (recboles, type(recboles))


@pytest.mark.parametrize(
    ("argv", "settings"),
    [
        ([], {}),
        (["--epochs=3", "--learning_rate=1e-4"], {"epochs": 3, "learning_rate": 1e-4}),
        (["--a=b=c"], {"a": "b=c"}),
        (["--a="], {"a": ""}),
        (["--a==b"], {"a": "=b"}),
        (["--eval_args={'split': {'RS': [.8,.1,.1]}}"], {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}}}),
        (["--a=x y\nz"], {"a": "x y\nz"}),
        (["--a=1", "--a=1"], {"a": 1}),
        (["--feature_path=~/data"], {"feature_path": "~/data"}),
    ],
)
def test_parse_arguments(argv, settings):
    assert parse_arguments(argv) == settings


def test_duplicate_argument_is_refused():
    with pytest.raises(ConfigurationError, match="--epochs is given twice, as '1' and '2'"):
        parse_arguments(["--epochs=1", "--seed=3", "--epochs=2"])


@pytest.mark.parametrize("word", ["epochs=3", "-epochs=3", "--=3", "--", "epochs", "", "--1a=2", "-- epochs=1", "--ep ochs=1"])
def test_ill_formed_argument_is_quoted(word):
    with pytest.raises(ConfigurationError, match=re.escape(f"cannot read the argument {word!r}")):
        parse_arguments([word])


def test_argument_without_a_value_is_told_the_form():
    with pytest.raises(ConfigurationError, match="Write --save_last=VALUE"):
        parse_arguments(["--save_last"])


def test_interval_of_the_command_line_reaches_the_config_as_text():
    config = Config("VBPR", "ml-100k", argv=["--user_inter_num_interval=[5,inf)"])
    assert config["user_inter_num_interval"] == "[5,inf)"


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


# -- keys that stay valid ---------------------------------------------------------------------------------------------


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
    config = Config(model, "ml-100k", config_dict=own)
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


# -- a user's own model -----------------------------------------------------------------------------------------------

OWN_MODEL = '''
from recbole_ib.model.backbones.vbpr import VBPR
from recbole_ib.model.settings import Override, Setting
from recbole_ib.utils.validate import Number


class {name}(VBPR):
    """A model with a key of its own."""

    {settings}

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.margin = config["hinge_margin"]
'''


DECLARED = (
    'settings = (Setting("hinge_margin", 0.1, "margin of the hinge", Number(above=0)), Override("reg_weight", default=0.5))'
)


def make_own_model(folder, monkeypatch, settings):
    """A registered subclass of VBPR in a module of its own."""
    name = "ConfigTestModel"
    (folder / "config_test_model.py").write_text(OWN_MODEL.format(name=name, settings=settings))
    monkeypatch.syspath_prepend(folder)
    importlib.invalidate_caches()
    return register_model(getattr(importlib.import_module("config_test_model"), name))


@pytest.fixture
def own_model(tmp_path, monkeypatch):
    """One that declares what it reads."""
    model_class = make_own_model(tmp_path, monkeypatch, DECLARED)
    yield model_class
    forget(model_class)


@pytest.fixture
def silent_model(tmp_path, monkeypatch):
    """One that declares nothing."""
    model_class = make_own_model(tmp_path, monkeypatch, "")
    yield model_class
    forget(model_class)


def forget(model_class):
    """Undo ``register_model``."""
    import sys

    name = model_class.__name__
    registry._registered.pop(name, None)
    sys.modules.pop(model_class.__module__, None)
    sys.modules.pop(f"recbole.model.general_recommender.{name.lower()}", None)
    for module, attribute in (
        ("recbole.model.general_recommender", name.lower()),
        ("recbole.data.dataset", f"{name}Dataset"),
        ("recbole.trainer", f"{name}Trainer"),
    ):
        if hasattr(sys.modules[module], attribute):
            delattr(sys.modules[module], attribute)


@pytest.mark.parametrize("by", ["class", "name"])
def test_own_model_may_read_a_key_of_its_own(by, own_model):
    config = Config(own_model if by == "class" else own_model.__name__, "ml-100k", argv=["--hinge_margin=0.2"])
    assert (config["hinge_margin"], config["model"], config.model_class) == (0.2, "ConfigTestModel", own_model)


def test_own_model_has_the_settings_of_its_base(silent_model):
    config, base = Config(silent_model, "ml-100k"), Config("VBPR", "ml-100k")
    assert {**config.final_config_dict, "model": "VBPR"} == base.final_config_dict


def test_own_model_adds_and_changes_settings(own_model):
    config, base = Config(own_model, "ml-100k"), Config("VBPR", "ml-100k")
    own = {"model": "ConfigTestModel", "hinge_margin": 0.1, "reg_weight": 0.5}
    assert config.final_config_dict == {**base.final_config_dict, **own}
    with pytest.raises(ConfigurationError, match=r"hinge_margin is -1; it takes a number above 0\. Its default is 0\.1: margin"):
        Config(own_model, "ml-100k", argv=["--hinge_margin=-1"])


def test_a_model_that_declares_nothing_may_read_any_key(silent_model):
    with pytest.warns(UserWarning, match=r"unknown setting 'hinge_margin'.*\n.*ConfigTestModel declares no settings"):
        config = Config(silent_model, "ml-100k", argv=["--hinge_margin=0.2"])
    assert config["hinge_margin"] == 0.2
    # a wrong value of a key that its base declares is wrong still
    with pytest.raises(ConfigurationError, match="reg_weight is -1; it takes a number, 0 or more"):
        Config(silent_model, "ml-100k", argv=["--reg_weight=-1"])


def test_own_models_key_is_unknown_to_other_models_and_misspelt(own_model):
    with pytest.raises(ConfigurationError, match="unknown setting 'hinge_margin'"):
        Config("VBPR", "ml-100k", argv=["--hinge_margin=0.2"])
    with pytest.raises(ConfigurationError, match=r"unknown setting 'hinge_marign'.*Did you mean hinge_margin"):
        Config(own_model, "ml-100k", argv=["--hinge_marign=0.2"])


# -- plain copies -----------------------------------------------------------------------------------------------------

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
        ({"topk": 0}, ["positive integer"]),
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


# -- settings of other models -----------------------------------------------------------------------------------------


def test_settings_that_only_other_models_read_are_named():
    config = Config("MICRO", "ml-100k", config_dict={"modality_weights": "equal", "knn_k": 5, "fib_weight": 1.0, "seed": 3})
    assert unread_settings(config) == ["modality_weights", "fib_weight"]
    # a plug-in's backbone reads its own
    config = Config("SGFD", "ml-100k", config_dict={"backbone": "FREEDOM", "edge_dropout": 0.5, "hidden_dim": 3})
    assert unread_settings(config) == ["hidden_dim"]
    assert unread_settings(Config("BPR", "ml-100k")) == []

"""Configuration: RecBole's, with our yaml in RecBole's order, and with no key that nobody reads.

Precedence: command line > ``config_dict`` > config files > data set yaml > model yaml > overall.yaml. RecBole's own defaults
lie below ours. For RecBole's own general models our overall and data set defaults hold too, so that a baseline and a
multimodal model run on the same data, metrics and early stopping; ``defaults: recbole`` leaves them out. Sequential,
context-aware and knowledge-based models always keep RecBole's.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
from collections.abc import Sequence
from enum import Enum
from functools import cache
from pathlib import Path

import recbole.data.utils
import yaml
from recbole.config import Config as RecBoleConfig
from recbole.evaluator import metric_types
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import EvaluatorType, ModelType

from recbole_ib import parallel
from recbole_ib.data.protocol import RECBOLE, check_protocol, protocol_settings
from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.model.base import backbone_of
from recbole_ib.registry import (
    CATALOGUE,
    MMREC_PREFIX,
    backbone_class,
    check_model_name,
    is_ours,
    is_plugin,
    with_bottlenecks,
)

DEFAULTS = ("recbole_ib", "recbole")
RECBOLE_PROPERTIES = Path(recbole.__file__).parent / "properties"
#: keys that a run understands and no yaml holds
INNER_KEYS = {
    "eval_args": ("split", "group_by", "order", "mode"),
    "train_neg_sample_args": ("distribution", "sample_num", "alpha", "dynamic", "candidate_num"),
}
#: how many user-item pairs a batch holds where a model scores them one by one
PAIRS_SCORED_ONE_BY_ONE = 1 << 16
#: keys that recbole_ib.quick_start reads, and no entry point of RecBole's own
OWN_RUN_KEYS = ("split_seed", "per_user")
#: settings that are paths
PATH_KEYS = ("data_path", "feature_path", "mmrec_path")
RUN_KEYS = {"model", "dataset", "config_files", "nproc", "ip", "port", "world_size", "group_offset", "local_rank", "offset"}


def properties_folder() -> Path:
    """The folder of our yaml: inside an installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "properties", package.parent / "properties"):
        if (folder / "overall.yaml").is_file():
            return folder
    raise ConfigurationError(f"the yaml files of recbole_ib are missing below {package}; install the package again")


def parse_value(text: str):
    """A value of the command line: a Python literal, a yaml list or mapping, true/false/none, or the text itself.

    RecBole passes such values through ``eval``; here nothing is evaluated.
    """
    try:
        value = ast.literal_eval(text)
        plain = value is None or isinstance(value, (bool, int, float, str, list, tuple, dict))
        return value if plain else text
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    if text.lower() in ("true", "false", "none", "null", "~"):
        return {"true": True, "false": False}.get(text.lower())
    if text[:1] in "[{" and text[-1:] in "]}":
        try:
            value = yaml.load(text, Loader=_yaml_loader())
        except yaml.YAMLError:
            return text
        return value if isinstance(value, (list, dict)) else text
    return text


def parse_arguments(argv: Sequence[str]) -> dict:
    """``--key=value`` words to a dict; the value may hold further ``=``.

    Raises:
        ConfigurationError: a word of another form, or a key given twice with different values.
    """
    found: dict[str, str] = {}
    for word in argv:
        match = re.fullmatch(r"--([A-Za-z_][\w.-]*)=(.*)", word, flags=re.DOTALL)
        if match is None:
            hint = f" Write {word}=VALUE." if re.fullmatch(r"--[\w.-]+", word) else ""
            raise ConfigurationError(f"cannot read the argument {word!r}: settings are given as --key=value.{hint}")
        key, value = match.groups()
        if found.setdefault(key, value) != value:
            raise ConfigurationError(f"--{key} is given twice, as {found[key]!r} and {value!r}")
    # RecBole reads "[5,100]" under such a key as the text of an interval
    return {key: value if key.endswith("_num_interval") else parse_value(value) for key, value in found.items()}


def parse_words(parser: argparse.ArgumentParser, words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """A command's own words, and the settings among them: argparse would take a setting with a blank in it for a name.

    Raises:
        SystemExit: as argparse does, for ``--help`` and for what it cannot read.
    """
    own = parser._option_string_actions
    settings = [word for word in words if re.match(r"--[\w.-]+=", word) and word.partition("=")[0] not in own]
    given, rest = parser.parse_known_args([word for word in words if word not in settings])
    return given, [*rest, *settings]


class Config(RecBoleConfig):
    """RecBole's ``Config`` with our defaults and checks.

    Args:
        model: a name, or a model class.
        dataset: a name.
        config_file_list: yaml files.
        config_dict: settings.
        argv: ``--key=value`` words of the highest priority. RecBole's Config reads ``sys.argv`` of whatever process it runs in
            (a notebook, pytest, a Ray worker); this one reads what it is given.
        check_keys: refuse keys that nothing reads.

    Raises:
        ConfigurationError: an unknown model, data set or key, with the nearest valid ones; a file that is no yaml; settings that do
            not go together.
    """

    def __init__(self, model=None, dataset=None, config_file_list=None, config_dict=None, argv=(), check_keys=True):
        self._argv, self._check_keys = list(argv), check_keys
        super().__init__(model, dataset, config_file_list, dict(config_dict or {}))
        # what ``sampling`` does not allow is said before the data are loaded
        recbole.data.utils.get_dataloader(self, "train")

    def _load_config_files(self, file_list):
        merged = {}
        for file in file_list or []:
            merged.update(_read_yaml(Path(file)))
        return merged

    def _load_cmd_line(self):
        return parse_arguments(self._argv)

    def _convert_config_dict(self, config_dict):
        return {key: parse_value(value) if isinstance(value, str) else value for key, value in config_dict.items()}

    def _get_model_and_dataset(self, model, dataset):
        external = self.external_config_dict
        model = external.get("model") if model is None else model
        dataset = external.get("dataset") if dataset is None else dataset
        if model is None:
            raise ConfigurationError(
                "no model is named: give --model=NAME, such as --model=IBMRec; `recbole-ib models` lists all"
            )
        if dataset is None:
            raise ConfigurationError("no data set is named: give --dataset=NAME, such as --dataset=ml-100k (bundled)")
        model = with_bottlenecks(model, external.get("bottleneck"))
        if isinstance(model, str) and model.lower().startswith(MMREC_PREFIX):
            model = self._mmrec_model(model)
        elif isinstance(model, str):
            check_model_name(model)
        return super()._get_model_and_dataset(model, str(dataset))

    def _mmrec_model(self, name: str) -> str:
        """Register a model of the user's checkout; its name as the checkout writes it."""
        from recbole_ib.bridge.mmrec import mmrec_model

        path = self.external_config_dict.get("mmrec_path")
        found = mmrec_model(name, path)
        # a checkpoint must find the checkout from any working directory
        self.external_config_dict["mmrec_path"] = str(Path(path).expanduser().resolve())
        return found.__name__

    def _load_internal_config_dict(self, model, model_class, dataset):
        _layered_internal_config(self, model, model_class, dataset)

    def _set_default_parameters(self):
        data_path = self.final_config_dict.get("data_path")
        parallel.refuse_recboles(self.external_config_dict)
        _check_metrics(self.final_config_dict)
        try:
            super()._set_default_parameters()
        except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
            raise ConfigurationError(str(error)) from error
        _check_valid_metric(self.final_config_dict)
        if self.dataset == "ml-100k" and "data_path" in self.external_config_dict and (Path(data_path) / "ml-100k").is_dir():
            # RecBole takes a set of this name from its own wheel whatever data_path says
            self.final_config_dict["data_path"] = str(Path(data_path) / "ml-100k")
        check_protocol(self)
        if self._check_keys:
            check_dataset_name(self)
            check_keys(self, self.external_config_dict)
        self._limit_pairs()
        if is_ours(self.model_class):
            self.final_config_dict["feature_fingerprint"] = _fingerprint(self)

    def _limit_pairs(self) -> None:
        """Our ``eval_batch_size`` fits one matrix of scores; a model that scores pair by pair holds many numbers a pair."""
        by_pairs = self.model_class.full_sort_predict is AbstractRecommender.full_sort_predict
        modes = set(self.final_config_dict["eval_args"]["mode"].values())
        if "eval_batch_size" not in self.external_config_dict and (by_pairs or modes != {"full"}):
            batch = min(self.final_config_dict["eval_batch_size"], PAIRS_SCORED_ONE_BY_ONE)
            self.final_config_dict["eval_batch_size"] = batch

    def _init_device(self):
        if self.final_config_dict.get("use_gpu") is False:
            self.final_config_dict["gpu_id"] = ""  # RecBole looks at the id alone
        elif parallel.launched() and "gpu_id" not in self.external_config_dict:
            self.final_config_dict["gpu_id"] = parallel.visible_devices()
        super()._init_device()
        self.final_config_dict["device"] = parallel.own_device(self.final_config_dict["device"])


def teach_recbole() -> None:
    """Let RecBole's own Config read our yaml for the models of the catalogue, so that RecBole's entry points run them."""
    original = RecBoleConfig._load_internal_config_dict
    if getattr(original, "_recbole_ib", False):
        return

    def _load_internal_config_dict(self, model, model_class, dataset):
        if isinstance(self, Config) or not is_ours(model_class):
            return original(self, model, model_class, dataset)
        return _layered_internal_config(self, model, model_class, dataset)

    _load_internal_config_dict._recbole_ib = True
    _load_internal_config_dict.original = original
    RecBoleConfig._load_internal_config_dict = _load_internal_config_dict

    names = RecBoleConfig._get_model_and_dataset

    def _get_model_and_dataset(self, model, dataset):
        if not isinstance(self, Config):
            model = self.external_config_dict.get("model") if model is None else model
            model = with_bottlenecks(model, self.external_config_dict.get("bottleneck"))
        return names(self, model, dataset)

    RecBoleConfig._get_model_and_dataset = _get_model_and_dataset

    set_defaults = RecBoleConfig._set_default_parameters

    def _set_default_parameters(self):
        set_defaults(self)
        if is_ours(self.model_class):
            # written one way, however the run was asked for: a checkpoint's settings are compared with it
            self.final_config_dict["bottleneck"] = ",".join(self.model_class.bottlenecks) or None
        if not isinstance(self, Config) and is_ours(self.model_class):
            # RecBole's Config also takes the host process's own options for settings: those are not checked
            given = {**self.file_config_dict, **self.variable_config_dict}
            check_keys(self, given)
            for key in OWN_RUN_KEYS:
                if given.get(key):
                    raise ConfigurationError(
                        f"{key} is read by run_recbole_ib and the command recbole-ib, not by RecBole's own run"
                    )

    RecBoleConfig._set_default_parameters = _set_default_parameters


def _layered_internal_config(config, model, model_class, dataset) -> None:
    """RecBole's internal settings with ours: overall < protocol < a plug-in's backbone < model < data set."""
    RecBoleConfig._load_internal_config_dict.original(config, model, model_class, dataset)
    internal, external = config.internal_config_dict, config.external_config_dict
    defaults = external.get("defaults", DEFAULTS[0])
    if defaults not in DEFAULTS:
        raise ConfigurationError(f"defaults is {defaults!r}; allowed: {', '.join(DEFAULTS)}")
    ours = is_ours(model_class)
    if ours and defaults == "recbole":
        raise ConfigurationError(f"defaults: recbole is for RecBole's own models; {model} needs the settings of recbole_ib")
    general = model_class.type in (ModelType.GENERAL, ModelType.TRADITIONAL)
    overall, above = {}, {}
    with_ours = ours or (general and defaults == "recbole_ib")
    if with_ours:
        recbole_model = _read_yaml(RECBOLE_PROPERTIES / "model" / f"{model}.yaml", missing_ok=True)
        overall = {k: v for k, v in our_yaml("overall").items() if k not in recbole_model}
        internal.update(overall)
    brought = protocol_settings(_protocol(dataset, internal, external))
    above.update(brought if ours or general else {})
    if with_ours:
        if is_plugin(model_class):
            above.update(model_yaml(_backbone_of(model_class, dataset, {**internal, **above}, external)))
        if ours:
            above.update(model_yaml(model_class))
        if hasattr(model_class, "bridged_settings"):
            above.update(model_class.bridged_settings(external))
        above.update(our_yaml(f"dataset/{dataset}"))
    internal.update(above)
    folder = _dataset_folder_yaml(dataset, {**internal, **external})
    if folder.get("bottleneck"):
        raise ConfigurationError(
            f"the yaml of the data set {dataset!r} sets bottleneck: {folder['bottleneck']!r}. It belongs to the model of a run: give it on "
            "the command line, in a config file or in config_dict"
        )
    internal.update(folder)
    replaced = {*above, *folder, *external}
    config.overall_defaults = {key: value for key, value in overall.items() if key not in replaced}


def is_overall_default(config, key: str) -> bool:
    """Whether a setting comes from our overall.yaml: no file, data set or user named it, and nothing has changed it since."""
    # a Config of RecBole's own for one of its own models has none of ours
    overall = getattr(config, "overall_defaults", {})
    return key in overall and config[key] == overall[key]


def model_yaml(model_class: type) -> dict:
    """The settings of a model class: backbone < its bottlenecks < its own yaml, or that of the nearest class it inherits from."""
    bottlenecks = getattr(model_class, "bottlenecks", ())
    own = _nearest_yaml(model_class)
    backbone = _nearest_yaml(backbone_of(model_class)) if bottlenecks else own
    layers = [backbone, *(f"bottleneck/{name}" for name in bottlenecks), own if own != backbone else None]
    merged = {}
    for layer in layers:
        merged.update(our_yaml(layer) if layer else {})
    return merged


def _nearest_yaml(model_class: type) -> str | None:
    """The yaml of the nearest class of the catalogue; one with a bottleneck need not have any."""
    found = next((cls.__name__ for cls in model_class.__mro__ if cls.__name__ in CATALOGUE), None)
    return found and f"model/{found}"


def _protocol(dataset: str, below: dict, external: dict) -> str:
    """The key ``protocol``, which the data set's yaml may set too."""
    folder = _dataset_folder_yaml(dataset, {**below, **our_yaml(f"dataset/{dataset}"), **external})
    return {**below, **our_yaml(f"dataset/{dataset}"), **folder, **external}.get("protocol", RECBOLE)


def _backbone_of(model_class: type, dataset: str, below: dict, external: dict) -> type:
    """The class that the settings name as a plug-in's ``backbone``, given those below the plug-in's and the user's own."""
    above = {**model_yaml(model_class), **our_yaml(f"dataset/{dataset}")}
    folder = _dataset_folder_yaml(dataset, {**below, **above, **external})
    return backbone_class({**above, **folder, **external}.get("backbone"))


def _dataset_folder_yaml(dataset: str, settings: dict) -> dict:
    """``data_path/NAME/NAME.yaml``: the settings that travel with a data set (``recbole-ib convert`` writes it)."""
    return _read_yaml(Path(str(settings.get("data_path") or "")) / dataset / f"{dataset}.yaml", missing_ok=True)


def our_yaml(name: str) -> dict:
    return _read_yaml(properties_folder() / f"{name}.yaml", missing_ok=True)


def _read_yaml(path: Path, missing_ok: bool = False) -> dict:
    if not path.is_file():
        if missing_ok:
            return {}
        near = nearest(path.name, [p.name for p in path.parent.glob("*.yaml")]) if path.parent.is_dir() else ""
        raise ConfigurationError(f"there is no config file {path}.{near}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_yaml_loader())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid yaml: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} must map keys to values, got {type(content).__name__}")
    return content


@cache
def _yaml_loader():
    class Loader(yaml.SafeLoader):
        """Safe yaml that also reads 1e-4 as a number, as RecBole's loader does."""

    Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.[\d_]*)?[eE][-+]?\d+$"), list("-+0123456789.")
    )
    return Loader


# -- checks -----------------------------------------------------------------------------------------------------------


@cache
def recbole_keys() -> frozenset[str]:
    """Every key of RecBole's yaml files, and every key that its code reads from a Config."""
    keys = set()
    for path in RECBOLE_PROPERTIES.rglob("*.yaml"):
        if path.stem not in ("url", "kg_url"):
            keys.update(_read_yaml(path))
    read = re.compile(r"""config(?:_dict)?\[\s*["'](\w+)["']\s*\]""")
    for path in Path(recbole.__file__).parent.rglob("*.py"):
        keys.update(read.findall(path.read_text(encoding="utf-8", errors="ignore")))
    return frozenset(keys)


@cache
def our_keys() -> frozenset[str]:
    """Every key of our yaml files."""
    return frozenset(key for path in properties_folder().rglob("*.yaml") for key in _read_yaml(path))


def _class_keys(model_class: type) -> set[str]:
    """The keys of a bridged model, and the words quoted in the source of a user's own model class: what it may read."""
    words = set(model_class.bridged_keys()) if hasattr(model_class, "bridged_keys") else set()
    for cls in model_class.__mro__:
        if cls.__module__.split(".")[0] in ("recbole", "recbole_ib", "torch", "builtins"):
            continue
        try:
            words.update(re.findall(r"""["'](\w+)["']""", inspect.getsource(sys.modules[cls.__module__])))
        except (OSError, TypeError, KeyError):
            continue
    return words


def check_keys(config: RecBoleConfig, external: dict) -> None:
    """Raise ConfigurationError for settings that nothing reads, naming the nearest keys that exist."""
    folder_yaml = _dataset_folder_yaml(config.dataset, {"data_path": str(Path(config["data_path"]).parent)})
    given = {**folder_yaml, **external}
    allowed = recbole_keys() | our_keys() | RUN_KEYS | _class_keys(config.model_class)
    if is_plugin(config.model_class):
        allowed |= _class_keys(backbone_class(config["backbone"]))
    # one value may set many columns: RecBole lets field names be keys inside dicts, never at the top
    unknown = [key for key in given if key not in allowed]
    if unknown:
        relevant = {*config.internal_config_dict, *RUN_KEYS} - set(unknown)
        lines = [f"unknown setting {key!r}.{nearest(key, relevant) or nearest(key, allowed)}" for key in unknown]
        raise ConfigurationError("\n".join(lines) + "\nNothing reads it, so the run would not be the one you mean.")
    for key, inner in INNER_KEYS.items():
        for name in given.get(key) or {} if isinstance(given.get(key), dict) else ():
            if name not in inner:
                raise ConfigurationError(f"{key}: unknown key {name!r}.{nearest(name, inner)} Allowed: {', '.join(inner)}")


def unread_settings(config: Config) -> list[str]:
    """Settings of the user's that only OTHER models of ours read: one config file may serve several, so they are no error."""
    if not is_ours(config.model_class):
        return []
    read = {*our_yaml("overall"), *model_yaml(config.model_class), *recbole_keys(), *RUN_KEYS, *_class_keys(config.model_class)}
    if is_plugin(config.model_class):
        read |= {*model_yaml(backbone_class(config["backbone"])), *_class_keys(backbone_class(config["backbone"]))}
    return [key for key in config.external_config_dict if key in our_keys() and key not in read]


def _check_metrics(settings: dict) -> None:
    """Metrics that RecBole has."""
    metrics = settings["metrics"]
    for metric in metrics if isinstance(metrics, (list, tuple)) else [metrics]:
        if str(metric).lower() not in metric_types:
            raise ConfigurationError(
                f"there is no metric {metric!r}.{nearest(metric, metric_types)} RecBole has {', '.join(metric_types)}"
            )


def _check_valid_metric(settings: dict) -> None:
    """A ``valid_metric`` that is one of those computed, before an epoch is trained for it."""
    metrics, wanted = settings["metrics"], str(settings["valid_metric"])
    ranking = [m for m in metrics if metric_types[m.lower()] is EvaluatorType.RANKING and m.lower() != "gauc"]
    computed = [f"{m}@{k}" for m in ranking for k in settings["topk"]] + [m for m in metrics if m not in ranking]
    if wanted.lower() not in {c.lower() for c in computed}:
        raise ConfigurationError(
            f"valid_metric is {wanted!r}, which metrics and topk do not compute.{nearest(wanted, computed)} "
            f"Computed: {', '.join(computed)}"
        )


def resolve_paths(settings: dict) -> dict:
    """Settings whose paths hold in any working directory."""
    found = dict(settings)
    for key in PATH_KEYS:
        if isinstance(found.get(key), str) and not found[key].startswith("recbole_ib:"):
            found[key] = str(Path(found[key]).expanduser().resolve())
    return found


def absolute_paths(settings: dict, config: Config) -> dict:
    """:func:`resolve_paths` of a configuration's settings, with the ``data_path`` that it found, the default one too."""
    found = resolve_paths(settings)
    if "data_path" in found or config.dataset != "ml-100k":
        found["data_path"] = str(Path(config["data_path"]).parent.resolve())
    return found


def feature_files(config: Config) -> list[Path]:
    """The files of the modalities that a configuration uses: features, tokens, item graphs."""
    from recbole_ib.data.features import parse_modalities

    base = Path(config["feature_path"] or config["data_path"])
    specs = parse_modalities(config["modalities"], base, config["use_modalities"])
    named = [path for spec in specs for path in (spec.file, spec.tokens, spec.item_graph_file) if path is not None]
    return [path for path in named if path.is_file()]


def _fingerprint(config: Config) -> list:
    """Path, size and time of every feature file: a saved data set is reused only while they are the same."""
    stats = [(str(path.resolve()), path.stat()) for path in feature_files(config)]
    return [[path, stat.st_size, stat.st_mtime_ns] for path, stat in stats]


def check_dataset_name(config: Config) -> None:
    """Raise ConfigurationError for a data set that is neither on the disk nor one RecBole can download."""
    folder = Path(config["data_path"])
    if folder.is_dir():
        return
    urls = _read_yaml(RECBOLE_PROPERTIES / "dataset" / "url.yaml")
    if config.dataset in urls:
        return
    here = [p.name for p in folder.parent.iterdir() if p.is_dir()] if folder.parent.is_dir() else []
    known = ["ml-100k", *here, *(p.stem for p in (properties_folder() / "dataset").glob("*.yaml"))]
    raise ConfigurationError(
        f"there is no data set {config.dataset!r}: {folder} is no folder, and RecBole knows no address of it."
        f"{nearest(config.dataset, [*known, *urls])} At hand: {', '.join(sorted(set(known)))}. --data_path=DIR says where data sets lie"
    )


# -- plain values, for checkpoints ------------------------------------------------------------------------------------

#: what Config derives from the rest, or what belongs to the machine and not to the run
DERIVED_KEYS = {
    "MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type", "device", "single_spec", "local_rank", "valid_metric_bigger",
    "valid_neg_sample_args", "test_neg_sample_args", "gpu_id", "use_gpu", "resume_checkpoint", "feature_fingerprint",
}  # fmt: skip


def plain_config(config) -> dict:
    """The settings of a run as plain values, enough for :func:`config_from_plain` to make the same Config again."""
    values = {k: v for k, v in config.final_config_dict.items() if k not in DERIVED_KEYS and not isinstance(v, Enum)}
    data_path = Path(values["data_path"])
    values["data_path"] = str(data_path.parent.resolve())
    sampling = values.get("train_neg_sample_args")
    if isinstance(sampling, dict) and sampling.get("distribution") == "none":
        values["train_neg_sample_args"] = None
    return plain_value(values)


def plain_value(value):
    """A setting as JSON and a checkpoint can hold it: what is neither number, text, list nor mapping becomes its text."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(k): plain_value(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain_value(v) for v in value]
    return value.item() if hasattr(value, "item") else str(value)


def quoted(values: dict) -> dict:
    """Settings that are values already, for ``config_dict``: a Config parses its texts, as RecBole's does."""
    return {key: repr(value) if isinstance(value, str) else value for key, value in values.items()}


def config_from_plain(values: dict, **changes) -> Config:
    """A Config from :func:`plain_config`'s values, with changed settings on top."""
    settings = quoted(values)
    settings.update(changes)
    for key in ("model", "dataset"):
        settings.pop(key)
    return Config(model=values["model"], dataset=values["dataset"], config_dict=settings, check_keys=False)


__all__ = ["Config", "config_from_plain", "parse_arguments", "parse_value", "plain_config", "properties_folder", "quoted"]

"""Checks of a configuration: keys that nothing reads, metrics, data sets."""

from __future__ import annotations

import inspect
import re
import sys
from functools import cache
from pathlib import Path

import recbole.data.utils
from recbole.config import Config as RecBoleConfig
from recbole.evaluator import metric_types
from recbole.utils import EvaluatorType

from recbole_ib.config.layers import RECBOLE_PROPERTIES, dataset_folder_yaml, model_yaml, our_yaml, properties_folder
from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.model.registry import (
    backbone_class,
    is_multimodal,
    is_wrapper,
)
from recbole_ib.utils.yaml import read_yaml

#: keys that a run understands and no yaml holds
INNER_KEYS = {
    "eval_args": ("split", "group_by", "order", "mode"),
    "train_neg_sample_args": ("distribution", "sample_num", "alpha", "dynamic", "candidate_num"),
}

RUN_KEYS = {"model", "dataset", "config_files", "nproc", "ip", "port", "world_size", "group_offset", "local_rank", "offset"}


# -- checks -----------------------------------------------------------------------------------------------------------


@cache
def recbole_keys() -> frozenset[str]:
    """Every key of RecBole's yaml files, and every key that its code reads from a Config."""
    keys = set()
    for path in RECBOLE_PROPERTIES.rglob("*.yaml"):
        if path.stem not in ("url", "kg_url"):
            keys.update(read_yaml(path))
    read = re.compile(r"""config(?:_dict)?\[\s*["'](\w+)["']\s*\]""")
    for path in Path(recbole.__file__).parent.rglob("*.py"):
        keys.update(read.findall(path.read_text(encoding="utf-8", errors="ignore")))
    return frozenset(keys)


@cache
def our_keys() -> frozenset[str]:
    """Every key of our yaml files."""
    return frozenset(key for path in properties_folder().rglob("*.yaml") for key in read_yaml(path))


def class_keys(model_class: type) -> set[str]:
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
    folder_yaml = dataset_folder_yaml(config.dataset, {"data_path": str(Path(config["data_path"]).parent)})
    given = {**folder_yaml, **external}
    allowed = recbole_keys() | our_keys() | RUN_KEYS | class_keys(config.model_class)
    if is_wrapper(config.model_class):
        allowed |= class_keys(backbone_class(config["backbone"]))
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


def unread_settings(config: RecBoleConfig) -> list[str]:
    """Settings of the user's that only OTHER models of ours read: one config file may serve several, so they are no error."""
    if not is_multimodal(config.model_class):
        return []
    read = {*our_yaml("overall"), *model_yaml(config.model_class), *recbole_keys(), *RUN_KEYS, *class_keys(config.model_class)}
    if is_wrapper(config.model_class):
        read |= {*model_yaml(backbone_class(config["backbone"])), *class_keys(backbone_class(config["backbone"]))}
    return [key for key in config.external_config_dict if key in our_keys() and key not in read]


def check_metrics(settings: dict) -> None:
    """Metrics that RecBole has."""
    metrics = settings["metrics"]
    for metric in metrics if isinstance(metrics, (list, tuple)) else [metrics]:
        if str(metric).lower() not in metric_types:
            raise ConfigurationError(
                f"there is no metric {metric!r}.{nearest(metric, metric_types)} RecBole has {', '.join(metric_types)}"
            )


def check_valid_metric(settings: dict) -> None:
    """A ``valid_metric`` that is one of those computed, before an epoch is trained for it."""
    metrics, wanted = settings["metrics"], str(settings["valid_metric"])
    ranking = [m for m in metrics if metric_types[m.lower()] is EvaluatorType.RANKING and m.lower() != "gauc"]
    computed = [f"{m}@{k}" for m in ranking for k in settings["topk"]] + [m for m in metrics if m not in ranking]
    if wanted.lower() not in {c.lower() for c in computed}:
        raise ConfigurationError(
            f"valid_metric is {wanted!r}, which metrics and topk do not compute.{nearest(wanted, computed)} "
            f"Computed: {', '.join(computed)}"
        )


def check_dataset_name(config: RecBoleConfig) -> None:
    """Raise ConfigurationError for a data set that is neither on the disk nor one RecBole can download."""
    folder = Path(config["data_path"])
    if folder.is_dir():
        return
    urls = read_yaml(RECBOLE_PROPERTIES / "dataset" / "url.yaml")
    if config.dataset in urls:
        return
    here = [p.name for p in folder.parent.iterdir() if p.is_dir()] if folder.parent.is_dir() else []
    known = ["ml-100k", *here, *(p.stem for p in (properties_folder() / "dataset").glob("*.yaml"))]
    raise ConfigurationError(
        f"there is no data set {config.dataset!r}: {folder} is no folder, and RecBole knows no address of it."
        f"{nearest(config.dataset, [*known, *urls])} At hand: {', '.join(sorted(set(known)))}. --data_path=DIR says where data sets lie"
    )

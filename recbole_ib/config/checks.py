"""Checks of a configuration: keys that nothing reads, metrics, data sets."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

from recbole.config import Config as RecBoleConfig
from recbole.evaluator import metric_types
from recbole.utils import EvaluatorType

from recbole_ib.config.declared import check_values, declared_keys, model_settings, undeclared_classes
from recbole_ib.config.layers import RECBOLE_PROPERTIES, dataset_folder_yaml, our_yaml, properties_folder
from recbole_ib.config.recbole_keys import recbole_keys
from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.model.registry import (
    backbone_class,
    bottlenecks_of,
    is_multimodal,
    is_wrapper,
)
from recbole_ib.utils.yaml import read_yaml

#: keys that a run understands and no yaml holds
INNER_KEYS = {
    "eval_args": ("split", "group_by", "order", "mode"),
    "train_neg_sample_args": ("distribution", "sample_num", "alpha", "dynamic", "candidate_num"),
}

RUN_KEYS = {
    "model",
    "dataset",
    "config_files",
    "nproc",
    "ip",
    "port",
    "world_size",
    "group_offset",
    "local_rank",
    "offset",
}


@cache
def our_keys() -> frozenset[str]:
    """Return the keys that our models and bottlenecks declare, and those of our yaml files."""
    files = [properties_folder() / "overall.yaml", *(properties_folder() / "dataset").glob("*.yaml")]
    return declared_keys() | {key for path in files for key in read_yaml(path)}


def class_keys(model_class: type, model: str = "") -> set[str]:
    """Return the keys that a model class declares, with its bottlenecks, or that its checkout reads."""
    bridged = model_class.bridged_keys() if hasattr(model_class, "bridged_keys") else ()
    return {*model_settings(model_class, bottlenecks_of(model, model_class)), *bridged}


def check_keys(config: RecBoleConfig, external: dict) -> None:
    """Check that every setting is read, and has a value that its declaration allows.

    A user's own model class that declares no ``settings`` may read any key: a key that nothing else reads
    is a warning then.

    Raises:
        ConfigurationError: settings that nothing reads, with the nearest keys that exist, or wrong values.
    """
    folder_yaml = dataset_folder_yaml(config.dataset, {"data_path": str(Path(config["data_path"]).parent)})
    given = {**folder_yaml, **external}
    classes = [config.model_class]
    allowed = recbole_keys() | our_keys() | RUN_KEYS | class_keys(config.model_class, config["model"])
    if is_wrapper(config.model_class):
        classes.append(backbone_class(config["backbone"]))
    allowed = allowed.union(*map(class_keys, classes))
    # one value may set many columns: RecBole lets field names be keys inside dicts, never at the top
    unknown = [key for key in given if key not in allowed]
    undeclared = [cls for model_class in classes for cls in undeclared_classes(model_class)]
    if unknown:
        relevant = {*config.internal_config_dict, *RUN_KEYS} - set(unknown)
        lines = [
            f"unknown setting {key!r}.{nearest(key, relevant) or nearest(key, allowed)}" for key in unknown
        ]
        if not undeclared:
            raise ConfigurationError(
                "\n".join(lines) + "\nNothing reads it, so the run would not be the one you mean."
            )
        warnings.warn(
            "\n".join(lines)
            + f"\n{undeclared[0].__name__} declares no settings, so whether it reads this is unknown. Give "
            "the class settings = (Setting(...), ...), see recbole_ib.model.settings, and its keys and "
            "values are checked",
            stacklevel=2,
        )
    for key, inner in INNER_KEYS.items():
        for name in given.get(key) or {} if isinstance(given.get(key), dict) else ():
            if name not in inner:
                raise ConfigurationError(
                    f"{key}: unknown key {name!r}.{nearest(name, inner)} Allowed: {', '.join(inner)}"
                )
    check_values(config.model_class, config.final_config_dict)


def unread_settings(config: RecBoleConfig) -> list[str]:
    """Settings of the user's that only OTHER models of ours read.

    One config file may serve several, so they are no error.
    """
    if not is_multimodal(config.model_class):
        return []
    read = {
        *our_yaml("overall"),
        *recbole_keys(),
        *RUN_KEYS,
        *class_keys(config.model_class, config["model"]),
    }
    if is_wrapper(config.model_class):
        read |= class_keys(backbone_class(config["backbone"]))
    return [key for key in config.external_config_dict if key in our_keys() and key not in read]


def check_metrics(settings: dict) -> None:
    """Metrics that RecBole has."""
    metrics = settings["metrics"]
    for metric in metrics if isinstance(metrics, (list, tuple)) else [metrics]:
        if str(metric).lower() not in metric_types:
            raise ConfigurationError(
                f"there is no metric {metric!r}.{nearest(metric, metric_types)} RecBole has "
                f"{', '.join(metric_types)}"
            )


def check_valid_metric(settings: dict) -> None:
    """A ``valid_metric`` that is one of those computed, before an epoch is trained for it."""
    metrics, wanted = settings["metrics"], str(settings["valid_metric"])
    ranking = [m for m in metrics if metric_types[m.lower()] is EvaluatorType.RANKING and m.lower() != "gauc"]
    computed = [f"{m}@{k}" for m in ranking for k in settings["topk"]] + [
        m for m in metrics if m not in ranking
    ]
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
        f"there is no data set {config.dataset!r}: {folder} is no folder, and RecBole knows no address of "
        f"it.{nearest(config.dataset, [*known, *urls])} At hand: {', '.join(sorted(set(known)))}. "
        "--data_path=DIR says where data sets lie"
    )

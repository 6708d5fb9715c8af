"""The layers of a configuration.

Overall < protocol < backbone < model < data set, below the user's own settings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import recbole
from recbole.config import Config as RecBoleConfig
from recbole.utils import ModelType

from recbole_ib.config.declared import model_defaults
from recbole_ib.config.folder_settings import check_folder_settings
from recbole_ib.data.protocol import RECBOLE, protocol_settings
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.registry import backbone_class, bottlenecks_of, is_multimodal, is_wrapper
from recbole_ib.utils.yaml import read_yaml

DEFAULTS = ("recbole_ib", "recbole")

RECBOLE_PROPERTIES = Path(recbole.__file__).parent / "properties"


def properties_folder() -> Path:
    """The folder of our yaml: inside an installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "properties", package.parent / "properties"):
        if (folder / "overall.yaml").is_file():
            return folder
    raise ConfigurationError(
        f"the yaml files of recbole_ib are missing below {package}; install the package again"
    )


def layered_internal_config(config: Any, model: str, model_class: type, dataset: str) -> None:
    """Set RecBole's internal settings: overall < protocol < a wrapper's backbone < model < data set."""
    RecBoleConfig._load_internal_config_dict.original(config, model, model_class, dataset)
    internal, external = config.internal_config_dict, config.external_config_dict
    defaults = external.get("defaults", DEFAULTS[0])
    if defaults not in DEFAULTS:
        raise ConfigurationError(f"defaults is {defaults!r}; allowed: {', '.join(DEFAULTS)}")
    ours = is_multimodal(model_class)
    if ours and defaults == "recbole":
        raise ConfigurationError(
            f"defaults: recbole is for RecBole's own models; {model} needs the settings of recbole_ib"
        )
    general = getattr(model_class, "type", None) in (ModelType.GENERAL, ModelType.TRADITIONAL)
    overall, above = {}, {}
    with_ours = ours or (general and defaults == "recbole_ib")
    if with_ours:
        recbole_model = read_yaml(RECBOLE_PROPERTIES / "model" / f"{model}.yaml", missing_ok=True)
        overall = {k: v for k, v in our_yaml("overall").items() if k not in recbole_model}
        internal.update(overall)
    brought = protocol_settings(_protocol(dataset, internal, external))
    above.update(brought if ours or general else {})
    if with_ours:
        if is_wrapper(model_class):
            above.update(model_defaults(_backbone_of(model_class, dataset, {**internal, **above}, external)))
        above.update(model_defaults(model_class, bottlenecks_of(model, model_class)))
        if hasattr(model_class, "bridged_settings"):
            above.update(model_class.bridged_settings(external))
        above.update(our_yaml(f"dataset/{dataset}"))
    else:
        above.update(model_defaults(model_class))
    internal.update(above)
    folder = dataset_folder_yaml(dataset, {**internal, **external})
    internal.update(folder)
    replaced = {*above, *folder, *external}
    config.overall_defaults = {key: value for key, value in overall.items() if key not in replaced}


def _protocol(dataset: str, below: dict, external: dict) -> str:
    """The key ``protocol``, which the data set's yaml may set too."""
    folder = dataset_folder_yaml(dataset, {**below, **our_yaml(f"dataset/{dataset}"), **external})
    return {**below, **our_yaml(f"dataset/{dataset}"), **folder, **external}.get("protocol", RECBOLE)


def _backbone_of(model_class: type, dataset: str, below: dict, external: dict) -> type:
    """Return the class that the settings name as a wrapper's ``backbone``."""
    above = {**model_defaults(model_class), **our_yaml(f"dataset/{dataset}")}
    folder = dataset_folder_yaml(dataset, {**below, **above, **external})
    return backbone_class({**above, **folder, **external}.get("backbone"))


def dataset_folder_yaml(dataset: str, settings: dict) -> dict:
    """Return what ``data_path/NAME/NAME.yaml`` holds: the settings that travel with a data set."""
    path = Path(str(settings.get("data_path") or "")) / dataset / f"{dataset}.yaml"
    return dict(check_folder_settings(path, read_yaml(path, missing_ok=True)))


def our_yaml(name: str) -> dict:
    """Return one of the package's own yaml files, such as ``dataset/ml-100k``; nothing where it has none."""
    return read_yaml(properties_folder() / f"{name}.yaml", missing_ok=True)

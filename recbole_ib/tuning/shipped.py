"""The spaces that ship with the package, composed as settings are, and the check that a model reads every searched key."""

from __future__ import annotations

from collections.abc import Callable

from recbole.utils.argument_list import dataset_arguments

from recbole_ib.config import RECBOLE_PROPERTIES, Config, _class_keys, _read_yaml, model_yaml, our_yaml, properties_folder
from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.model.base import backbone_of
from recbole_ib.registry import DATASET_KEYS, backbone_class, is_ours, is_plugin
from recbole_ib.tuning.space import Space, parse_space

#: settings of the whole search: trials with different ones would not be comparable, or would not be the same model
SEARCH_KEYS = {
    "model", "dataset", "bottleneck", "defaults", "seed", "split_seed", "epochs", "eval_step", "eval_args", "metrics", "topk",
    "valid_metric", "repeatable", "data_path", "checkpoint_dir", "save_last", "resume_checkpoint", "gpu_id", "use_gpu", "device",
    "reproducibility", "per_user", "save_dataset", "save_dataloaders", "dataset_save_path", "dataloaders_save_path",
}  # fmt: skip


def data_keys() -> set[str]:
    """Settings that the data set is made from; it is made once for all trials."""
    return {*dataset_arguments, *DATASET_KEYS}


def shipped_space(config: Config) -> Space:
    """The space of a configuration's model: its own file, or backbone < bottlenecks; a plug-in's with its backbone's.

    Raises:
        ConfigurationError: the package has none.
    """
    model_class = config.model_class
    entries = _entries(model_class)
    if is_plugin(model_class):
        entries = {**_entries(backbone_class(config["backbone"])), **entries}
    if not entries:
        folder = properties_folder() / "tune"
        raise ConfigurationError(
            f"no search space ships for {config['model']}: give one with --space=FILE.yaml. The package has spaces for "
            f"{', '.join(sorted(p.stem for p in folder.glob('*.yaml')))}, and for these with bottlenecks"
        )
    return parse_space(entries, f"the space of {config['model']}")


def _entries(model_class: type) -> dict:
    own = _file(model_class.__name__)
    if own:
        return own
    bottlenecks = getattr(model_class, "bottlenecks", ())
    if not bottlenecks:
        return next((found for cls in model_class.__mro__[1:] if (found := _file(cls.__name__))), {})
    merged = dict(_entries(backbone_of(model_class)))
    for name in bottlenecks:
        merged.update(_file(f"bottleneck/{name}"))
    return merged


def _file(name: str) -> dict:
    return _read_yaml(properties_folder() / "tune" / f"{name}.yaml", missing_ok=True)


def check_searched(space: Space, make_config: Callable[[dict], Config]) -> Config:
    """Check that every key of a space is a setting that this model reads and that trials may differ in.

    Args:
        space: what is searched.
        make_config: settings to a Config, as for a trial.

    Returns:
        The Config of the first values.

    Raises:
        ConfigurationError: the key, why not, and the nearest ones.
    """
    for key in space:
        if key in data_keys():
            raise ConfigurationError(
                f"the space holds {key}, which the data set is made from; all trials share one data set. Tune once for each value, with "
                f"--{key}=VALUE and an --out of its own"
            )
        if key in SEARCH_KEYS:
            raise ConfigurationError(
                f"the space holds {key}, which must be the same in all trials for their scores to be comparable; give it as --{key}=VALUE"
            )
    config = make_config({key: domain.first() for key, domain in space.items()})
    read = read_keys(config)
    unread = [
        f"the space holds {key!r}, which {config['model']} does not read.{nearest(key, read)}" for key in space if key not in read
    ]
    if unread:
        raise ConfigurationError("\n".join(unread))
    return config


def read_keys(config: Config) -> set[str]:
    """The settings that training a configuration's model reads."""
    model_class = config.model_class
    keys = {*our_yaml("overall"), *_read_yaml(RECBOLE_PROPERTIES / "overall.yaml"), *_class_keys(model_class)}
    if is_ours(model_class):
        keys |= set(model_yaml(model_class))
    else:
        keys |= set(_read_yaml(RECBOLE_PROPERTIES / "model" / f"{config['model']}.yaml", missing_ok=True))
    if is_plugin(model_class):
        backbone = backbone_class(config["backbone"])
        keys |= {*model_yaml(backbone), *_class_keys(backbone)}
    return keys

"""Search spaces: which settings are searched, and over which values.

A space is yaml, one line a setting: ``fib_weight: {loguniform: [0.1, 5.0]}``. The kinds are in :data:`KINDS`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole.utils.argument_list import dataset_arguments

from recbole_ib.config.checks import class_keys
from recbole_ib.config.config import Config
from recbole_ib.config.declared import model_space
from recbole_ib.config.layers import RECBOLE_PROPERTIES, our_yaml, properties_folder
from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.model.registry import DATASET_KEYS, backbone_class, bottlenecks_of, is_multimodal, is_wrapper
from recbole_ib.utils.yaml import read_yaml

#: kind -> what follows it, as messages write it
KINDS = {
    "choice": "[value, value, ...]",
    "uniform": "[low, high]",
    "loguniform": "[low, high]",
    "quniform": "[low, high, step]",
    "int": "[low, high]",
}

#: kinds with finitely many values, which a grid can go through
DISCRETE = ("choice", "int")


@dataclass(frozen=True)
class Domain:
    """The values of one setting: a kind of :data:`KINDS` and the numbers, or values, behind it."""

    key: str
    kind: str
    args: tuple

    @property
    def log(self) -> bool:
        """Does an axis of this setting need a logarithmic scale?"""
        if self.kind == "loguniform":
            return True
        if self.kind != "choice" or not all(_is_number(v) and v > 0 for v in self.args):
            return False
        return max(self.args) / min(self.args) >= 50

    @property
    def numeric(self) -> bool:
        """Whether all values are numbers."""
        return self.kind != "choice" or all(_is_number(v) for v in self.args)

    def values(self) -> list:
        """All values of a discrete domain."""
        return list(range(self.args[0], self.args[1] + 1)) if self.kind == "int" else list(self.args)

    def first(self) -> Any:
        """A value of the domain, to check settings with."""
        return self.args[0]

    def contains(self, value: Any) -> bool:
        """Return whether a value lies in the domain."""
        if self.kind == "choice":
            return any(v == value and isinstance(v, bool) == isinstance(value, bool) for v in self.args)
        if not _is_number(value) or not self.args[0] <= value <= self.args[1]:
            return False
        if self.kind == "int":
            return value == int(value)
        if self.kind == "quniform":
            steps = value / self.args[2]
            return math.isclose(steps, round(steps), abs_tol=1e-9)
        return True

    def encode(self, value: object) -> Any:
        """A value as Ray's searchers take it: lists and mappings as text."""
        return json.dumps(value, sort_keys=True) if self._coded else value

    def decode(self, value: object) -> Any:
        """A sampled value as a plain one."""
        if self._coded:
            return next(v for v in self.args if json.dumps(v, sort_keys=True) == value)
        return value.item() if hasattr(value, "item") else value

    @property
    def _coded(self) -> bool:
        return self.kind == "choice" and not all(
            v is None or isinstance(v, (bool, int, float, str)) for v in self.args
        )

    def for_ray(self, grid: bool = False) -> Any:
        """The domain as an object of Ray Tune."""
        from ray import tune

        if grid:
            return tune.grid_search([self.encode(v) for v in self.values()])
        if self.kind == "choice":
            return tune.choice([self.encode(v) for v in self.args])
        if self.kind == "int":
            return tune.randint(self.args[0], self.args[1] + 1)  # Ray's upper end is exclusive
        return getattr(tune, self.kind)(*self.args)

    def plain(self) -> dict:
        """As a space file writes it."""
        return {self.kind: list(self.args)}


Space = dict[str, Domain]


def parse_space(entries: Any, source: str) -> Space:
    """A mapping of settings to domains, as a yaml file holds it.

    Args:
        entries: setting -> ``{kind: arguments}``.
        source: where it stands, for messages.

    Raises:
        ConfigurationError: what is wrong with which key.
    """
    if not isinstance(entries, Mapping) or not entries:
        raise ConfigurationError(
            f"{source}: a space maps settings to what is searched, such as fib_weight: {{loguniform: [0.1, "
            f"5]}}; kinds: {_kinds()}; got {entries!r}"
        )
    return {str(key): _domain(str(key), entry, f"{source}: {key}") for key, entry in entries.items()}


def _domain(key: str, entry: Any, where: str) -> Domain:
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise ConfigurationError(f"{where} must be one kind with its values, {_kinds()}; got {entry!r}")
    (kind, args), *_ = entry.items()
    if kind not in KINDS:
        raise ConfigurationError(
            f"{where}: there is no kind {kind!r}.{nearest(str(kind), KINDS)} Kinds: {_kinds()}"
        )
    if not isinstance(args, (list, tuple)) or not args:
        raise ConfigurationError(f"{where}: {kind} takes {KINDS[kind]}, got {args!r}")
    if kind == "choice":
        if any(value in args[:i] for i, value in enumerate(args) if not isinstance(value, bool)):
            raise ConfigurationError(f"{where}: choice names a value twice: {args!r}")
        return Domain(key, kind, tuple(args))
    wanted = 3 if kind == "quniform" else 2
    if len(args) != wanted or not all(_is_number(v) and math.isfinite(v) for v in args):
        raise ConfigurationError(
            f"{where}: {kind} takes the {wanted} numbers {KINDS[kind]}, got {list(args)!r}"
        )
    low, high = args[:2]
    if low >= high:
        raise ConfigurationError(
            f"{where}: {kind} goes from low to high, got {list(args)!r}; one value alone is {{choice: "
            f"[{low}]}}"
        )
    if kind == "loguniform" and low <= 0:
        raise ConfigurationError(
            f"{where}: loguniform needs low > 0, got {low!r}; uniform allows 0, choice lists it beside others"
        )
    if kind == "int" and not all(isinstance(v, int) for v in args):
        raise ConfigurationError(f"{where}: int takes whole numbers, got {list(args)!r}")
    if kind == "quniform":
        step = args[2]
        if step <= 0 or not all(math.isclose(v / step, round(v / step), abs_tol=1e-9) for v in (low, high)):
            raise ConfigurationError(
                f"{where}: quniform needs a step > 0 that low and high are multiples of, got {list(args)!r}"
            )
    return Domain(key, kind, tuple(args) if kind == "int" else tuple(float(v) for v in args))


def read_space(path: str | Path) -> Space:
    """The space of a yaml file.

    Raises:
        ConfigurationError: no such file, no yaml, or a wrong entry.
    """
    return parse_space(read_yaml(Path(path)), str(path))


def check_grid(space: Space) -> None:
    """Raise ConfigurationError where a grid cannot go through all values."""
    for domain in space.values():
        if domain.kind not in DISCRETE:
            raise ConfigurationError(
                f"{domain.key}: a grid goes through values one by one, and {domain.kind} has no end of them. "
                f"Write them out, such as {domain.key}: {{choice: [{domain.args[0]:g}, "
                f"{domain.args[1]:g}]}}, or search with --search=optuna or random"
            )


def default_point(space: Space, config: Config) -> tuple[dict, list[str]]:
    """The settings' own values, as a first trial, and the keys whose own value lies outside of the space."""
    outside = [key for key, domain in space.items() if not domain.contains(config[key])]
    return {key: domain.encode(config[key]) for key, domain in space.items()}, outside


def decode(space: Space, sampled: Mapping) -> dict:
    """What Ray sampled as settings."""
    return {key: domain.decode(sampled[key]) for key, domain in space.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _kinds() -> str:
    return ", ".join(f"{{{kind}: {args}}}" for kind, args in KINDS.items())


#: settings of the whole search: trials with different ones would not be comparable, or would not be the same
#: model
SEARCH_KEYS = {
    "model", "dataset", "bottleneck", "defaults", "seed", "split_seed", "epochs", "eval_step", "eval_args",
    "metrics", "topk", "valid_metric", "repeatable", "data_path", "checkpoint_dir", "save_last",
    "resume_checkpoint", "gpu_id", "use_gpu", "device", "reproducibility", "per_user", "save_dataset",
    "save_dataloaders", "dataset_save_path", "dataloaders_save_path",
}  # fmt: skip


def data_keys() -> set[str]:
    """Settings that the data set is made from; it is made once for all trials."""
    return {*dataset_arguments, *DATASET_KEYS}


def shipped_space(config: Config) -> Space:
    """The space of a configuration's model, as its classes declare it; a wrapper's with its backbone's.

    Raises:
        ConfigurationError: the package has none.
    """
    model_class = config.model_class
    entries = _entries(model_class, config["model"])
    if is_wrapper(model_class):
        entries = {**_entries(backbone_class(config["backbone"])), **entries}
    if not entries:
        folder = properties_folder() / "tune"
        raise ConfigurationError(
            f"no search space ships for {config['model']}: give one with --space=FILE.yaml. The package has "
            f"spaces for {', '.join(sorted(p.stem for p in folder.glob('*.yaml')))}, and for these with "
            "bottlenecks"
        )
    return parse_space(entries, f"the space of {config['model']}")


def _entries(model_class: type, model: str = "") -> dict:
    declared = {
        key: search.plain()
        for key, search in model_space(model_class, bottlenecks_of(model, model_class)).items()
    }
    if declared:
        return declared
    # RecBole's own models declare nothing: their spaces are files
    return next((entries for cls in model_class.__mro__ if (entries := _file(cls.__name__))), {})


def _file(name: str) -> dict:
    return read_yaml(properties_folder() / "tune" / f"{name}.yaml", missing_ok=True)


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
                f"the space holds {key}, which the data set is made from; all trials share one data set. "
                f"Tune once for each value, with --{key}=VALUE and an --out of its own"
            )
        if key in SEARCH_KEYS:
            raise ConfigurationError(
                f"the space holds {key}, which must be the same in all trials for their scores to be "
                f"comparable; give it as --{key}=VALUE"
            )
    config = make_config({key: domain.first() for key, domain in space.items()})
    read = read_keys(config)
    unread = [
        f"the space holds {key!r}, which {config['model']} does not read.{nearest(key, read)}"
        for key in space
        if key not in read
    ]
    if unread:
        raise ConfigurationError("\n".join(unread))
    return config


def read_keys(config: Config) -> set[str]:
    """The settings that training a configuration's model reads."""
    model_class = config.model_class
    keys = {
        *our_yaml("overall"),
        *read_yaml(RECBOLE_PROPERTIES / "overall.yaml"),
        *class_keys(model_class, config["model"]),
    }
    if not is_multimodal(model_class):
        keys |= set(read_yaml(RECBOLE_PROPERTIES / "model" / f"{config['model']}.yaml", missing_ok=True))
    if is_wrapper(model_class):
        keys |= class_keys(backbone_class(config["backbone"]))
    return keys

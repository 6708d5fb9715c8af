"""What the declarations of the models say about a run: defaults, keys, values, spaces, symbols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from recbole.utils import get_model

from recbole_ib.errors import ConfigurationError
from recbole_ib.model.bottleneck import BOTTLENECKS
from recbole_ib.model.layers.encoder import ENCODERS
from recbole_ib.model.registry import CATALOG, backbone_class, bottlenecks_of, is_wrapper
from recbole_ib.model.settings import Declaration, Search, Setting, compose, declares, settings_of, space_of
from recbole_ib.model.shared_settings import FEATURE_ENCODER, GENERAL_SETTINGS
from recbole_ib.utils.validate import refusal

#: packages whose classes are no user's
OTHERS = ("recbole", "recbole_ib", "torch", "builtins", "abc", "typing")


def _of_bottleneck(name: str) -> tuple[Declaration, ...]:
    return tuple(BOTTLENECKS[name].settings)


def model_settings(model_class: type, bottlenecks: Sequence[str] | None = None) -> dict[str, Setting]:
    """Return every setting that a model class reads, by key.

    The bottlenecks' settings win over the backbone's, and those of a named combination over both. A class of
    RecBole's, which declares nothing, has none. A wrapper has its own; :func:`run_settings` adds those of its
    backbone.

    Args:
        model_class: the model.
        bottlenecks: names; default: those of the class.
    """
    settings = settings_of(model_class, bottlenecks, of_bottleneck=_of_bottleneck, general=GENERAL_SETTINGS)
    if FEATURE_ENCODER.key not in settings:
        return settings
    encoders = {setting.key: setting for encoder in ENCODERS.values() for setting in encoder.settings}
    return {**settings, **{key: setting for key, setting in encoders.items() if key not in settings}}


def bottleneck_settings(name: str) -> dict[str, Setting]:
    """Return the settings of one bottleneck, by key."""
    return compose([(f"the bottleneck {name}", _of_bottleneck(name))], GENERAL_SETTINGS)


def run_settings(model_class: type, config: Any) -> dict[str, Setting]:
    """Return :func:`model_settings`, of a wrapper above those of the backbone that a configuration names."""
    below = model_settings(backbone_class(config["backbone"])) if is_wrapper(model_class) else {}
    return {**below, **model_settings(model_class, bottlenecks_of(config["model"], model_class))}


def defaults(settings: Mapping[str, Setting]) -> dict[str, Any]:
    """Return the values of a layer of settings.

    General keys without another default stay with ``overall.yaml``.
    """
    return {key: setting.default for key, setting in settings.items() if not setting.general}


def model_defaults(model_class: type, bottlenecks: Sequence[str] | None = None) -> dict[str, Any]:
    """Return the values that a model class brings along, with its own or the given bottlenecks."""
    return defaults(model_settings(model_class, bottlenecks))


def general_settings() -> dict[str, Setting]:
    """Return the declared settings of every run, by key."""
    return {setting.key: setting for setting in GENERAL_SETTINGS}


def declared_keys() -> frozenset[str]:
    """Return every key that a model of the catalog, a bottleneck or every run reads."""
    keys = set(general_settings())
    for name in CATALOG:
        keys.update(model_settings(get_model(name)))
    for name in BOTTLENECKS:
        keys.update(bottleneck_settings(name))
    return frozenset(keys)


def undeclared_classes(model_class: type) -> list[type]:
    """Return the classes of a user's model that declare no settings: which keys these read is unknown."""
    if hasattr(model_class, "bridged_keys"):
        return []
    own = [cls for cls in model_class.__mro__ if cls.__module__.split(".")[0] not in OTHERS]
    return [] if any(declares(cls) for cls in own) else own


def model_space(model_class: type, bottlenecks: Sequence[str] | None = None) -> dict[str, Search]:
    """Return what a search tries for a model class, with its own or the given bottlenecks.

    For a wrapper that is its own part, without its backbone's.
    """
    return space_of(model_settings(model_class, bottlenecks), getattr(model_class, "search_order", ()))


@cache
def symbols() -> dict[str, str]:
    """Return the papers' symbols of the settings that have one, by key."""
    known: dict[str, str] = {}
    models = [model_settings(get_model(name)) for name in CATALOG]
    for settings in [*models, *map(bottleneck_settings, BOTTLENECKS)]:
        known.update({key: setting.symbol for key, setting in settings.items() if setting.symbol})
    return known


def check_values(model_class: type, config: Mapping[str, Any]) -> None:
    """Check the value of every declared setting of a run.

    Raises:
        ConfigurationError: all values of the wrong type or outside their bounds, each with what is allowed
            and the default.
    """
    general = {key: setting for key, setting in general_settings().items() if key in config}
    settings = {**general, **run_settings(model_class, config)}
    lines = []
    for key, setting in settings.items():
        reason = refusal(key, config.get(key), setting.kind)
        if reason is not None:
            full = reason if reason.endswith("?") else f"{reason}."
            lines.append(f"{full} Its default is {setting.default!r}: {setting.doc}")
    if lines:
        raise ConfigurationError("\n".join(lines))

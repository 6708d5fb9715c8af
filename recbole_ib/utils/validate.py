"""Values of yaml keys, checked while a model is built: a wrong one is named before any training."""

from __future__ import annotations

import math

from recbole_ib.errors import ConfigurationError


def choice(config, key: str, allowed: tuple[str, ...]) -> str:
    """The value of a key that takes one of a few words."""
    value = config[key]
    if value not in allowed:
        raise ConfigurationError(f"{key} is {value!r}; allowed: {', '.join(allowed)}")
    return value


def count(config, key: str, least: int = 0) -> int:
    """The value of a key that takes a whole number, ``least`` or more."""
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value) or value < least:
        raise ConfigurationError(f"{key} is {value!r}; it takes a whole number, {least} or more")
    return int(value)


def positive(config, key: str) -> float:
    """The value of a key that takes a number above 0, such as a temperature."""
    value = _number(config, key)
    if not value > 0:
        raise ConfigurationError(f"{key} is {value!r}; it takes a number above 0")
    return value


def weight(config, key: str) -> float:
    """The value of a key that weighs a loss term: a number, 0 or more."""
    value = _number(config, key)
    if value < 0:
        raise ConfigurationError(f"{key} is {value!r}; it takes a number, 0 or more")
    return value


def share(config, key: str) -> float:
    """The value of a key that takes a part of 1, such as a dropout: 0 <= x < 1."""
    value = _number(config, key)
    if not 0 <= value < 1:
        raise ConfigurationError(f"{key} is {value!r}; it takes a number from 0 to below 1")
    return value


def _number(config, key: str) -> float:
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigurationError(f"{key} is {value!r}; it takes a number")
    return float(value)

"""Words of the command line: `--key=value`, and values as Python or yaml write them."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Any

import yaml

from recbole_ib.errors import ConfigurationError
from recbole_ib.utils.yaml import load_yaml


def parse_value(text: str) -> Any:
    """Return a value of the command line.

    It is a Python literal, a yaml list or mapping, true, false or none, or the text itself. RecBole passes
    such values through ``eval``; here nothing is evaluated.
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
            value = load_yaml(text)
        except yaml.YAMLError:
            return text
        return value if isinstance(value, (list, dict)) else text
    return text


def parse_arguments(argv: Sequence[str]) -> dict:
    """Return the settings of ``--key=value`` words; a value may hold further ``=``.

    Raises:
        ConfigurationError: a word of another form, or a key given twice with different values.
    """
    found: dict[str, str] = {}
    for word in argv:
        match = re.fullmatch(r"--([A-Za-z_][\w.-]*)=(.*)", word, flags=re.DOTALL)
        if match is None:
            hint = f" Write {word}=VALUE." if re.fullmatch(r"--[\w.-]+", word) else ""
            raise ConfigurationError(
                f"cannot read the argument {word!r}: settings are given as --key=value.{hint}"
            )
        key, value = match.groups()
        if found.setdefault(key, value) != value:
            raise ConfigurationError(f"--{key} is given twice, as {found[key]!r} and {value!r}")
    # RecBole reads "[5,100]" under such a key as the text of an interval
    return {
        key: value if key.endswith("_num_interval") else parse_value(value) for key, value in found.items()
    }

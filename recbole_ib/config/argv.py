"""Words of the command line: `--key=value`, and values as Python or yaml write them."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Sequence

import yaml

from recbole_ib.errors import ConfigurationError
from recbole_ib.utils.yaml import yaml_loader


def split_arguments(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Settings (``--key=value``) and config files (``--config_files A.yaml B.yaml``, or in one word as RecBole takes them)."""
    settings, files, i = [], [], 0
    argv = list(argv)
    while i < len(argv):
        word = argv[i]
        i += 1
        if word != "--config_files" and not word.startswith("--config_files="):
            settings.append(word)
            continue
        files += word.partition("=")[2].split()
        while i < len(argv) and not argv[i].startswith("--"):
            files += argv[i].split()
            i += 1
    return settings, files


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
            value = yaml.load(text, Loader=yaml_loader())
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

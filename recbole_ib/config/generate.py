"""Files that follow from the declared settings.

Yaml of models, bottlenecks and search spaces, and tables of the doc pages.

``make generate`` writes them; ``python -m recbole_ib.config.generate --check`` names those that differ,
and a test runs it.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from recbole.utils import get_model

from recbole_ib.config.declared import bottleneck_settings, model_settings, model_space
from recbole_ib.config.layers import our_yaml
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.bottleneck import BOTTLENECKS
from recbole_ib.model.registry import CATALOG, is_wrapper
from recbole_ib.model.settings import Search, Setting, space_of
from recbole_ib.utils.files import write_text
from recbole_ib.utils.validate import AnyOf, Kind, OneOf
from recbole_ib.utils.yaml import load_yaml

#: the top of a checkout
ROOT = Path(__file__).resolve().parents[2]

#: in the head of every yaml file that is written here
PRINTED = (
    "Printed by `make generate` from the `settings` of the classes in recbole_ib/model: an edit here changes "
    "nothing."
)
#: where a user's own values go
CHANGE = (
    "Change a setting on the command line (--KEY=VALUE), in a config file (--config_files FILE.yaml) or in "
    "config_dict."
)
#: where a user's own space goes
OTHER_SPACE = "Search another space by --space=FILE.yaml (docs/tuning.md)."

#: between these, a doc page's table is written
TABLE = re.compile(
    r"(<!-- settings of (?P<name>\w+), written by `make generate` -->\n).*?(<!-- end of settings -->)",
    re.DOTALL,
)


# -- text ----------------------------------------------------------------------------------------------------


def value_text(value: Any) -> str:
    """Return a value as one line of yaml, which reads back as the same value of the same type."""
    if value is None:
        return "~"
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(value_text, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {value_text(part)}" for key, part in value.items()) + "}"
    text = str(value)
    if isinstance(value, str) and load_yaml(text) != value:
        return yaml.safe_dump(value, default_style='"').strip()
    return text


def _float_text(value: float) -> str:
    """Return ``0.001``, ``1.0e-5``: without a point before the e, yaml 1.1 reads a text."""
    text = repr(value)
    if "e" not in text:
        return text
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa if '.' in mantissa else f'{mantissa}.0'}e{int(exponent)}"


def values_text(search: Search) -> str:
    """Return what a search tries, in words."""
    if search.kind == "choice":
        return ", ".join(map(value_text, search.args))
    low, high = map(value_text, search.args[:2])
    scale = {"loguniform": ", log scale", "quniform": f" in steps of {value_text(search.args[-1])}"}.get(
        search.kind, ""
    )
    return f"{low} .. {high}{scale}"


def _sourced(text: str, source: str) -> str:
    return f"{text} [{source}]" if source else text


def _comments(setting: Setting) -> list[str]:
    """Return type and meaning, and on a line of its own what a search tries."""
    comments = [_sourced(f"({setting.kind.short}) {setting.doc}", setting.source)]
    if setting.search is not None:
        comments.append(_sourced(f"search {values_text(setting.search)}", setting.search.source))
    return comments


def _aligned(entries: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """Return lines of yaml, each with its comments behind or below it, all in one column."""
    entries = list(entries)
    column = max(len(entry) for entry, _ in entries) + 2
    return [
        f"{'' if number else entry:{column}}# {comment}"
        for entry, comments in entries
        for number, comment in enumerate(comments)
    ]


def _page(head: Iterable[str], lines: Iterable[str]) -> str:
    return "\n".join([*(f"# {text}" for text in head), *lines]) + "\n"


# -- yaml ----------------------------------------------------------------------------------------------------


def settings_lines(settings: Mapping[str, Setting]) -> list[str]:
    """Return the lines of a yaml file of settings; a general key whose default stays is a comment."""
    overall, entries = our_yaml("overall"), []
    for key, setting in settings.items():
        if setting.general:
            first, *rest = _comments(setting)
            entries.append((f"# {key}: {value_text(overall[key])}", [f"in overall.yaml: {first}", *rest]))
        else:
            entries.append((f"{key}: {value_text(setting.default)}", _comments(setting)))
    return _aligned(entries)


def space_lines(settings: Mapping[str, Setting], space: Mapping[str, Search]) -> list[str]:
    """Return the lines of a yaml file of a search space."""
    return _aligned(
        (f"{key}: {value_text(search.plain())}", [_sourced(settings[key].doc, search.source)])
        for key, search in space.items()
    )


def _model_title(name: str) -> str:
    entry, names = CATALOG[name], getattr(get_model(name), "bottlenecks", ())
    return f"{name} ({entry.paper})" + (f": {entry.backbone} with {' and '.join(names)}." if names else ".")


def model_files(name: str) -> dict[str, str]:
    """Return the yaml of a model and of its search space, by path."""
    model_class = get_model(name)
    settings, title = model_settings(model_class), _model_title(name)
    below = (
        ["The settings of the model that `backbone` names lie one layer below."]
        if is_wrapper(model_class)
        else []
    )
    also = " above its backbone's space" if is_wrapper(model_class) else ""
    searched = f"What `recbole-ib tune --model={name}` searches{also}."
    space = space_lines(settings, model_space(model_class))
    return {
        f"properties/model/{name}.yaml": _page([title, *below, PRINTED, CHANGE], settings_lines(settings)),
        f"properties/tune/{name}.yaml": _page([title, searched, PRINTED, OTHER_SPACE], space),
    }


def bottleneck_files(name: str) -> dict[str, str]:
    """Return the yaml of a bottleneck and of its search space, by path."""
    settings = bottleneck_settings(name)
    title, searched = (
        f"The bottleneck {name} on a backbone (docs/bottlenecks.md).",
        "What a search adds to the backbone's space.",
    )
    space = space_lines(settings, space_of(settings))
    return {
        f"properties/bottleneck/{name}.yaml": _page([title, PRINTED, CHANGE], settings_lines(settings)),
        f"properties/tune/bottleneck/{name}.yaml": _page([title, searched, PRINTED, OTHER_SPACE], space),
    }


# -- tables of the doc pages ---------------------------------------------------------------------------------


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _kind_cell(kind: Kind) -> str:
    if isinstance(kind, AnyOf):
        return ", ".join(_kind_cell(part) for part in kind.kinds)
    return ", ".join(f"`{word}`" for word in kind.words) if isinstance(kind, OneOf) else _cell(kind.short)


def settings_table(settings: Mapping[str, Setting]) -> str:
    """Return the table of a doc page: key, default, allowed values, meaning, what a search tries."""
    overall = our_yaml("overall")
    rows = ["| key | default | values | meaning | search |", "|---|---|---|---|---|"]
    for key, setting in settings.items():
        default = (
            "not set"
            if setting.default is None
            else value_text(overall[key] if setting.general else setting.default)
        )
        search = (
            "" if setting.search is None else _sourced(values_text(setting.search), setting.search.source)
        )
        meaning = _sourced(setting.doc, setting.source)
        rows.append(
            f"| `{key}` | {default} | {_kind_cell(setting.kind)} | {_cell(meaning)} | {_cell(search)} |"
        )
    return "\n".join(rows) + "\n"


def with_tables(page: str) -> str:
    """Return a doc page with every marked table as the declarations have it.

    Raises:
        ConfigurationError: a mark names neither a model nor a bottleneck.
    """

    def table(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in CATALOG and name not in BOTTLENECKS:
            raise ConfigurationError(
                f"a table of settings is marked for {name!r}, which is neither a model nor a bottleneck"
            )
        settings = bottleneck_settings(name) if name in BOTTLENECKS else model_settings(get_model(name))
        return f"{match[1]}{settings_table(settings)}{match[3]}"

    return TABLE.sub(table, page)


# -- all of them ---------------------------------------------------------------------------------------------


def generated_files(root: Path = ROOT) -> dict[str, str]:
    """Return what every generated file of a checkout must hold, by path."""
    files: dict[str, str] = {}
    for name in CATALOG:
        files.update(model_files(name))
    for name, owner in BOTTLENECKS.items():
        if owner.__module__.startswith("recbole_ib."):
            files.update(bottleneck_files(name))
    for path in [*sorted((root / "docs" / "models").glob("*.md")), root / "docs" / "bottlenecks.md"]:
        files[path.relative_to(root).as_posix()] = with_tables(path.read_text(encoding="utf-8"))
    return files


def stale_files(root: Path = ROOT) -> list[str]:
    """Return the paths whose content differs from the generated one, and yaml of models that are gone."""
    files = generated_files(root)
    differ = [
        path
        for path, text in files.items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != text
    ]
    printed = [*(root / "properties").glob("model/*.yaml"), *(root / "properties").glob("bottleneck/*.yaml")]
    return differ + [path for file in printed if (path := file.relative_to(root).as_posix()) not in files]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files, or name those that differ.

    Returns:
        The exit status: 1 where ``--check`` finds a difference.
    """
    parser = argparse.ArgumentParser(
        prog="python -m recbole_ib.config.generate", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--check", action="store_true", help="write nothing; name the files that differ")
    check = parser.parse_args(argv).check
    if not (ROOT / "properties").is_dir():
        raise ConfigurationError(
            f"{ROOT} is no checkout of recbole_ib: an installed package is not written to"
        )
    files, stale = generated_files(), stale_files()
    for path in stale:
        print(path)
        if check:
            continue
        if path in files:
            write_text(ROOT / path, files[path])
        else:
            (ROOT / path).unlink()
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())

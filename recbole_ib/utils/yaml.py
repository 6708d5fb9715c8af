"""Safe reading of yaml files."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from recbole_ib.errors import ConfigurationError, nearest


def read_yaml(path: Path, missing_ok: bool = False) -> dict:
    """Return the mapping in a yaml file; an empty file is an empty mapping.

    Args:
        path: the file.
        missing_ok: an empty mapping also where there is no file.

    Raises:
        ConfigurationError: no file, no yaml, or something else than a mapping.
    """
    if not path.is_file():
        if missing_ok:
            return {}
        near = (
            nearest(path.name, [p.name for p in path.parent.glob("*.yaml")]) if path.parent.is_dir() else ""
        )
        raise ConfigurationError(f"there is no config file {path}.{near}")
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid yaml: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} must map keys to values, got {type(content).__name__}")
    return content


def load_yaml(text: str) -> Any:
    """Return the value of a yaml text; numbers such as 1e-4 are numbers, and nothing is constructed."""
    return yaml.load(text, Loader=_loader())  # noqa: S506  (a SafeLoader)


@cache
def _loader() -> type[yaml.SafeLoader]:
    """Return a safe loader that also reads 1e-4 as a number, as RecBole's does."""

    class Loader(yaml.SafeLoader):
        """Safe yaml, and numbers such as 1e-4."""

    def construct_mapping(
        loader: yaml.SafeLoader, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Any, Any]:
        """Refuse a key that stands there twice, whose first value yaml forgets."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value == "<<" or not isinstance(key.value, str):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice", key.start_mark
                )
            seen.add(key.value)
        return yaml.SafeLoader.construct_mapping(loader, node, deep)

    Loader.construct_mapping = construct_mapping  # type: ignore[method-assign, assignment]
    Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.[\d_]*)?[eE][-+]?\d+$"),
        list("-+0123456789."),
    )
    return Loader

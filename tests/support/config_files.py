"""Yaml files, and folders of data sets that hold one."""

from pathlib import Path

import yaml

QUIET = ["pytest"]


def write_yaml(path, **values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values))
    return str(path)


def make_folder(name, **values):
    """``data/NAME`` with a yaml of its own; returns the settings that lead there."""
    write_yaml(Path("data") / name / f"{name}.yaml", **values)
    return {"data_path": "data"}


def set_key(path, key, value):
    """Set or (with ``None``) remove one key of a yaml file."""
    content = (yaml.safe_load(path.read_text()) or {}) if path.is_file() else {}
    content.pop(key, None)
    if value is not None:
        content[key] = value
    path.write_text(yaml.safe_dump(content))

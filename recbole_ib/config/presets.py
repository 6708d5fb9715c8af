"""Presets: config files of the package that a run takes by name, such as the settings of a paper."""

from __future__ import annotations

from pathlib import Path

from recbole_ib.config import layers
from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.utils.yaml import read_yaml

SUFFIX = ".yaml"


def presets() -> dict[str, Path]:
    """Return the files of the presets by name, without ``.yaml``."""
    files = sorted((layers.properties_folder() / "presets").glob(f"*{SUFFIX}"), key=lambda path: path.stem)
    return {path.stem: path for path in files}


def preset_title(path: Path) -> str:
    """Return what a preset is: the comment that its file begins with."""
    first, _, _ = path.read_text(encoding="utf-8").partition("\n")
    return first.lstrip("# ")


def read_config_file(name: str | Path) -> dict:
    """Return the settings of a config file, or of the preset that has this name, with ``.yaml`` or without.

    A file that exists wins over a preset. A name with a folder in it is no preset's.

    Raises:
        ConfigurationError: neither a file nor a preset, with the nearest of both; or no mapping in yaml.
    """
    path = Path(name)
    if path.is_file():
        return read_yaml(path)
    known, preset = presets(), path.name.removesuffix(SUFFIX)
    if preset in known and str(name) == path.name:
        return read_yaml(known[preset])
    files = [other.name for other in path.parent.glob(f"*{SUFFIX}")]
    near = nearest(path.name, [*files, *(f"{name}{path.suffix}" for name in known)])
    raise ConfigurationError(f"there is no config file {name}.{near} Presets: {', '.join(known)}")

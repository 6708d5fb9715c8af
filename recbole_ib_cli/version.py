"""The version, read without importing the package that owns it."""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path


def read_version() -> str:
    """Return ``recbole_ib.__version__``: ``recbole_ib/version.py`` is run alone."""
    # find_spec of a top-level package finds its folder and runs nothing
    spec = importlib.util.find_spec("recbole_ib")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the package recbole_ib is not installed beside its command line")
    return str(runpy.run_path(str(Path(spec.origin).with_name("version.py")))["__version__"])

"""What the yaml keys `modalities` and `use_modalities` say."""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from torch import nn

from recbole_ib.errors import ConfigurationError, nearest

MISSING_RULES = ("mean", "zero", "error")

#: how modalities are usually named, for models that treat pictures and texts differently
USUAL_NAMES = {
    "vision": ("image", "images", "visual", "vision", "img", "picture", "pictures", "v"),
    "text": ("text", "texts", "textual", "txt", "t"),
}

ENTRY_KEYS = ("file", "tokens", "missing", "encoder", "item_graph_file")

#: names that torch's modules keep for themselves, so that no modality's layer can be called so
RESERVED_NAMES = frozenset(dir(nn.ModuleDict()))


@dataclass(frozen=True)
class ModalitySpec:
    """One entry of the yaml key ``modalities``, with its paths made absolute."""

    name: str
    file: Path | None
    tokens: Path | None = None
    missing: str = "mean"
    encoder: str | None = None
    item_graph_file: Path | None = None


@dataclass
class Modality:
    """One modality of a data set, aligned to internal item ids (row 0: padding)."""

    name: str
    values: np.ndarray | None  # float32 [n_items, d], or float16 where that was asked for
    has_row: np.ndarray  # bool [n_items]
    item_graph: sp.csr_array | None = None  # float32 [n_items, n_items]


@dataclass
class ModalityReport:
    """What the checks of one modality found; training refuses where ``errors`` is not empty."""

    spec: ModalitySpec
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    covered: int = 0
    n_items: int = 0
    zero_rows: int = 0
    duplicate_rows: int = 0
    graph_edges: int | None = None


def parse_modalities(entries, base: Path, only: Sequence[str] | None = None) -> list[ModalitySpec]:
    """Read the yaml keys ``modalities`` and ``use_modalities`` (``only``).

    Args:
        entries: name -> mapping with ``file`` (and ``tokens``, ``missing``, ``encoder``, ``item_graph_file``).
        base: the folder that relative paths start from.
        only: the names to use, in this order; default all.

    Raises:
        ConfigurationError: an unknown key, name or rule, or an entry without a file.
    """
    if not entries:
        if only:
            raise ConfigurationError(f"use_modalities is {only}, but the data set names no modalities")
        return []
    if not isinstance(entries, Mapping):
        raise ConfigurationError(
            f"modalities must map names to entries such as {{text: {{file: text.npy, tokens: text.tokens}}}}, got {entries!r}"
        )
    specs = {}
    for name, entry in entries.items():
        name = str(name)
        if not name.isidentifier() or name in RESERVED_NAMES:
            why = "is reserved by torch; choose another" if name in RESERVED_NAMES else "must be made of letters, digits and '_'"
            raise ConfigurationError(f"modalities.{name}: this name of a modality {why}")
        if not isinstance(entry, Mapping):
            raise ConfigurationError(f"modalities.{name} must be a mapping with the key 'file', got {entry!r}")
        for key in entry:
            if key not in ENTRY_KEYS:
                raise ConfigurationError(
                    f"modalities.{name}: unknown key {key!r}.{nearest(key, ENTRY_KEYS)} Allowed: {', '.join(ENTRY_KEYS)}"
                )
        if not entry.get("file"):
            raise ConfigurationError(f"modalities.{name} names no 'file'")
        missing = entry.get("missing", "mean")
        if missing not in MISSING_RULES:
            raise ConfigurationError(
                f"modalities.{name}.missing is {missing!r}; allowed: {', '.join(MISSING_RULES)} (what an item without a row gets)"
            )
        for key in ("file", "tokens", "item_graph_file"):
            if not isinstance(entry.get(key), (str, os.PathLike, type(None))):
                raise ConfigurationError(f"modalities.{name}.{key} must be one path, got {entry[key]!r}")
        path = {k: _resolve(entry.get(k), base) for k in ("file", "tokens", "item_graph_file")}
        specs[name] = ModalitySpec(name=name, missing=missing, encoder=entry.get("encoder"), **path)
    if only is None:
        return list(specs.values())
    if not isinstance(only, (str, list, tuple)):
        raise ConfigurationError(f"use_modalities must be a list of names, got {only!r}")
    only = [only] if isinstance(only, str) else list(only)
    for name in only:
        if name not in specs:
            raise ConfigurationError(
                f"use_modalities names {name!r}, which the data set lacks.{nearest(name, specs)} It has: {', '.join(specs)}"
            )
    if not only or len(set(only)) != len(only):
        raise ConfigurationError(f"use_modalities must name at least one modality and none twice, got {only}")
    return [specs[name] for name in only]


def _resolve(path: str | None, base: Path) -> Path | None:
    if path is None:
        return None
    if str(path).startswith("recbole_ib:"):  # a file that ships with the package
        return Path(str(importlib.resources.files("recbole_ib"))) / str(path).split(":", 1)[1]
    return base / os.path.expanduser(str(path))

"""The yaml keys `modalities` and `use_modalities`."""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

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
    """Entry of the yaml key ``modalities``, with its paths made absolute."""

    name: str
    file: Path | None
    tokens: Path | None = None
    missing: str = "mean"
    encoder: str | None = None
    item_graph_file: Path | None = None


@dataclass
class Modality:
    """Modality of a data set, aligned to internal item ids (row 0: padding)."""

    name: str
    values: np.ndarray | None  # float32 [n_items, d], or float16 where that was asked for
    has_row: np.ndarray  # bool [n_items]
    item_graph: sp.csr_array | None = None  # float32 [n_items, n_items]


class RowScales(NamedTuple):
    """Lengths of a modality's rows, and how far these point one way.

    Attributes:
        median: of the lengths.
        least: of the lengths.
        most: of the lengths.
        cosine: mean cosine of two different rows, over all pairs; NaN with a single row.
    """

    median: float
    least: float
    most: float
    cosine: float


@dataclass
class ModalityReport:
    """Result of the checks of one modality; training refuses where ``errors`` is not empty."""

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
    scales: RowScales | None = None  # of the items' own rows, where `recbole-ib check` has measured them


def parse_modalities(entries: object, base: Path, only: object = None) -> list[ModalitySpec]:
    """Read the yaml keys ``modalities`` and ``use_modalities`` (``only``).

    Args:
        entries: name -> mapping with ``file`` (and ``tokens``, ``missing``, ``encoder``,
            ``item_graph_file``).
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
            "modalities must map names to entries such as {text: {file: text.npy, tokens: "
            f"text.tokens}}}}, got {entries!r}"
        )
    specs = {str(name): _parse_entry(str(name), entry, base) for name, entry in entries.items()}
    return list(specs.values()) if only is None else _selected(specs, only)


def _parse_entry(name: str, entry: object, base: Path) -> ModalitySpec:
    if not name.isidentifier() or name in RESERVED_NAMES:
        why = (
            "is reserved by torch; choose another"
            if name in RESERVED_NAMES
            else "must be made of letters, digits and '_'"
        )
        raise ConfigurationError(f"modalities.{name}: this name of a modality {why}")
    if not isinstance(entry, Mapping):
        raise ConfigurationError(f"modalities.{name} must be a mapping with the key 'file', got {entry!r}")
    for key in entry:
        if key not in ENTRY_KEYS:
            raise ConfigurationError(
                f"modalities.{name}: unknown key {key!r}.{nearest(key, ENTRY_KEYS)} Allowed: "
                f"{', '.join(ENTRY_KEYS)}"
            )
    if not entry.get("file"):
        raise ConfigurationError(f"modalities.{name} names no 'file'")
    missing = entry.get("missing", "mean")
    if missing not in MISSING_RULES:
        raise ConfigurationError(
            f"modalities.{name}.missing is {missing!r}; allowed: {', '.join(MISSING_RULES)} (what an item "
            "without a row gets)"
        )
    for key in ("file", "tokens", "item_graph_file"):
        if not isinstance(entry.get(key), (str, os.PathLike, type(None))):
            raise ConfigurationError(f"modalities.{name}.{key} must be one path, got {entry[key]!r}")
    paths = {key: _resolve(entry.get(key), base) for key in ("file", "tokens", "item_graph_file")}
    return ModalitySpec(name=name, missing=missing, encoder=entry.get("encoder"), **paths)


def _selected(specs: Mapping[str, ModalitySpec], only: object) -> list[ModalitySpec]:
    if not isinstance(only, (str, list, tuple)):
        raise ConfigurationError(f"use_modalities must be a list of names, got {only!r}")
    names = [only] if isinstance(only, str) else list(only)
    for name in names:
        if name not in specs:
            raise ConfigurationError(
                f"use_modalities names {name!r}, which the data set lacks.{nearest(name, specs)} It has: "
                f"{', '.join(specs)}"
            )
    if not names or len(set(names)) != len(names):
        raise ConfigurationError(
            f"use_modalities must name at least one modality and none twice, got {names}"
        )
    return [specs[name] for name in names]


def _resolve(path: str | None, base: Path) -> Path | None:
    if path is None:
        return None
    if str(path).startswith("recbole_ib:"):  # a file that ships with the package
        return Path(str(importlib.resources.files("recbole_ib"))) / str(path).split(":", 1)[1]
    return base / Path(str(path)).expanduser()

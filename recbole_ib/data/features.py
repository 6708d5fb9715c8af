"""Reads feature files, checks them, and aligns their rows to RecBole's internal item ids.

A modality is a matrix with one row an item and the items' tokens: a ``.npy`` with a token file (one token a line, in row
order), or an ``.npz`` with the arrays ``features`` and ``ids``. Nothing is unpickled; ``.npy`` files are memory-mapped.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.resources
import json
import os
import secrets
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from torch import nn

from recbole_ib.errors import ConfigurationError, FeatureError, first_few, nearest

MISSING_RULES = ("mean", "zero", "error")
#: of the yaml key ``feature_dtype``
FEATURE_DTYPES = ("float32", "float16")
#: below a data set's folder: the aligned tables of ``feature_dtype: float16``, of what the files hold now; it may be deleted at any time
CACHE_FOLDER = ".recbole_ib_cache"
#: part of the names in it; another one for another layout or alignment
CACHE_VERSION = 2
HALF_SUFFIX = ".f16.npy"
#: how modalities are usually named, for models that treat pictures and texts differently
USUAL_NAMES = {
    "vision": ("image", "images", "visual", "vision", "img", "picture", "pictures", "v"),
    "text": ("text", "texts", "textual", "txt", "t"),
}
ENTRY_KEYS = ("file", "tokens", "missing", "encoder", "item_graph_file")
# rows are checked in blocks of about this many numbers, so that a memory-mapped file stays on the disk
BLOCK_NUMBERS = 1 << 22
#: what numpy and scipy raise for a file that is truncated, damaged or of another kind
UNREADABLE = (ValueError, OSError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error)
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


def load_modality(
    spec: ModalitySpec,
    item_tokens: Sequence[str],
    with_duplicates: bool = False,
    dtype: str = "float32",
    cache: Path | None = None,
):
    """Check one modality and align it to internal item ids.

    Args:
        spec: the files.
        item_tokens: the token of every internal item id; position 0 is padding.
        with_duplicates: also count rows that repeat an earlier row (a pass of its own over the data).
        dtype: of the aligned values, one of FEATURE_DTYPES; numbers that float16 cannot hold are an error.
        cache: with float16, the folder where the aligned table is kept, as :class:`_HalfName`, and mapped from: it is read from the disk
            as its rows are needed. The map is copy-on-write, so that nothing can change the file. A table that is written takes the
            place of those that were made of the same feature and token file before they changed; those of other items or another rule
            stay. Where the folder cannot be written, a temporary file takes its place, with a warning. Without a folder the table is made
            in memory.

    Returns:
        (modality, report). The modality is ``None`` where the report has errors.
    """
    report = ModalityReport(spec, n_items=len(item_tokens) - 1)
    try:
        values, tokens = _read_table(spec)
    except FeatureError as error:
        report.errors.append(str(error))
        return None, report
    report.shape, report.dtype = tuple(values.shape), str(values.dtype)
    _check_tokens(spec, tokens, values.shape[0], report)
    if report.errors:
        return None, report
    finite, zero = _scan_rows(values)
    _name_rows(report.errors, spec, tokens, ~finite, "hold NaN or infinity (or numbers beyond float32); replace or drop them")
    report.zero_rows = int(zero.sum())
    _name_rows(
        report.warnings,
        spec,
        tokens,
        zero,
        f"are all zero: they carry no information and are treated as missing (rule: {spec.missing})",
    )
    if with_duplicates and not report.errors:
        report.duplicate_rows = _count_duplicates(values, ~zero)
    if report.errors:
        return None, report

    row_of = {token: row for row, token in enumerate(tokens)}
    rows = np.array([-1] + [row_of.get(token, -1) for token in item_tokens[1:]], dtype=np.int64)
    unused = values.shape[0] - int((rows >= 0).sum())
    if unused == values.shape[0]:
        report.errors.append(
            f"{spec.file}: none of its {len(tokens)} tokens is an item of the data set (its first: {first_few(tokens)}; the data "
            f"set's first: {first_few(item_tokens[1:])}). Are the tokens the ones of the .inter file?"
        )
        return None, report
    if unused:
        known = set(item_tokens[1:])
        report.warnings.append(
            f"{spec.file}: {unused} of {len(tokens)} rows belong to no item of the (filtered) data set and are left out, first: "
            f"{first_few(t for t in tokens if t not in known)}"
        )
    has_row = rows >= 0
    has_row[has_row] = ~zero[rows[has_row]]
    report.covered = int(has_row.sum())
    if not has_row.any():
        report.errors.append(
            f"{spec.file}: every row of an item of the data set is all zero; the modality carries no information"
        )
        return None, report
    absent = np.flatnonzero(~has_row)[1:]
    if absent.size:
        text = (
            f"{spec.name}: {absent.size} of {report.n_items} items have no row in {spec.file}, first: "
            f"{first_few(item_tokens[i] for i in absent)}"
        )
        if spec.missing == "error":
            report.errors.append(f"{text}. The rule is missing: error; allowed: {', '.join(MISSING_RULES)}")
            return None, report
        report.warnings.append(f"{text}. They get {'the mean row' if spec.missing == 'mean' else 'zeros'}")
    if dtype == "float16":
        aligned = _half_table(_HalfTable(spec, values, rows, has_row), item_tokens, tokens, cache, report)
        if report.errors:
            return None, report
    else:
        aligned = np.zeros((len(item_tokens), values.shape[1]), dtype=np.float32)
        aligned[has_row] = values[rows[has_row]]
        if absent.size and spec.missing == "mean":
            aligned[absent] = aligned[has_row].mean(axis=0, dtype=np.float64)

    graph = None
    if spec.item_graph_file is not None:
        try:
            graph = _read_graph(spec, rows, values.shape[0], report)
        except FeatureError as error:
            report.errors.append(str(error))
            return None, report
        report.graph_edges = graph.nnz
    return Modality(spec.name, aligned, has_row, graph), report


class _HalfTable:
    """The aligned table of a modality in float16, row block by row block; ``unfit``: source rows that float16 cannot hold."""

    def __init__(self, spec: ModalitySpec, values: np.ndarray, rows: np.ndarray, has_row: np.ndarray):
        self.spec, self.values, self.rows, self.has_row = spec, values, rows, has_row
        self.shape = (rows.size, values.shape[1])
        self.unfit = np.zeros(values.shape[0], dtype=bool)

    def _read(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Item positions, and the rows of those that have one, float32."""
        step = max(1, BLOCK_NUMBERS // self.shape[1])
        for start in range(0, self.shape[0], step):
            here = slice(start, start + step)
            yield here, self.values[self.rows[here][self.has_row[here]]].astype(np.float32)

    def _mean(self) -> np.ndarray:
        return sum(rows.sum(axis=0, dtype=np.float64) for _, rows in self._read()) / self.has_row.sum()

    def blocks(self) -> Iterator[np.ndarray]:
        """``[b, d]`` float16, all items in order."""
        mean = self._mean() if self.spec.missing == "mean" and not self.has_row[1:].all() else 0.0
        for here, rows in self._read():
            with np.errstate(over="ignore"):
                half = rows.astype(np.float16)
            self.unfit[self.rows[here][self.has_row[here]]] = ~np.isfinite(half).all(axis=1) | ~half.any(axis=1)
            known = self.has_row[here]
            block = np.zeros((known.size, self.shape[1]), dtype=np.float16)
            block[~known] = mean
            block[known] = half
            if here.start == 0:
                block[0] = 0
            yield block

    def write(self, file) -> None:
        """As a ``.npy``. Written, not mapped: a full disk is then an error and no crash."""
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype("<f2")), "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(file, header)
        for block in self.blocks():
            file.write(block.astype("<f2", copy=False).tobytes())
        file.flush()
        os.fsync(file.fileno())


class _HalfName(NamedTuple):
    """``<modality>-<source>-<content>-<alignment>.f16.npy``, a table's name in the cache.

    source: of the places of feature and token file; content: of what these hold; alignment: of the items and the rule for missing rows.
    One source has the tables of every filter and rule, all of one content: what the files hold now.
    """

    modality: str
    source: str
    content: str
    alignment: str

    def __str__(self) -> str:
        return "-".join(self) + HALF_SUFFIX


def _half_name(table: _HalfTable, item_tokens: Sequence[str], tokens: list[str], cache: Path) -> _HalfName:
    # the numbers themselves: a file that is written again may keep its size and its time of change
    content = _digest([CACHE_VERSION, tokens, table.values.dtype.str, table.values.shape])
    for _, block in _blocks(table.values):
        content.update(np.ascontiguousarray(block).data)
    source = _digest([_place(path, cache) for path in (table.spec.file, table.spec.tokens)])
    alignment = _digest([table.spec.missing, list(item_tokens[1:])])
    return _HalfName(table.spec.name, *(digest.hexdigest()[:16] for digest in (source, content, alignment)))


def _digest(values: list):
    return hashlib.sha256(json.dumps(values).encode())


def _place(path: Path | None, cache: Path) -> str | None:
    """A file as seen from the cache: a data set that is moved as a whole keeps its tables."""
    if path is None:
        return None
    path = path.resolve()
    try:
        return os.path.relpath(path, cache.resolve())
    except ValueError:  # another drive of Windows
        return str(path)


def _remove_stale(new: Path) -> None:
    """Remove the tables of the same files with other content, which no run can ask for again."""
    _, source, content, _ = new.name.rsplit("-", 3)
    for path in new.parent.glob(f"*-{source}-*{HALF_SUFFIX}"):
        if path.name.rsplit("-", 3)[2] != content:
            # one that a process has mapped stays readable to it; Windows refuses, and the next new table tries again
            with contextlib.suppress(OSError):
                path.unlink()


def _half_table(
    table: _HalfTable, item_tokens: Sequence[str], tokens: list[str], cache: Path | None, report: ModalityReport
) -> np.ndarray | None:
    """The table, mapped from its file where there is a ``cache``; ``None``, and errors in the report, where float16 cannot hold it."""
    spec = table.spec
    if cache is None:
        found = np.concatenate(list(table.blocks()))
    else:
        path = cache / str(_half_name(table, item_tokens, tokens, cache))
        found = _map_half(path, table.shape)
        if found is None:
            try:
                found = _write_half(table, path)
            except OSError as error:
                found = _temporary_half(table, path, error, report)
    what = "hold numbers that float16 cannot hold (beyond 65504, or all below 3e-8); scale them, or set feature_dtype: float32"
    _name_rows(report.errors, spec, tokens, table.unfit, what)
    return None if table.unfit.any() else found


def _map_half(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """A file of the cache, or ``None`` where it is not there, or no whole table."""
    try:
        found = np.load(path, mmap_mode="c", allow_pickle=False)
    except UNREADABLE:
        return None
    return found if isinstance(found, np.ndarray) and (found.shape, found.dtype) == (shape, np.float16) else None


def _write_half(table: _HalfTable, path: Path) -> np.ndarray | None:
    """Write a file of the cache in one step, and map it; nothing is left of a table that float16 cannot hold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(3)}.tmp")
    try:
        with open(scratch, "wb") as file:
            table.write(file)
        if table.unfit.any():
            return None
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    found = _map_half(path, table.shape)
    if found is None:  # a process that had read the feature file before it changed took the new table for the stale one
        raise FileNotFoundError(errno.ENOENT, "another process removed it", str(path))
    _remove_stale(path)
    return found


def _temporary_half(table: _HalfTable, path: Path, error: OSError, report: ModalityReport) -> np.ndarray | None:
    """A table whose file cannot be kept: a temporary one, deleted as soon as it is mapped where the system allows that."""
    try:
        number, name = tempfile.mkstemp(prefix="recbole_ib-", suffix=".f16.npy")
        try:
            with open(number, "wb") as file:
                table.write(file)
            found = _map_half(Path(name), table.shape)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(name)
    except OSError as second:
        raise FeatureError(
            f"{table.spec.name}: its float16 table can be written neither to {path.parent} ({error}) nor to a temporary file ({second}); "
            "make room, or set feature_dtype: float32"
        ) from None
    report.warnings.append(
        f"{path.parent} cannot be written ({error.strerror}): the float16 table of {table.spec.name} is in a temporary file and is made "
        "again by the next run"
    )
    return found


def _read_table(spec: ModalitySpec) -> tuple[np.ndarray, list[str]]:
    _need_file(spec.file, f"modalities.{spec.name}.file")
    archive = _numpy_load(spec.file)
    if isinstance(archive, np.ndarray):
        values = archive
        if spec.tokens is None:
            raise FeatureError(
                f"{spec.file}: a .npy needs a token file that names its rows; add modalities.{spec.name}.tokens (one item token a "
                "line, in row order)"
            )
        tokens = _read_tokens(spec)
    else:
        with archive:
            for key in ("features", "ids"):
                if key not in archive.files:
                    raise FeatureError(
                        f"{spec.file}: the archive lacks the array {key!r}; it has: {first_few(archive.files)}. An .npz holds "
                        "'features' [n, d] and 'ids' [n]"
                    )
            try:
                values, ids = archive["features"], archive["ids"]
            except UNREADABLE as error:
                raise FeatureError(f"{spec.file}: {error}. Save ids as text or integers, not as objects") from None
        if ids.ndim != 1 or ids.dtype.kind not in "UiuS":
            raise FeatureError(f"{spec.file}: 'ids' must be one row of text or integers, got {ids.dtype} {ids.shape}")
        try:
            tokens = [i.decode() for i in ids] if ids.dtype.kind == "S" else [str(i) for i in ids]
        except UnicodeDecodeError as error:
            raise FeatureError(f"{spec.file}: 'ids' are bytes that are no UTF-8 text ({error})") from None
        if spec.tokens is not None:
            raise FeatureError(f"{spec.file}: an .npz names its rows itself; drop modalities.{spec.name}.tokens ({spec.tokens})")
    if values.ndim != 2 or 0 in values.shape:
        raise FeatureError(f"{spec.file}: a feature matrix has shape [items, dimensions], got {values.shape}")
    if values.dtype.newbyteorder("=") not in (np.float16, np.float32, np.float64):
        raise FeatureError(f"{spec.file}: features must be float16, float32 or float64, got {values.dtype}")
    return values, tokens


def _need_file(path: Path, key: str) -> None:
    if path.is_file():
        return
    near = nearest(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else " The folder is not there."
    raise FeatureError(f"{key}: there is no file {path}.{near}")


def _numpy_load(path: Path):
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        raise FeatureError(
            f"{path}: not a readable .npy or .npz without pickled objects ({error}). Save it with numpy.save as plain float16/32/64"
        ) from None


def _read_tokens(spec: ModalitySpec) -> list[str]:
    _need_file(spec.tokens, f"modalities.{spec.name}.tokens")
    try:
        # split at newlines alone: splitlines() would also cut a token at the rarer Unicode line separators
        lines = spec.tokens.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise FeatureError(f"{spec.tokens}: not a UTF-8 text file ({error})") from None
    return [line.strip() for line in (lines[:-1] if lines[-1] == "" else lines)]


def _check_tokens(spec: ModalitySpec, tokens: list[str], n_rows: int, report: ModalityReport) -> None:
    source, place = (spec.tokens, "line") if spec.tokens else (spec.file, "row")
    if len(tokens) != n_rows:
        blank = " (the last one is a blank line)" if tokens and not tokens[-1] else ""
        report.errors.append(
            f"{source}: {len(tokens)} tokens{blank} for the {n_rows} rows of {spec.file}; one token a row, in order"
        )
        return
    empty = [i + 1 for i, token in enumerate(tokens) if not token]
    if empty:
        report.errors.append(f"{source}: {len(empty)} empty tokens, first in {place} {first_few(empty)}")
    seen: dict[str, int] = {}
    repeated = []
    for line, token in enumerate(tokens, start=1):
        if token in seen:
            repeated.append(f"{token!r} ({place}s {seen[token]} and {line})")
        else:
            seen[token] = line
    if repeated:
        report.errors.append(f"{source}: {len(repeated)} tokens are given twice, first: {first_few(repeated, 3)}")


def _blocks(values: np.ndarray):
    step = max(1, BLOCK_NUMBERS // values.shape[1])
    for start in range(0, values.shape[0], step):
        yield start, np.asarray(values[start : start + step])


def _scan_rows(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    finite, zero = (np.zeros(values.shape[0], dtype=bool) for _ in range(2))
    for start, block in _blocks(values):
        stop = start + block.shape[0]
        with np.errstate(over="ignore"):
            finite[start:stop] = np.isfinite(block.astype(np.float32, copy=False)).all(axis=1)
        zero[start:stop] = ~block.any(axis=1)
    return finite, zero


def _count_duplicates(values: np.ndarray, keep: np.ndarray) -> int:
    seen = set()
    for start, block in _blocks(values):
        seen.update(row.tobytes() for row, use in zip(block, keep[start:], strict=False) if use)
    return int(keep.sum()) - len(seen)


def _name_rows(target: list[str], spec: ModalitySpec, tokens: list[str], mask: np.ndarray, what: str) -> None:
    if mask.any():
        bad = np.flatnonzero(mask)
        named = first_few(f"{tokens[i]} (row {i})" for i in bad[:6])
        target.append(f"{spec.file}: {bad.size} of {mask.size} rows {what}; first tokens: {named}")


def _read_graph(spec: ModalitySpec, rows: np.ndarray, n_rows: int, report: ModalityReport) -> sp.csr_array:
    """Read the ready graph, in feature-row order, and renumber it to internal item ids."""
    path = spec.item_graph_file
    _need_file(path, f"modalities.{spec.name}.item_graph_file")
    try:
        graph = sp.coo_array(sp.load_npz(path))
    except UNREADABLE as error:
        raise FeatureError(f"{path}: not a sparse matrix that scipy.sparse.save_npz wrote ({error})") from None
    if graph.shape != (n_rows, n_rows):
        raise FeatureError(f"{path}: the graph has shape {graph.shape}, {spec.file} has {n_rows} rows; one node a row")
    data = graph.data.astype(np.float32)
    if not np.isfinite(data).all():
        raise FeatureError(f"{path}: {int((~np.isfinite(data)).sum())} of {data.size} weights are NaN or infinite")
    n_items = rows.size
    item_of = np.full(n_rows, -1, dtype=np.int64)
    item_of[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
    row, col = (item_of[c] for c in graph.coords)
    keep = (row >= 0) & (col >= 0)
    if not keep.all():
        report.warnings.append(
            f"{path}: {int((~keep).sum())} of {keep.size} edges touch an item that the data set lacks and are left out"
        )
    row, col, data = row[keep], col[keep], data[keep]
    # an item without an edge (no row of its own, or all its neighbours left out) is linked to itself, as in a computed graph
    alone = np.setdiff1d(np.arange(1, n_items), row)
    parts = (
        np.concatenate([data, np.ones(alone.size, dtype=np.float32)]),
        (np.concatenate([row, alone]), np.concatenate([col, alone])),
    )
    return sp.csr_array(parts, shape=(n_items, n_items))

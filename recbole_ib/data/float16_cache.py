"""The aligned feature tables of `feature_dtype: float16`, kept on the disk beside the data set."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from recbole_ib.data.feature_file import BLOCK_NUMBERS, UNREADABLE, name_rows, row_blocks
from recbole_ib.data.modality_spec import ModalityReport, ModalitySpec
from recbole_ib.errors import FeatureError

#: below a data set's folder: the aligned tables of ``feature_dtype: float16``, of what the files hold now; it
#: may be deleted at any time
CACHE_FOLDER = ".recbole_ib_cache"

#: part of the names in it; another one for another layout or alignment
CACHE_VERSION = 2

HALF_SUFFIX = ".f16.npy"


class HalfTable:
    """Aligned table of a modality in float16, row block by row block.

    Attributes:
        unfit: source rows that float16 cannot hold, bool ``[n]``; known once the blocks are made.
    """

    def __init__(self, spec: ModalitySpec, values: np.ndarray, rows: np.ndarray, has_row: np.ndarray):
        self.spec, self.values, self.rows, self.has_row = spec, values, rows, has_row
        self.shape = (rows.size, values.shape[1])
        self.unfit = np.zeros(values.shape[0], dtype=bool)

    def _read(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield item positions, and the rows of those that have one, float32."""
        step = max(1, BLOCK_NUMBERS // self.shape[1])
        for start in range(0, self.shape[0], step):
            items = slice(start, start + step)
            yield items, self.values[self.rows[items][self.has_row[items]]].astype(np.float32)

    def _mean(self) -> np.ndarray:
        total = np.zeros(self.shape[1])
        for _, rows in self._read():
            total += rows.sum(axis=0, dtype=np.float64)
        return total / self.has_row.sum()

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield ``[b, d]`` float16, all items in order."""
        filled = self.spec.missing == "mean" and not self.has_row[1:].all()
        mean: np.ndarray | float = self._mean() if filled else 0.0
        for items, rows in self._read():
            with np.errstate(over="ignore"):
                half = rows.astype(np.float16)
            known = self.has_row[items]
            self.unfit[self.rows[items][known]] = ~np.isfinite(half).all(axis=1) | ~half.any(axis=1)
            block = np.zeros((known.size, self.shape[1]), dtype=np.float16)
            block[~known] = mean
            block[known] = half
            if items.start == 0:
                block[0] = 0
            yield block

    def write(self, file: BinaryIO) -> None:
        """Write the table as a ``.npy``. Not mapped: a full disk is then an error and no crash."""
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype("<f2")),
            "fortran_order": False,
            "shape": self.shape,
        }
        np.lib.format.write_array_header_1_0(file, header)
        file.writelines(block.astype("<f2", copy=False).tobytes() for block in self.blocks())
        file.flush()
        os.fsync(file.fileno())


class _HalfName(NamedTuple):
    """Name of a table in the cache: ``<modality>-<source>-<content>-<alignment>.f16.npy``.

    source: of the places of feature and token file; content: of what these hold; alignment: of the items and
    the rule for missing rows. One source has the tables of every filter and rule, all of one content: what
    the files hold now.
    """

    modality: str
    source: str
    content: str
    alignment: str

    def __str__(self) -> str:
        return "-".join(self) + HALF_SUFFIX


def _half_name(table: HalfTable, item_tokens: Sequence[str], tokens: list[str], cache: Path) -> _HalfName:
    # the numbers themselves: a file that is written again may keep its size and its time of change
    content = _digest([CACHE_VERSION, tokens, table.values.dtype.str, table.values.shape])
    for _, block in row_blocks(table.values):
        content.update(np.ascontiguousarray(block).data)
    source = _digest([_place(path, cache) for path in (table.spec.file, table.spec.tokens)])
    alignment = _digest([table.spec.missing, list(item_tokens[1:])])
    return _HalfName(table.spec.name, *(digest.hexdigest()[:16] for digest in (source, content, alignment)))


def _digest(values: list) -> hashlib._Hash:
    return hashlib.sha256(json.dumps(values).encode())


def _place(path: Path | None, cache: Path) -> str | None:
    """Return a file as seen from the cache: a data set that is moved as a whole keeps its tables."""
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
            # one that a process has mapped stays readable to it; Windows refuses, and the next new table
            # tries again
            with contextlib.suppress(OSError):
                path.unlink()


def half_table(
    table: HalfTable,
    item_tokens: Sequence[str],
    tokens: list[str],
    cache: Path | None,
    report: ModalityReport,
) -> np.ndarray | None:
    """Return the table, mapped from its file where there is a ``cache``.

    ``None``, and errors in the report, where float16 cannot hold it.
    """
    spec = table.spec
    if cache is None:
        values: np.ndarray | None = np.concatenate(list(table.blocks()))
    else:
        path = cache / str(_half_name(table, item_tokens, tokens, cache))
        values = _map_half(path, table.shape)
        if values is None:
            try:
                values = _write_half(table, path)
            except OSError as error:
                values = _temporary_half(table, path, error, report)
    what = (
        "hold numbers that float16 cannot hold (beyond 65504, or all below 3e-8); scale them, or set "
        "feature_dtype: float32"
    )
    name_rows(report.errors, spec, tokens, table.unfit, what)
    return None if table.unfit.any() else values


def _map_half(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """Return a file of the cache, or ``None`` where it is not there, or no whole table."""
    try:
        values = np.load(path, mmap_mode="c", allow_pickle=False)
    except UNREADABLE:
        return None
    if not isinstance(values, np.ndarray) or (values.shape, values.dtype) != (shape, np.float16):
        return None
    return values


def _write_half(table: HalfTable, path: Path) -> np.ndarray | None:
    """Write a file of the cache in one step, and map it.

    Nothing is left of a table that float16 cannot hold.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(3)}.tmp")
    try:
        with scratch.open("wb") as file:
            table.write(file)
        if table.unfit.any():
            return None
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    values = _map_half(path, table.shape)
    # a process that had read the feature file before it changed took the new table for the stale one
    if values is None:
        raise FileNotFoundError(errno.ENOENT, "another process removed it", str(path))
    _remove_stale(path)
    return values


def _temporary_half(
    table: HalfTable, path: Path, error: OSError, report: ModalityReport
) -> np.ndarray | None:
    """Return a table whose file cannot be kept, mapped from a temporary file.

    That is deleted as soon as it is mapped where the system allows it.
    """
    try:
        number, name = tempfile.mkstemp(prefix="recbole_ib-", suffix=".f16.npy")
        try:
            with os.fdopen(number, "wb") as file:
                table.write(file)
            values = _map_half(Path(name), table.shape)
        finally:
            with contextlib.suppress(OSError):
                Path(name).unlink()
    except OSError as second:
        raise FeatureError(
            f"{table.spec.name}: its float16 table can be written neither to {path.parent} ({error}) nor to "
            f"a temporary file ({second}); make room, or set feature_dtype: float32"
        ) from None
    report.warnings.append(
        f"{path.parent} cannot be written ({error.strerror}): the float16 table of {table.spec.name} is in a "
        "temporary file and is made again by the next run"
    )
    return values

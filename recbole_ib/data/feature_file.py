"""Reading and checking of feature files, token files and ready item graphs."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from recbole_ib.data.modality_spec import ModalityReport, ModalitySpec
from recbole_ib.errors import FeatureError, first_few, nearest

# rows are checked in blocks of about this many numbers, so that a memory-mapped file stays on the disk
BLOCK_NUMBERS = 1 << 22

#: what numpy and scipy raise for a file that is truncated, damaged or of another kind
UNREADABLE = (
    ValueError, OSError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error, struct.error,
    # numpy reads the header of a .npy as Python, and believes the shape in it
    SyntaxError, tokenize.TokenError, MemoryError, OverflowError, RuntimeError,
)  # fmt: skip


def read_table(spec: ModalitySpec) -> tuple[np.ndarray, list[str]]:
    """Read a modality's feature matrix and the tokens of its rows.

    Returns:
        the matrix ``[n, d]``, mapped from the disk where it is a ``.npy``, and n tokens.

    Raises:
        FeatureError: a file that is not there, not readable or of another form.
    """
    if spec.file is None:
        raise FeatureError(f"modalities.{spec.name} names no file")
    _need_file(spec.file, f"modalities.{spec.name}.file")
    archive = _numpy_load(spec.file)
    if isinstance(archive, np.ndarray):
        values = archive
        if spec.tokens is None:
            raise FeatureError(
                f"{spec.file}: a .npy needs a token file that names its rows; add "
                f"modalities.{spec.name}.tokens (one item token a line, in row order)"
            )
        tokens = _read_tokens(spec.tokens, f"modalities.{spec.name}.tokens")
    else:
        values, tokens = _read_archive(spec, spec.file, archive)
    if values.ndim != 2 or 0 in values.shape:
        raise FeatureError(f"{spec.file}: a feature matrix has shape [items, dimensions], got {values.shape}")
    if values.dtype.newbyteorder("=") not in (np.float16, np.float32, np.float64):
        raise FeatureError(f"{spec.file}: features must be float16, float32 or float64, got {values.dtype}")
    return values, tokens


def _read_archive(
    spec: ModalitySpec, file: Path, archive: np.lib.npyio.NpzFile
) -> tuple[np.ndarray, list[str]]:
    """Return the arrays ``features`` and ``ids`` of a ``.npz``, the ids as tokens."""
    with archive:
        for key in ("features", "ids"):
            if key not in archive.files:
                raise FeatureError(
                    f"{file}: the archive lacks the array {key!r}; it has: {first_few(archive.files)}. An "
                    ".npz holds 'features' [n, d] and 'ids' [n]"
                )
        try:
            arrays: list[object] = [archive["features"], archive["ids"]]
        except UNREADABLE as error:
            raise FeatureError(f"{file}: {error}. Save ids as text or integers, not as objects") from None
    values, ids = arrays
    # numpy returns the bytes of a member whose header is damaged
    if not isinstance(values, np.ndarray) or not isinstance(ids, np.ndarray):
        raise FeatureError(f"{file}: 'features' or 'ids' is no array of numpy; the file is damaged")
    if ids.ndim != 1 or ids.dtype.kind not in "UiuS":
        raise FeatureError(f"{file}: 'ids' must be one row of text or integers, got {ids.dtype} {ids.shape}")
    if spec.tokens is not None:
        raise FeatureError(
            f"{file}: an .npz names its rows itself; drop modalities.{spec.name}.tokens ({spec.tokens})"
        )
    try:
        return values, [i.decode() for i in ids] if ids.dtype.kind == "S" else [str(i) for i in ids]
    except UnicodeDecodeError as error:
        raise FeatureError(f"{file}: 'ids' are bytes that are no UTF-8 text ({error})") from None


def _need_file(path: Path, key: str) -> None:
    if path.is_file():
        return
    near = (
        nearest(path.name, [p.name for p in path.parent.iterdir()])
        if path.parent.is_dir()
        else " The folder is not there."
    )
    raise FeatureError(f"{key}: there is no file {path}.{near}")


def _numpy_load(path: Path) -> np.ndarray | np.lib.npyio.NpzFile:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        raise FeatureError(
            f"{path}: not a readable .npy or .npz without pickled objects ({error}). Save it with numpy.save "
            "as plain float16/32/64"
        ) from None


def _read_tokens(path: Path, key: str) -> list[str]:
    _need_file(path, key)
    try:
        # split at newlines alone: splitlines() would also cut a token at the rarer Unicode line separators
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise FeatureError(f"{path}: not a UTF-8 text file ({error})") from None
    return [line.strip() for line in (lines[:-1] if lines[-1] == "" else lines)]


def check_tokens(spec: ModalitySpec, tokens: list[str], n_rows: int, report: ModalityReport) -> None:
    """Add to the report what is wrong with the tokens of a matrix of ``n_rows`` rows."""
    source, place = (spec.tokens, "line") if spec.tokens else (spec.file, "row")
    if len(tokens) != n_rows:
        blank = " (the last one is a blank line)" if tokens and not tokens[-1] else ""
        report.errors.append(
            f"{source}: {len(tokens)} tokens{blank} for the {n_rows} rows of {spec.file}; one token a row, "
            "in order"
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
        report.errors.append(
            f"{source}: {len(repeated)} tokens are given twice, first: {first_few(repeated, 3)}"
        )


def row_blocks(values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the rows in blocks: the position of the first, and the block."""
    step = max(1, BLOCK_NUMBERS // values.shape[1])
    for start in range(0, values.shape[0], step):
        yield start, np.asarray(values[start : start + step])


def scan_rows(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows are finite in float32, and which are all zero, bool ``[n]`` each."""
    finite, zero = (np.zeros(values.shape[0], dtype=bool) for _ in range(2))
    for start, block in row_blocks(values):
        stop = start + block.shape[0]
        with np.errstate(over="ignore"):
            finite[start:stop] = np.isfinite(block.astype(np.float32, copy=False)).all(axis=1)
        zero[start:stop] = ~block.any(axis=1)
    return finite, zero


def count_duplicates(values: np.ndarray, keep: np.ndarray) -> int:
    """Return how many of the rows in ``keep``, bool ``[n]``, repeat an earlier one of them."""
    seen: set[bytes] = set()
    for start, block in row_blocks(values):
        seen.update(row.tobytes() for row, use in zip(block, keep[start:], strict=False) if use)
    return int(keep.sum()) - len(seen)


def name_rows(target: list[str], spec: ModalitySpec, tokens: list[str], mask: np.ndarray, what: str) -> None:
    """Add a text that names the rows in ``mask``, bool ``[n]``, and what they do, to ``target``."""
    if mask.any():
        bad = np.flatnonzero(mask)
        named = first_few(f"{tokens[i]} (row {i})" for i in bad[:6])
        target.append(f"{spec.file}: {bad.size} of {mask.size} rows {what}; first tokens: {named}")


def read_graph(
    path: Path, spec: ModalitySpec, rows: np.ndarray, n_rows: int, report: ModalityReport
) -> sp.csr_array:
    """Read a ready graph, in feature-row order, and renumber it to internal item ids.

    Args:
        path: a sparse matrix of ``scipy.sparse.save_npz``, ``[n_rows, n_rows]``.
        spec: the modality.
        rows: the feature row of every item, -1 without one, int64 ``[n_items]``.
        n_rows: the number of feature rows.
        report: takes a warning where edges are left out.

    Returns:
        float32 CSR ``[n_items, n_items]``; an item without an edge is linked to itself.

    Raises:
        FeatureError: a file that is not there, not readable or of another shape; weights that are complex,
            negative or not finite.
    """
    _need_file(path, f"modalities.{spec.name}.item_graph_file")
    try:
        graph = sp.coo_array(sp.load_npz(path))
    except UNREADABLE as error:
        raise FeatureError(
            f"{path}: not a sparse matrix that scipy.sparse.save_npz wrote ({error})"
        ) from None
    if graph.shape != (n_rows, n_rows):
        raise FeatureError(
            f"{path}: the graph has shape {graph.shape}, {spec.file} has {n_rows} rows; one node a row"
        )
    if np.iscomplexobj(graph.data):
        raise FeatureError(
            f"{path}: the weights are complex numbers ({graph.data.dtype}); they are real ones"
        )
    data = graph.data.astype(np.float32)
    if not np.isfinite(data).all():
        raise FeatureError(
            f"{path}: {int((~np.isfinite(data)).sum())} of {data.size} weights are NaN or infinite"
        )
    if (data < 0).any():
        first = int(np.flatnonzero(data < 0)[0])
        raise FeatureError(
            f"{path}: {int((data < 0).sum())} of {data.size} weights are negative, the first {data[first]:g} "
            f"of row {graph.coords[0][first]} and column {graph.coords[1][first]}; a graph has weights of 0 "
            "and above"
        )
    n_items = rows.size
    item_of = np.full(n_rows, -1, dtype=np.int64)
    item_of[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
    row, col = (item_of[c] for c in graph.coords)
    keep = (row >= 0) & (col >= 0)
    if not keep.all():
        report.warnings.append(
            f"{path}: {int((~keep).sum())} of {keep.size} edges touch an item that the data set lacks and "
            "are left out"
        )
    row, col, data = row[keep], col[keep], data[keep]
    # an item without an edge (no row of its own, or all its neighbors left out) is linked to itself, as
    # in a computed graph
    alone = np.setdiff1d(np.arange(1, n_items), row)
    parts = (
        np.concatenate([data, np.ones(alone.size, dtype=np.float32)]),
        (np.concatenate([row, alone]), np.concatenate([col, alone])),
    )
    return sp.csr_array(parts, shape=(n_items, n_items))

"""Feature files, read, checked, and aligned to RecBole's internal item ids.

A modality is a matrix with one row per item and the items' tokens: a ``.npy`` with a token file (one
token a line, in row order), or an ``.npz`` with the arrays ``features`` and ``ids``. Nothing is unpickled;
``.npy`` files are memory-mapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recbole_ib.data.feature_file import (
    check_tokens,
    count_duplicates,
    name_rows,
    read_graph,
    read_table,
    scan_rows,
)
from recbole_ib.data.float16_cache import HalfTable, half_table
from recbole_ib.data.modality_spec import MISSING_RULES, Modality, ModalityReport, ModalitySpec
from recbole_ib.errors import FeatureError, first_few

#: of the yaml key ``feature_dtype``
FEATURE_DTYPES = ("float32", "float16")


def load_modality(
    spec: ModalitySpec,
    item_tokens: Sequence[str],
    with_duplicates: bool = False,
    dtype: str = "float32",
    cache: Path | None = None,
) -> tuple[Modality | None, ModalityReport]:
    """Check one modality and align it to internal item ids.

    Args:
        spec: the files.
        item_tokens: the token of every internal item id; position 0 is padding.
        with_duplicates: also count rows that repeat an earlier row (a pass of its own over the data).
        dtype: of the aligned values, one of FEATURE_DTYPES; numbers that float16 cannot hold are an error.
        cache: with float16, the folder where the aligned table is kept, see :class:`HalfTable`, and mapped
            from: it is read from the disk as its rows are needed. The map is copy-on-write, so that nothing
            can change the file. A table that is written takes the place of those that were made of the same
            feature and token file before they changed; those of other items or another rule stay. Where the
            folder cannot be written, a temporary file takes its place, with a warning. Without a folder the
            table is made in memory.

    Returns:
        (modality, report). The modality is ``None`` where the report has errors.
    """
    report = ModalityReport(spec, n_items=len(item_tokens) - 1)
    try:
        values, tokens = read_table(spec)
    except FeatureError as error:
        report.errors.append(str(error))
        return None, report
    report.shape, report.dtype = tuple(values.shape), str(values.dtype)
    check_tokens(spec, tokens, values.shape[0], report)
    if report.errors:
        return None, report
    zero = _check_rows(spec, values, tokens, with_duplicates, report)
    if report.errors:
        return None, report
    rows, has_row = _align(spec, tokens, item_tokens, zero, report)
    if report.errors:
        return None, report
    aligned = (
        half_table(HalfTable(spec, values, rows, has_row), item_tokens, tokens, cache, report)
        if dtype == "float16"
        else _aligned_values(spec, values, rows, has_row)
    )
    graph = None
    if spec.item_graph_file is not None and not report.errors:
        try:
            graph = read_graph(spec.item_graph_file, spec, rows, values.shape[0], report)
            report.graph_edges = graph.nnz
        except FeatureError as error:
            report.errors.append(str(error))
    return (None if report.errors else Modality(spec.name, aligned, has_row, graph)), report


def _check_rows(
    spec: ModalitySpec, values: np.ndarray, tokens: list[str], with_duplicates: bool, report: ModalityReport
) -> np.ndarray:
    """Add what is wrong with the rows to the report; return which are all zero, bool ``[n]``."""
    finite, zero = scan_rows(values)
    what = "hold NaN or infinity (or numbers beyond float32); replace or drop them"
    name_rows(report.errors, spec, tokens, ~finite, what)
    report.zero_rows = int(zero.sum())
    what = f"are all zero: they carry no information and are treated as missing (rule: {spec.missing})"
    name_rows(report.warnings, spec, tokens, zero, what)
    if with_duplicates and not report.errors:
        report.duplicate_rows = count_duplicates(values, ~zero)
    return zero


def _align(
    spec: ModalitySpec,
    tokens: list[str],
    item_tokens: Sequence[str],
    zero: np.ndarray,
    report: ModalityReport,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the feature row of every item, -1 without one, and whether it has one that is not zero."""
    row_of = {token: row for row, token in enumerate(tokens)}
    rows = np.array([-1] + [row_of.get(token, -1) for token in item_tokens[1:]], dtype=np.int64)
    has_row = rows >= 0
    unused = zero.size - int(has_row.sum())
    if unused == zero.size:
        report.errors.append(
            f"{spec.file}: none of its {len(tokens)} tokens is an item of the data set (its first: "
            f"{first_few(tokens)}; the data set's first: {first_few(item_tokens[1:])}). Are the tokens the "
            "ones of the .inter file?"
        )
        return rows, has_row
    if unused:
        known = set(item_tokens[1:])
        report.warnings.append(
            f"{spec.file}: {unused} of {len(tokens)} rows belong to no item of the (filtered) data set and "
            f"are left out, first: {first_few(t for t in tokens if t not in known)}"
        )
    has_row[has_row] = ~zero[rows[has_row]]
    report.covered = int(has_row.sum())
    if not has_row.any():
        report.errors.append(
            f"{spec.file}: every row of an item of the data set is all zero; the modality carries no "
            "information"
        )
        return rows, has_row
    absent = np.flatnonzero(~has_row)[1:]
    if absent.size:
        text = (
            f"{spec.name}: {absent.size} of {report.n_items} items have no row in {spec.file}, first: "
            f"{first_few(item_tokens[i] for i in absent)}"
        )
        if spec.missing == "error":
            report.errors.append(f"{text}. The rule is missing: error; allowed: {', '.join(MISSING_RULES)}")
        else:
            rule = "the mean row" if spec.missing == "mean" else "zeros"
            report.warnings.append(f"{text}. They get {rule}")
    return rows, has_row


def _aligned_values(
    spec: ModalitySpec, values: np.ndarray, rows: np.ndarray, has_row: np.ndarray
) -> np.ndarray:
    """Return the aligned table, float32 ``[n_items, d]``."""
    aligned = np.zeros((rows.size, values.shape[1]), dtype=np.float32)
    aligned[has_row] = values[rows[has_row]]
    absent = np.flatnonzero(~has_row)[1:]
    if absent.size and spec.missing == "mean":
        aligned[absent] = aligned[has_row].mean(axis=0, dtype=np.float64)
    return aligned

"""Reads feature files, checks them, and aligns their rows to RecBole's internal item ids.

A modality is a matrix with one row an item and the items' tokens: a ``.npy`` with a token file (one token a line, in row
order), or an ``.npz`` with the arrays ``features`` and ``ids``. Nothing is unpickled; ``.npy`` files are memory-mapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recbole_ib.data.feature_file import _check_tokens, _count_duplicates, _name_rows, _read_graph, _read_table, _scan_rows
from recbole_ib.data.float16_cache import _half_table, _HalfTable
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

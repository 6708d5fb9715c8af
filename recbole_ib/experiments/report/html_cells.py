"""Rows and cells of the page's tables, as plain dicts that the template reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def cell(text: str, value: float | None = None, **more) -> dict:
    """A cell: ``value`` is what its column is sorted by (NaN last)."""
    key = None if value is None else "" if np.isnan(value) else repr(float(value))
    return {"text": text, "value": key, "mark": "", "sub": "", "entry": None, "left": False} | more


def table(label: str, head: Sequence[str | tuple], rows: Iterable[dict], parts: Sequence[dict] | None = None) -> dict:
    """A table; ``head``: texts, or (text, unit), or (text, unit, True) for a column of text."""
    heads = [(h, "", False) if isinstance(h, str) else (*h, False)[:3] for h in head]
    columns = [{"text": text, "unit": unit, "left": left} for text, unit, left in heads]
    return {"label": label, "head": columns, "parts": parts if parts is not None else [{"title": "", "rows": list(rows)}]}


def row(cells: list[dict], mark: str = "") -> dict:
    return {"cells": cells, "mark": mark}

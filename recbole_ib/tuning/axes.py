"""A searched setting as an axis of a picture: its name, where its values stand, and its cells."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from recbole_ib.tuning.space import Domain
from recbole_ib.tuning.table import value_text

#: the papers' symbols, beside the names on the axes
SYMBOLS = {
    "fib_weight": r"$\alpha$", "sigma2": r"$\sigma^2$ of FIB", "gib_weight": r"$\beta$", "gib_sigma2": r"$\sigma^2$ of GIB",
    "contrastive_temperature": r"$\tau$", "knn_k": "$K$", "kl_weight": "$a_1$", "redundancy_weight": "$a_2$", "unique_weight": "$a_3$",
}  # fmt: skip
#: cells of a range along one axis of a heat map
CELLS = 5


def axis_name(key: str) -> str:
    return f"{key} ({SYMBOLS[key]})" if key in SYMBOLS else key


def categories(domain: Domain) -> list:
    """The values of a choice in the order of an axis."""
    return sorted(domain.args) if domain.numeric else list(domain.args)


def place(domain: Domain, value) -> float:
    """Where a value stands between the ends of its axis, 0 .. 1."""
    if domain.kind == "choice":
        known = categories(domain)
        return known.index(value) / max(1, len(known) - 1) if len(known) > 1 else 0.5
    low, high = domain.args[:2]
    if domain.log:
        value, low, high = np.log(value), np.log(low), np.log(high)
    return float((value - low) / (high - low))


def ticks(domain: Domain) -> list:
    """A few values to write at an axis."""
    if domain.kind == "choice":
        return categories(domain)
    low, high = domain.args[:2]
    if domain.log:
        return [low, *(float(f"{v:.1g}") for v in np.geomspace(low, high, 5)[1:-1]), high]
    return (
        [int(v) for v in np.unique(np.linspace(low, high, 5).round())]
        if domain.kind == "int"
        else list(np.linspace(low, high, 5))
    )


def cells(domain: Domain) -> tuple[list[str], Callable[[object], int]]:
    """The cells of an axis of a heat map: their labels, and the cell of a value."""
    if domain.kind == "choice" or (domain.kind == "int" and domain.args[1] - domain.args[0] < 2 * CELLS):
        known = categories(domain) if domain.kind == "choice" else domain.values()
        return [value_text(v) for v in known], known.index
    low, high = domain.args[:2]
    edges = np.geomspace(low, high, CELLS + 1) if domain.log else np.linspace(low, high, CELLS + 1)
    labels = [f"{value_text(float(a))} .. {value_text(float(b))}" for a, b in pairwise(edges)]
    return labels, lambda value: int(np.clip(np.searchsorted(edges, value, side="right") - 1, 0, CELLS - 1))

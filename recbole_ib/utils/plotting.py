"""Figures that are written to files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float | None = None, height: float | None = None) -> Figure:
    """Return an empty figure of so many inches (default: matplotlib's).

    It is independent of pyplot, which would choose a backend for the process.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=None if width is None or height is None else (width, height), layout="constrained"
    )
    FigureCanvasAgg(figure)
    return figure


COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")

MARKERS = ("o", "s", "^", "v", "D", "P", "X", "*")

"""How the entries of a comparison are drawn in all of its charts.

Colors, markers, lines, and the charts' frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from recbole_ib.experiments.results import Results
from recbole_ib.utils.plotting import COLORS, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: distinct with deuteranopia, protanopia and tritanopia too; after the last they begin again, hatched and
#: dashed
PALETTE = (*COLORS, "#882255", "#332288")
SHAPES = (*MARKERS, "<", "h")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)))
HATCHES = ("", "////", "....")


@dataclass(frozen=True)
class Style:
    """How an entry is drawn."""

    color: str
    marker: str
    line: object
    hatch: str


def styles(names: Sequence[str]) -> dict[str, Style]:
    """Return the style of every entry, by its place in the comparison."""
    turn = len(PALETTE)
    return {
        name: Style(
            PALETTE[i % turn],
            SHAPES[i % len(SHAPES)],
            DASHES[i // turn % len(DASHES)],
            HATCHES[i // turn % len(HATCHES)],
        )
        for i, name in enumerate(names)
    }


def plain(text: str) -> str:
    """Return a name as it is: matplotlib reads what stands between two dollars as mathematics."""
    return text.replace("$", r"\$")


def grouped(results: Results) -> list[tuple[str, list[str]]]:
    """Return (heading, entries) in the order of the charts.

    Entries of no group come first, under no heading.
    """
    groups = results.comparison.groups or {}
    placed = {name for names in groups.values() for name in names}
    parts = [("", [name for name in results.names if name not in placed])]
    parts += [(title, [name for name in names if name in results.runs]) for title, names in groups.items()]
    return [(title, names) for title, names in parts if names]


def tidy(axes: Axes, grid: Literal["x", "y", "both"]) -> None:
    """Draw a light grid along ``grid`` (x, y or both), small tick labels and no frame above and right."""
    axes.grid(axis=grid, color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def legend(figure: Figure, axes: Axes) -> None:
    """Draw one legend for the figure, beside its panels."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)


def log_seconds(axes: Axes) -> None:
    """Set a logarithmic axis of seconds, with numbers as people write them."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())

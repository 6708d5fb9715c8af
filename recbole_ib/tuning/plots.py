"""Pictures of a search: parallel coordinates, the score against each setting, and heat maps of two.

Validation scores only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbole_ib.config.declared import symbols
from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.tuning.space import Domain, Space
from recbole_ib.tuning.trial import Record
from recbole_ib.tuning.trials_table import value_text
from recbole_ib.utils.files import atomic_write
from recbole_ib.utils.plotting import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: the pairs of IBMRec's figures 5 and 6
USUAL_PAIRS = (("fib_weight", "sigma2"), ("gib_weight", "gib_sigma2"))

BEST_DRAWN = 5


@dataclass(frozen=True)
class Facts:
    """Facts of a search that captions name."""

    model: str
    dataset: str
    metric: str
    bigger: bool
    seed: int
    search: str
    trials: int

    def caption(self, more: str = "") -> str:
        """Return the caption of a picture."""
        return (
            f"Data: {self.dataset}; model: {self.model}; {self.trials} trials ({self.search}), seed "
            f"{self.seed}; {self.metric} on the validation set, best epoch of each trial.{more}"
        )


def pairs_of(space: Space, asked: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs to draw heat maps of: those asked for as ``a,b``, and the usual ones of the space.

    Raises:
        ConfigurationError: not two different keys of the space.
    """
    pairs = [pair for pair in USUAL_PAIRS if all(key in space for key in pair)]
    for text in asked:
        keys = tuple(key.strip() for key in text.split(","))
        if len(keys) != 2 or keys[0] == keys[1]:
            raise ConfigurationError(
                f"a heat map is of two different settings, such as fib_weight,sigma2; got {text!r}"
            )
        for key in keys:
            if key not in space:
                raise ConfigurationError(
                    f"heat map {text}: {key!r} is not searched.{nearest(key, space)} Searched: "
                    f"{', '.join(space)}"
                )
        if keys not in pairs:
            pairs.append(keys)
    return pairs


def write_plots(
    records: Sequence[Record], space: Space, facts: Facts, folder: Path, asked: Sequence[str] = ()
) -> list[Path]:
    """Draw all pictures into ``folder``; their paths. Trials without a score are left out."""
    scored = [r for r in records if r.best_score is not None and r.status != "failed"]
    drawn: dict[str, Callable[[Figure], None]] = {
        "parallel.png": partial(draw_parallel, records=scored, space=space, facts=facts),
        "slices.png": partial(draw_slices, records=scored, space=space, facts=facts),
    }
    for a, b in pairs_of(space, asked):
        drawn[f"heatmap-{a}-{b}.png"] = partial(
            draw_heatmap, records=scored, across=space[a], up=space[b], facts=facts
        )
    return [_save(folder / name, draw) for name, draw in drawn.items()]


def _save(path: Path, draw: Callable) -> Path:
    figure = new_figure()
    draw(figure)
    with atomic_write(path) as scratch:
        figure.savefig(scratch, dpi=150)
    return path


# -- pictures ------------------------------------------------------------------------------------------------


def draw_parallel(figure: Figure, records: Sequence[Record], space: Space, facts: Facts) -> None:
    """One line a trial over all settings to its score; the best ones thick."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    names, domains = list(space), list(space.values())
    figure.set_size_inches(max(6.0, 1.5 * (len(names) + 1)), 5.0)
    axes = figure.subplots()
    scores = np.array([r.best_score for r in records], dtype=float)
    low, high = (scores.min(), scores.max()) if len(scores) else (0.0, 1.0)
    scale = Normalize(low, high if high > low else low + 1e-9)
    order = np.argsort(scores if facts.bigger else -scores)
    for rank, i in enumerate(order):
        record, best = records[i], rank >= len(order) - BEST_DRAWN
        heights = [place(d, record.values[d.key]) for d in domains] + [
            float(scale(record.best_score)) if high > low else 0.5
        ]
        axes.plot(
            range(len(heights)),
            heights,
            color=colormaps["viridis"](scale(record.best_score)),
            linewidth=2.2 if best else 0.8,
            alpha=1.0 if best else 0.45,
            linestyle="-" if record.status == "finished" else (0, (3, 2)),
            zorder=rank + 2,
        )
    for i, domain in enumerate(domains):
        axes.axvline(i, color="0.6", linewidth=1)
        for value in ticks(domain):
            axes.annotate(
                value_text(value),
                (i, place(domain, value)),
                xytext=(3, 0),
                textcoords="offset points",
                fontsize="x-small",
                va="center",
                zorder=1000,
                bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
            )
    axes.axvline(len(domains), color="0.6", linewidth=1)
    axes.set_xticks(
        range(len(domains) + 1),
        [*map(axis_name, names), f"valid {facts.metric}"],
        rotation=20,
        ha="right",
        fontsize="small",
    )
    axes.set_yticks([])
    axes.set_xlim(-0.2, len(domains) + 0.2)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    figure.colorbar(
        ScalarMappable(scale, "viridis"), ax=axes, label=f"valid {facts.metric} (fraction)", pad=0.02
    )
    more = f"\nThick: the best {min(BEST_DRAWN, len(records))}; dashed: stopped early by the scheduler."
    figure.supxlabel(facts.caption(more), fontsize="x-small")


def draw_slices(figure: Figure, records: Sequence[Record], space: Space, facts: Facts) -> None:
    """The score against each setting, a panel each."""
    count = len(space)
    columns = min(4, count)
    rows = -(-count // columns)
    figure.set_size_inches(3.2 * columns + 0.6, 2.7 * rows + 0.9)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).flatten()
    scored = [
        (r.best_score if facts.bigger else -r.best_score, r) for r in records if r.best_score is not None
    ]
    best = max(scored, key=lambda pair: pair[0])[1] if scored else None
    for axes, (key, domain) in zip(grid, space.items(), strict=False):
        for filled in (True, False):
            chosen = [r for r in records if (r.status == "finished") == filled]
            xs = [
                categories(domain).index(r.values[key]) if domain.kind == "choice" else r.values[key]
                for r in chosen
            ]
            style = {"color": "#0072b2"} if filled else {"facecolors": "none", "edgecolors": "#0072b2"}
            axes.scatter(xs, [r.best_score for r in chosen], s=22, linewidths=1, **style)
        if best is not None:
            x = categories(domain).index(best.values[key]) if domain.kind == "choice" else best.values[key]
            axes.scatter(
                [x], [best.best_score], s=90, facecolors="none", edgecolors="#d55e00", linewidths=1.6
            )
        if domain.kind == "choice":
            known = categories(domain)
            axes.set_xticks(range(len(known)), [value_text(v) for v in known], fontsize="x-small")
            axes.set_xlim(-0.5, len(known) - 0.5)
        elif domain.log:
            axes.set_xscale("log")
            axes.set_xticks(ticks(domain), [value_text(v) for v in ticks(domain)], fontsize="x-small")
            axes.set_xticks([], minor=True)
        else:
            axes.tick_params(axis="x", labelsize="x-small")
        axes.set_xlabel(axis_name(key), fontsize="small")
        axes.grid(alpha=0.3)
    for axes in grid[count:]:
        axes.set_visible(False)
    for axes in grid[::columns]:
        axes.set_ylabel(f"valid {facts.metric} (fraction)", fontsize="small")
    more = (
        "\nFilled: trained to its end; hollow: stopped early by the scheduler, so its score is what it had "
        "by then; ring: the best."
    )
    figure.supxlabel(facts.caption(more), fontsize="x-small")


def draw_heatmap(figure: Figure, records: Sequence[Record], across: Domain, up: Domain, facts: Facts) -> None:
    """Mean and best score of the trials in every cell of two settings, with their number.

    Cells without any are hatched.
    """
    from matplotlib.patches import Rectangle

    (x_labels, x_of), (y_labels, y_of) = cells(across), cells(up)
    scores_of: dict[tuple[int, int], list[float]] = {}
    for record in records:
        if record.best_score is None:
            continue
        scores_of.setdefault((y_of(record.values[up.key]), x_of(record.values[across.key])), []).append(
            record.best_score
        )
    figure.set_size_inches(1.05 * len(x_labels) * 2 + 2.6, 0.6 * len(y_labels) + 2.2)
    scores = [s for values in scores_of.values() for s in values]
    low, high = (min(scores), max(scores)) if scores else (0.0, 1.0)
    panels = figure.subplots(1, 2, sharey=True)
    picks: tuple[tuple[str, Callable[[list[float]], Any]], ...] = (
        ("mean", np.mean),
        ("best", max if facts.bigger else min),
    )
    for axes, (title, pick) in zip(panels, picks, strict=True):
        table = np.full((len(y_labels), len(x_labels)), np.nan)
        for cell, values in scores_of.items():
            table[cell] = pick(values)
        image = axes.imshow(
            table,
            origin="lower",
            aspect="auto",
            cmap="viridis",
            vmin=low,
            vmax=high if high > low else low + 1e-9,
        )
        for y in range(len(y_labels)):
            for x in range(len(x_labels)):
                if (y, x) not in scores_of:
                    axes.add_patch(
                        Rectangle(
                            (x - 0.5, y - 0.5), 1, 1, fill=False, hatch="///", edgecolor="0.7", linewidth=0
                        )
                    )
                    continue
                dark = (table[y, x] - low) / (high - low or 1) < 0.6
                axes.text(
                    x,
                    y,
                    f"{table[y, x]:.4f}\nn = {len(scores_of[y, x])}",
                    ha="center",
                    va="center",
                    fontsize="x-small",
                    color="white" if dark else "black",
                )
        axes.set_xticks(range(len(x_labels)), x_labels, rotation=30, ha="right", fontsize="x-small")
        axes.set_yticks(range(len(y_labels)), y_labels, fontsize="x-small")
        axes.set_xlabel(axis_name(across.key), fontsize="small")
        axes.set_title(f"{title} of the cell's trials", fontsize="small")
    panels[0].set_ylabel(axis_name(up.key), fontsize="small")
    figure.colorbar(image, ax=list(panels), label=f"valid {facts.metric} (fraction)")
    more = (
        "\nn: trials in the cell, stopped ones with the score they had by then; hatched: none. The other "
        "settings differ between trials."
    )
    figure.supxlabel(facts.caption(more), fontsize="x-small")


#: cells of a range along one axis of a heat map
CELLS = 5


def axis_name(key: str) -> str:
    """Return a setting's name with the paper's symbol, where its declaration has one."""
    symbol = symbols().get(key)
    return f"{key} ({symbol})" if symbol else key


def categories(domain: Domain) -> list:
    """The values of a choice in the order of an axis."""
    return sorted(domain.args) if domain.numeric else list(domain.args)


def place(domain: Domain, value: Any) -> float:
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

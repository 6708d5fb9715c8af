"""The charts of ``recbole-ib plot-information``.

The information plane, and every measure of :mod:`recbole_ib.training.diagnostics` over the epochs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_ib.errors import ConfigurationError
from recbole_ib.experiments.metrics import smaller_is_better
from recbole_ib.model.bottleneck import BOTTLENECKS
from recbole_ib.training.diagnostics import BEFORE_TRAINING, read_diagnostics
from recbole_ib.utils import plotting
from recbole_ib.utils.plotting import COLORS, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIX = "-diagnostics"

#: family -> (title, label of the y axis), beside the ``labels`` of the bottlenecks; what none of them names
#: is drawn under its own name, without a unit
FAMILIES: dict[str, tuple[str, str]] = {
    "nhsic_features": ("Kept of the input: HSIC(Z, M), normalized", "nHSIC, 0 to 1 (dashed: independence)"),
    "nhsic_ids": (
        "Agreement with behavior: HSIC(Z, ids), normalized",
        "nHSIC, 0 to 1 (dashed: independence)",
    ),
    "hsic_features": ("HSIC(Z, M)", "HSIC"),
    "hsic_ids": ("HSIC(Z, ids)", "HSIC"),
    "information": ("Information between modalities", "nats (Gaussian estimate)"),
    "share": ("Share in the score", "share of the score's variance"),
    "gradient": ("Gradients of the loss terms", "norm, over that of bpr"),
    "gradient_norm": ("Gradient of bpr", "norm"),
    "valid": ("Validation", "metric"),
    "loss": ("Loss terms", "sum over the batches"),
}

INDEPENDENT = "_independent"

LINES = ("-", ":", "-.", (0, (7, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 3)))


@dataclass(frozen=True)
class Run:
    """One file: ``series`` maps a name to its ``{epoch: value}``, finite values alone, epochs ascending."""

    label: str
    path: Path
    series: dict[str, dict[int, float]]

    def mean(self, family: str) -> dict[int, float]:
        """Return the mean over the latents of a family, at every epoch that has all of them."""
        latents = [values for name, values in self.series.items() if name.startswith(f"{family}/")]
        epochs = set(latents[0]).intersection(*latents[1:]) if latents else ()
        return {epoch: sum(values[epoch] for values in latents) / len(latents) for epoch in sorted(epochs)}

    def plane(self) -> dict[int, tuple[float, float]]:
        """Return epoch -> (mean nHSIC with the features, mean nHSIC with the ids)."""
        x, y = self.mean("nhsic_features"), self.mean("nhsic_ids")
        return {epoch: (x[epoch], y[epoch]) for epoch in x if epoch in y}

    def best_epoch(self) -> int | None:
        """Return the first epoch with the best validation metric; ``None`` in a run without validation."""
        for name, values in self.series.items():
            if name.startswith("valid/"):
                pick: Callable = min if smaller_is_better(name.removeprefix("valid/")) else max
                return pick(values, key=values.__getitem__)
        return None


def read_runs(paths: Iterable[str | Path]) -> list[Run]:
    """Return the runs of diagnostics files, each with a label of its own.

    Raises:
        ConfigurationError: a file is missing, of another kind, or without a measurement.
    """
    files = [Path(p) for p in dict.fromkeys(map(str, paths))]
    all_series = []
    for path in files:
        series: dict[str, dict[int, float]] = {}
        for record in sorted(read_diagnostics(path), key=lambda r: r.epoch):
            if math.isfinite(record.value):
                series.setdefault(record.name, {})[record.epoch] = record.value
        if not series:
            raise ConfigurationError(
                f"{path} holds no measurement: its run has measured nothing yet, or its model has nothing to "
                "measure"
            )
        all_series.append(series)
    return [
        Run(label, path, series) for label, path, series in zip(labels(files), files, all_series, strict=True)
    ]


def labels(paths: Sequence[Path]) -> list[str]:
    """Return the files' names without what all of them end in; with their folders where two are alike."""
    short = [p.stem.removesuffix(SUFFIX) for p in paths]
    return (
        short
        if len(set(short)) == len(short)
        else [str(p.parent / s) for p, s in zip(paths, short, strict=True)]
    )


def family_of(name: str) -> str:
    """Return the panel that a name is drawn in."""
    first, _, rest = name.partition("/")
    return (
        "gate/entropy"
        if first == "gate" and rest.partition("/")[0] == "entropy"
        else first.removesuffix(INDEPENDENT)
    )


def family_labels() -> dict[str, tuple[str, str]]:
    """Return title and label of the y axis of every family, in the order of the panels.

    A bottleneck's own come above validation and loss.
    """
    measured = {
        family: label for bottleneck in BOTTLENECKS.values() for family, label in bottleneck.labels.items()
    }
    last = {family: FAMILIES[family] for family in ("valid", "loss")}
    return {**{family: label for family, label in FAMILIES.items() if family not in last}, **measured, **last}


def panels(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return family -> the names of its series in any of the runs, in the order of :func:`family_labels`."""
    families: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for run in runs for name in run.series):
        families.setdefault(family_of(name), []).append(name)
    order = list(family_labels())
    return dict(
        sorted(families.items(), key=lambda entry: order.index(entry[0]) if entry[0] in order else len(order))
    )


# -- figures -------------------------------------------------------------------------------------------------


def new_figure(width: float, height: float, title: str, runs: Sequence[Run]) -> Figure:
    """Return a figure that draws into memory, with a title and the files' names below.

    Raises:
        ConfigurationError: matplotlib is not installed.
    """
    try:
        figure = plotting.new_figure(width, height)
    except ImportError as error:
        raise ConfigurationError(
            f"plot-information draws with matplotlib, which cannot be imported ({error}). Run: pip install "
            "matplotlib"
        ) from None
    figure.suptitle(title)
    # matplotlib takes a $ for the start of a formula
    names = "\n".join(run.path.name for run in runs).replace("$", r"\$")
    figure.supxlabel(names, fontsize=7, color="0.35")
    return figure


def draw_plane(runs: Sequence[Run], path: Path) -> bool:
    """Draw the information plane, one line per run from its first epoch on.

    After Shwartz-Ziv & Tishby 2017, with HSIC for information.

    Returns:
        False, and no file, where no run has a point: its model has no latents or no id embeddings.
    """
    figure = new_figure(7.5, 6.0 + 0.15 * len(runs), "Information plane", runs)
    axes, drawn = figure.add_subplot(), False
    for color, run in zip(_cycle(COLORS), runs, strict=False):
        points, best = run.plane(), run.best_epoch()
        if not points:
            continue
        drawn = True
        label = run.label.replace("$", r"\$")
        axes.plot(
            *zip(*points.values(), strict=True),
            "-",
            marker=".",
            markersize=4,
            linewidth=1,
            color=color,
            label=label,
        )
        first = min(points)
        name = "before training" if first == BEFORE_TRAINING else f"epoch {first}"
        axes.plot(
            *points[first],
            "o",
            markersize=9,
            markerfacecolor="white",
            color=color,
            label=f"{name}",
            linestyle="none",
        )
        if best in points:
            axes.plot(
                *points[best],
                "*",
                markersize=14,
                color=color,
                label=f"best validation, epoch {best}",
                linestyle="none",
            )
        levels = run.mean(f"nhsic_features{INDEPENDENT}"), run.mean(f"nhsic_ids{INDEPENDENT}")
        if all(levels):
            last = max(points)
            axes.axvline(levels[0].get(last, 0.0), color=color, linewidth=0.6, linestyle=":")
            axes.axhline(levels[1].get(last, 0.0), color=color, linewidth=0.6, linestyle=":")
    if not drawn:
        return False
    axes.set_xlabel("kept of the input: nHSIC(Z, M), mean over the latents (0 to 1)")
    axes.set_ylabel("agreement with behavior: nHSIC(Z, ids), mean over the latents (0 to 1)")
    axes.set_title("dotted: the level of independent rows at the last epoch", fontsize=8, color="0.35")
    axes.grid(linewidth=0.3)
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=150)
    return True


def draw_curves(runs: Sequence[Run], path: Path) -> None:
    """Draw every family over the epochs, a panel each.

    A color stands for a run, or for a series where there is one run.
    """
    from matplotlib.lines import Line2D

    families = panels(runs)
    columns = min(3, len(families))
    rows = math.ceil(len(families) / columns)
    # several runs have a legend of their own beside the panels
    width = 5.2 * columns + (3.0 if len(runs) > 1 else 0.0)
    figure = new_figure(width, 3.6 * rows + 0.8 + 0.12 * len(runs), "Information during training", runs)
    for place, (family, names) in enumerate(families.items(), start=1):
        axes = figure.add_subplot(rows, columns, place)
        _draw_family(axes, family, names, runs)
    if len(runs) > 1:
        handles = [
            Line2D([], [], color=c, label=r.label.replace("$", r"\$"))
            for c, r in zip(_cycle(COLORS), runs, strict=False)
        ]
        figure.legend(handles=handles, loc="outside right upper", fontsize=8)
    figure.savefig(path, dpi=130)


def _draw_family(axes: Axes, family: str, names: Sequence[str], runs: Sequence[Run]) -> None:
    from matplotlib.lines import Line2D

    title, unit = family_labels().get(family, (family, "value"))
    shown, several = [n for n in names if not n.partition("/")[0].endswith(INDEPENDENT)], len(runs) > 1
    if family == "valid":
        unit = ", ".join(n.removeprefix("valid/") for n in shown)
    handles = []
    for s, name in enumerate(shown):
        first, _, rest = name.partition("/")
        style: dict[str, Any] = {
            "linestyle": LINES[s % len(LINES)] if several else "-",
            "marker": MARKERS[s % len(MARKERS)],
            "markersize": 3,
        }
        for r, run in enumerate(runs):
            color = COLORS[(r if several else s) % len(COLORS)]
            if name in run.series:
                axes.plot(*zip(*run.series[name].items(), strict=True), color=color, linewidth=1.2, **style)
            level = run.series.get(f"{first}{INDEPENDENT}/{rest}")
            if level:
                axes.plot(*zip(*level.items(), strict=True), linestyle="--", color=color, linewidth=0.8)
        label = (name.removeprefix(f"{family}/") or family).replace("$", r"\$")
        handles.append(
            Line2D([], [], color="0.3" if several else COLORS[s % len(COLORS)], label=label, **style)
        )
    for r, run in enumerate(runs):
        best = run.best_epoch()
        if best is not None:
            axes.axvline(
                best,
                color=COLORS[r % len(COLORS)] if several else "0.6",
                linewidth=0.6,
                linestyle=":",
            )
    if family in ("loss", "gradient"):
        # terms differ by orders of magnitude, and a critic's may be negative
        axes.set_yscale("symlog", linthresh=1e-3)
        if all(v >= 0 for run in runs for n in shown for v in run.series.get(n, {}).values()):
            axes.set_ylim(bottom=0)
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("epochs (-1: before training; dotted: best validation)", fontsize=8)
    axes.set_ylabel(unit, fontsize=8)
    axes.tick_params(labelsize=7)
    locator: Any = axes.xaxis.get_major_locator()
    locator.set_params(integer=True)
    axes.grid(linewidth=0.3)
    if handles and family != "valid":
        axes.legend(handles=handles, fontsize=6)


def _cycle(values: Sequence[str]) -> Iterator[str]:
    while True:
        yield from values


# -- command -------------------------------------------------------------------------------------------------


def plot_information(files: Sequence[str | Path], out: str | Path | None = None) -> list[Path]:
    """Draw the plane and the curves of one or several runs.

    Args:
        files: the ``...-diagnostics.csv`` of the runs.
        out: the folder to write to; that of the first file if not given.

    Returns:
        The PNG files; without the plane where no run has latents and id embeddings.

    Raises:
        ConfigurationError: a file is missing, of another kind or empty; matplotlib is missing; ``out`` cannot
            be a folder.
    """
    runs = read_runs(files)
    out = Path(out) if out is not None else runs[0].path.parent
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write to {out}: {error.strerror}; give another folder with --out=FOLDER"
        ) from None
    stem = runs[0].path.stem if len(runs) == 1 else "information"
    plane, curves = out / f"{stem}-plane.png", out / f"{stem}-curves.png"
    written = [plane] if draw_plane(runs, plane) else []
    draw_curves(runs, curves)
    return [*written, curves]

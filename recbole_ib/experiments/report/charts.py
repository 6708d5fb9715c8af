"""The charts of a comparison. An entry has one color, marker and line style in all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recbole_ib.experiments.metrics import metric_title
from recbole_ib.experiments.report.style import grouped, legend, log_seconds, plain, styles, tidy
from recbole_ib.experiments.results import Results
from recbole_ib.experiments.statistics.pairwise import pair_row, significant
from recbole_ib.experiments.statistics.slices import ITEMS, QUARTERS
from recbole_ib.utils.plotting import new_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def draw_bars(results: Results) -> Figure:
    """Draw the metric of every entry with one standard deviation over the seeds.

    The left panel has bars from zero, the right one is closer, with a dot per seed.
    """
    metric, style_of = results.comparison.metric, styles(results.names)
    places, headings, height = _places(results)
    figure = new_figure(9.6, 1.0 + 0.34 * height)
    whole, close = figure.subplots(1, 2, sharey=True)
    for name, y in places.items():
        values, style = results.values(name, metric), style_of[name]
        sd = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        whole.barh(
            y, values.mean(), 0.66, color=style.color, hatch=style.hatch, edgecolor="white", linewidth=0
        )
        close.errorbar(
            values.mean(),
            y,
            xerr=sd or None,
            fmt=style.marker,
            color=style.color,
            markersize=8,
            capsize=4,
            linewidth=1.6,
            markerfacecolor="white" if style.hatch else style.color,
        )
        if sd:
            # light under dark, so that the line shows on every color
            for color, width in (("white", 3.2), ("0.15", 1.2)):
                whole.errorbar(
                    values.mean(),
                    y,
                    xerr=sd,
                    color=color,
                    capsize=width + 1.4,
                    linewidth=width,
                    capthick=width,
                )
            close.plot(
                values,
                np.full(len(values), y + 0.27),
                "|",
                markersize=5,
                color=style.color,
                markeredgewidth=1.2,
            )
        whole.annotate(
            f"{values.mean():.4f}",
            (values.mean() + sd, y),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    for title, y in headings.items():
        whole.annotate(
            plain(title), (0, y), (3, 0), textcoords="offset points", fontsize=8, va="center", weight="bold"
        )
    for axes in (whole, close):
        if results.baseline is not None:
            axes.axvline(
                results.mean(results.baseline, metric),
                color="0.35",
                linewidth=0.8,
                linestyle=(0, (4, 3)),
                zorder=0.5,
            )
        tidy(axes, "x")
    labels = [plain(name) + (" (baseline)" if name == results.baseline else "") for name in places]
    whole.set_yticks(list(places.values()), labels, fontsize=9)
    whole.set_ylim(height - 0.4, -0.6)
    whole.margins(x=0.16)
    close.margins(x=0.08)
    close.tick_params(axis="y", length=0)
    whole.set_xlabel(f"test {metric_title(metric)} (mean over users)", fontsize=9)
    close.set_xlabel("the same, closer: the axis does not begin at 0", fontsize=9)
    return figure


def _places(results: Results) -> tuple[dict[str, float], dict[str, float], float]:
    """Return the heights of the entries and of the groups' headings, and the height of all."""
    places: dict[str, float] = {}
    headings: dict[str, float] = {}
    height = 0.0
    for title, names in grouped(results):
        if title:
            headings[title] = height
            height += 0.9
        for name in names:
            places[name] = height
            height += 1.0
    return places, headings, height


def draw_curves(results: Results, curves: pd.DataFrame) -> Figure | None:
    """Draw the validation score by epoch and by seconds.

    A thin line is a run, a thick one the mean of the runs as far as all of them go.
    """
    if curves.empty:
        return None
    figure, style_of = new_figure(9.6, 3.9), styles(results.names)
    panels = figure.subplots(1, 2, sharey=True)
    for name in results.names:
        points, style = curves[curves["entry"] == name], style_of[name]
        if points.empty:
            continue
        runs = [run for _, run in points.groupby("seed")]
        for run in runs:
            for axes, column in zip(panels, ("epoch", "seconds"), strict=True):
                axes.plot(run[column], run["score"], color=style.color, linewidth=0.5, alpha=0.35)
        shared = set.intersection(*(set(run["epoch"]) for run in runs))
        mean = (
            points[points["epoch"].isin(shared)].groupby("epoch")[["score", "seconds"]].mean().reset_index()
        )
        drawn = {
            "color": style.color,
            "linestyle": style.line,
            "marker": style.marker,
            "markersize": 4,
            "linewidth": 1.6,
        }
        for axes, column in zip(panels, ("epoch", "seconds"), strict=True):
            axes.plot(mean[column], mean["score"], label=plain(name), markevery=(0.1, 0.2), **drawn)
    scores = results.all_runs[0].manifest["result"].get("valid_metric") or "score"
    panels[0].set_ylabel(f"validation {metric_title(scores.lower())}", fontsize=9)
    panels[0].set_xlabel("epoch", fontsize=9)
    panels[0].xaxis.get_major_locator().set_params(integer=True)
    panels[1].set_xlabel("seconds since training began", fontsize=9)
    if (curves["seconds"] > 0).all() and curves["seconds"].max() > 20 * curves.groupby(["entry", "seed"])[
        "seconds"
    ].max().min():
        log_seconds(panels[1])
    for axes in panels:
        tidy(axes, "both")
    legend(figure, panels[0])
    return figure


def draw_slices(results: Results, slices: pd.DataFrame) -> Figure | None:
    """Draw the metric on items of each kind, and for users of each quarter of activity.

    Bars are of one standard deviation over the seeds.
    """
    metric = results.comparison.metric
    kinds = []
    items = slices[(slices["of"] == "items") & (slices["seeds"] > 0)]
    users = slices[(slices["of"] == "users") & (slices["metric"] == metric) & (slices["seeds"] > 0)]
    if len(items):
        kinds.append(
            (items, [part for part in ITEMS if part in set(items["slice"])], items["metric"].iloc[0], "items")
        )
    if len(users):
        kinds.append((users, [part for part in QUARTERS if part in set(users["slice"])], metric, "users"))
    if not kinds:
        return None
    figure, style_of = new_figure(9.6, 3.9), styles(results.names)
    panels = np.atleast_1d(figure.subplots(1, len(kinds)))
    for axes, (table, parts, of_metric, what) in zip(panels, kinds, strict=True):
        for i, name in enumerate(results.names):
            points, style = table[table["entry"] == name].set_index("slice").reindex(parts), style_of[name]
            x = np.arange(len(parts)) + (i - (len(results.names) - 1) / 2) * min(
                0.09, 0.8 / len(results.names)
            )
            axes.errorbar(
                x,
                points["mean"],
                yerr=points["sd"].fillna(0),
                fmt=style.marker,
                color=style.color,
                markersize=5,
                capsize=2,
                linewidth=1,
                markerfacecolor="white" if style.hatch else style.color,
                label=plain(name),
            )
        axes.set_xticks(
            range(len(parts)),
            [part.replace(" ", "\n", 1) if what == "users" else part for part in parts],
            fontsize=8,
        )
        axes.set_xlim(-0.5, len(parts) - 0.5)
        # dots need no zero; where values are as far apart as head and cold items, it is the better frame
        if table["mean"].min() < 0.5 * table["mean"].max():
            axes.set_ylim(bottom=0)
        axes.set_xlabel(
            "items by training interactions" if what == "items" else "users by training interactions",
            fontsize=9,
        )
        axes.set_ylabel(f"test {metric_title(of_metric)}", fontsize=9)
        tidy(axes, "y")
        for edge in range(1, len(parts)):
            axes.axvline(edge - 0.5, color="0.85", linewidth=0.8)
    legend(figure, panels[0])
    return figure


def draw_cost(results: Results, cost: pd.DataFrame) -> Figure:
    """Draw seconds of training against the metric, bars of one standard deviation over the seeds."""
    metric, style_of = results.comparison.metric, styles(results.names)
    figure = new_figure(7.6, 3.9)
    axes = figure.subplots()
    for row in cost.to_dict("records"):
        values, style = results.values(row["entry"], metric), style_of[row["entry"]]
        axes.errorbar(
            row["seconds_train"],
            values.mean(),
            color=style.color,
            fmt=style.marker,
            markersize=8,
            capsize=2,
            linewidth=1,
            xerr=np.nan_to_num(row["seconds_train_sd"]),
            yerr=values.std(ddof=1) if len(values) > 1 else 0,
            markerfacecolor="white" if style.hatch else style.color,
            label=plain(row["entry"]),
        )
    seconds = cost["seconds_train"]
    if seconds.min() > 0 and seconds.max() / seconds.min() > 10:
        log_seconds(axes)
    axes.set_xlabel("seconds of training (to the end of early stopping, validation included)", fontsize=9)
    axes.set_ylabel(f"test {metric_title(metric)}", fontsize=9)
    tidy(axes, "both")
    legend(figure, axes)
    return figure


def draw_pairs(results: Results, tests: pd.DataFrame) -> Figure | None:
    """Draw Cohen's d_z of the row's model against the column's.

    A star stands where both corrected tests find a difference.
    """
    from matplotlib.colors import TwoSlopeNorm

    metric = results.comparison.metric
    names = results.better_first(metric)
    if len(names) < 2 or tests.empty or metric not in set(tests["metric"]):
        return None
    n = len(names)
    effect, stars = np.full((n, n), np.nan), np.zeros((n, n), dtype=bool)
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            if a != b:
                row = pair_row(tests, metric, a, b)
                effect[i, j], stars[i, j] = row["cohen_d_z"], significant(row)
    limit = max(0.2, float(np.nanmax(np.abs(effect)))) if not np.all(np.isnan(effect)) else 0.2
    figure = new_figure(2.6 + 0.56 * n, 1.7 + 0.44 * n)
    axes = figure.subplots()
    image = axes.imshow(effect, cmap="PuOr_r", norm=TwoSlopeNorm(0, -limit, limit), aspect="auto")
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            text = (
                "-"
                if np.isnan(effect[i, j])
                else f"{effect[i, j] + 0.0:+.2f}".replace("-0.00", "0.00").replace("+0.00", "0.00")
                + "*" * bool(stars[i, j])
            )
            strong = not np.isnan(effect[i, j]) and abs(effect[i, j]) > 0.65 * limit
            weight = "bold" if stars[i, j] else "normal"
            axes.text(
                j,
                i,
                text,
                ha="center",
                va="center",
                fontsize=7.5,
                color="white" if strong else "0.1",
                weight=weight,
            )
    axes.set_xticks(
        range(n), [plain(name) for name in names], rotation=40, ha="right", rotation_mode="anchor", fontsize=8
    )
    axes.set_yticks(range(n), [plain(name) for name in names], fontsize=8)
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, shrink=0.9)
    bar.set_label(f"$d_z$ of the row over the column, {metric_title(metric)}", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    for side in axes.spines.values():
        side.set_visible(False)
    return figure

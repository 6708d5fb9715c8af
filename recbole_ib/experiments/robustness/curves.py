"""The curves of a comparison: the test metric against the level of noise."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from recbole_ib.errors import ConfigurationError
from recbole_ib.experiments.metrics import metric_title
from recbole_ib.experiments.model_spec import ModelSpec
from recbole_ib.experiments.robustness.report import AXES, Facts, cells, metric_of
from recbole_ib.utils.plotting import new_figure


def need_matplotlib() -> None:
    """Raise ConfigurationError where the curves cannot be drawn, before anything is trained for them."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigurationError(
            "the curves need matplotlib, which is not installed: `pip install matplotlib`, or --curves=false for tables alone"
        )


def draw(rows: Sequence[dict], model_specs: Sequence[ModelSpec], facts: Facts, path: str | Path) -> None:
    """The test metric against the level, one line a model, bars of one standard deviation over the seeds."""
    need_matplotlib()
    metric, grid = metric_of(rows), cells(rows, model_specs, facts)
    figure = new_figure(7.5, 5.2)
    axes = figure.subplots()
    for i, model_spec in enumerate(model_specs):
        levels = [level for level in facts.levels if grid[model_spec.text, level] is not None]
        values = [grid[model_spec.text, level].values(f"test_{metric}") for level in levels]
        if levels:
            spread = [v.std(ddof=1) if len(v) > 1 else 0.0 for v in values]
            means = [v.mean() for v in values]
            axes.errorbar(
                levels, means, yerr=spread, label=model_spec.text, marker="os^Dv<>ph*"[i % 10], capsize=3, linewidth=1.5
            )
    axes.set_xlabel(AXES[facts.kind])
    axes.set_ylabel(f"test {metric_title(metric)} (fraction, mean over users)")
    axes.grid(alpha=0.3)
    if axes.has_data():
        axes.legend(fontsize="small")
    features = "two planted modalities" if facts.spec else "features of the data set"
    if facts.spec:
        features += f" of {facts.spec['width']} columns each"
    bars = "bars: ± 1 standard deviation over the seeds" if len(facts.seeds) > 1 else "one seed, no spread"
    figure.supxlabel(
        f"Data: {facts.data()}; {features}; noise: {facts.kind}; seeds: {', '.join(map(str, facts.seeds))}; {bars}.\n"
        "Settings of each point chosen on validation.",
        fontsize="x-small",
    )
    figure.savefig(path, dpi=150)

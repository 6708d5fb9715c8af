"""runs.csv, robustness.md and recall.png, from the rows of the runs of a grid."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from recbole_ib.experiments.metrics import metric_title
from recbole_ib.experiments.model_spec import ModelSpec, candidate_text
from recbole_ib.experiments.robustness.linear_probe import PARTS
from recbole_ib.experiments.statistics.paired_tests import paired
from recbole_ib.utils.files import atomic_write, write_text
from recbole_ib.utils.plotting import new_figure

#: what the levels of each kind of noise measure, for the axis of the curves
AXES = {
    "planted": "irrelevant share of the feature columns (fraction)",
    "features": "feature columns moved to other items (fraction)",
    "rows": "items with another item's features (fraction)",
    "modality": "width of the noise modality / width of the others (ratio)",
    "edges": "rewired edges of the item graphs (fraction)",
}

PREFERRED = "recall@20"

#: the columns that every row has, first; metrics and probe columns follow
HEAD = (
    "model", "candidate", "noise", "level", "seed", "dataset", "error", "best_epoch", "best_valid_score",
    "valid_score_bigger", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What a report says of where its numbers come from."""

    command: str
    kind: str
    dataset: str | None
    spec: dict | None
    levels: Sequence[float]
    seeds: Sequence[int]
    warnings: Sequence[str] = field(default_factory=list)

    def data(self) -> str:
        """Return the name of the data."""
        return "planted data" if self.dataset is None else self.dataset


@dataclass(frozen=True)
class Cell:
    """A model at a level.

    Its chosen candidate and that one's rows, one per seed in the order of the seeds.
    """

    candidate: str
    rows: list[dict]
    tried: int

    def values(self, column: str) -> np.ndarray:
        """Return a column, one value per seed; NaN where a row has none."""
        return np.array([row.get(column, np.nan) for row in self.rows], dtype=float)


def metric_of(rows: Sequence[dict]) -> str:
    """Return Recall@20, or the first test metric where that is not computed; in RecBole's spelling."""
    metrics = [key.removeprefix("test_") for row in rows for key in row if key.startswith("test_")]
    return PREFERRED if PREFERRED in metrics or not metrics else metrics[0]


def choose(rows: Sequence[dict], model_spec: ModelSpec, level: float, seeds: Sequence[int]) -> Cell | None:
    """Return the candidate with the best mean VALIDATION score over all seeds.

    Candidates that failed for a seed are left out.

    Test scores play no part.

    Args:
        rows: of runs.csv.
        model_spec: whose candidates; among equal ones the first written is taken.
        level: of the noise.
        seeds: that each candidate must have a finished run of.

    Returns:
        The cell, or ``None`` where no candidate has all seeds.
    """
    best, best_score = None, -np.inf
    finished = [
        row
        for row in rows
        if row["model"] == model_spec.text and row["level"] == level and not row.get("error")
    ]
    for candidate in map(candidate_text, model_spec.candidates):
        by_seed = {row["seed"]: row for row in finished if row["candidate"] == candidate}
        if any(seed not in by_seed for seed in seeds):
            continue
        chosen = [by_seed[seed] for seed in seeds]
        sign = 1.0 if chosen[0]["valid_score_bigger"] else -1.0
        score = sign * float(np.mean([row["best_valid_score"] for row in chosen]))
        if score > best_score:
            best, best_score = Cell(candidate, chosen, len(model_spec.candidates)), score
    return best


def cells(
    rows: Sequence[dict], model_specs: Sequence[ModelSpec], facts: Facts
) -> dict[tuple[str, float], Cell | None]:
    """Return the chosen cell of every model and level."""
    return {
        (c.text, level): choose(rows, c, level, facts.seeds) for c in model_specs for level in facts.levels
    }


def relative_change(model: np.ndarray, backbone: np.ndarray) -> tuple[float, float]:
    """Return the mean of the paired relative changes and the two-sided p of the paired t-test.

    Both are NaN where undefined.

    Args:
        model: its metric, ``[n_seeds]``.
        backbone: its backbone's, ``[n_seeds]``, in the same order of seeds.
    """
    if not np.all(backbone != 0):
        return float("nan"), float("nan")
    return float(np.mean((model - backbone) / backbone)), paired(model, backbone).p_t


def write_report(
    rows: Sequence[dict], model_specs: Sequence[ModelSpec], facts: Facts, out: Path, curves: bool
) -> str:
    """Write runs.csv, robustness.md and, with ``curves``, recall.png into a folder.

    Returns the text of robustness.md.
    """
    write_rows(rows, out / "runs.csv")
    text = markdown(rows, model_specs, facts)
    write_text(out / "robustness.md", text)
    if curves:
        draw_curves(rows, model_specs, facts, out / "recall.png")
    return text


def write_rows(rows: Sequence[dict], path: Path) -> None:
    """Write one row per run, with all digits of every number; what decides a run's numbers stands last."""
    measures = dict.fromkeys(key for row in rows for key in row if key not in HEAD and key != "identity")
    with atomic_write(path) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*HEAD, *measures, "identity"], lineterminator="\n")
        writer.writeheader()
        # repr keeps every digit of a float
        writer.writerows({k: repr(v) if isinstance(v, float) else v for k, v in row.items()} for row in rows)


def markdown(rows: Sequence[dict], model_specs: Sequence[ModelSpec], facts: Facts) -> str:
    """Return the text of robustness.md."""
    metric = metric_of(rows)
    column, title = f"test_{metric}", metric_title(metric)
    grid = cells(rows, model_specs, facts)
    few = "" if len(facts.seeds) > 1 else " One seed: no spread and no test (n < 2)."
    parts = [
        f"# Robustness: {facts.kind} noise, {facts.data()}",
        (
            f"Level: {AXES[facts.kind]}. {len(facts.seeds)} seeds ({', '.join(map(str, facts.seeds))}), each "
            f"of data and training.{few}"
        ),
        *(f"**Warning**: {text}." for text in facts.warnings),
        f"## Test {title}",
        "Mean ± standard deviation over the seeds.",
        _table(model_specs, facts, lambda c, level: _mean_sd(grid[c.text, level], column)),
        "## Change with the level",
        f"Mean of the paired relative changes against the model's own result at level {facts.levels[0]:g}.",
        _table(
            model_specs,
            facts,
            lambda c, level: _change(grid[c.text, level], grid[c.text, facts.levels[0]], column, False),
        ),
    ]
    against = [c for c in model_specs if c.backbone is not None]
    if against:
        candidates = {c.text: plain_one(c, model_specs) for c in against}
        compared = {text: other for text, other in candidates.items() if other is not None}
        present = [c for c in against if c.text in compared]
        parts += [
            "## Change against the backbone at the same level",
            (
                "Mean of the paired relative changes; p: two-sided paired t-test over the seeds, not "
                "corrected for the number of cells."
            ),
        ]
        absent = [f"{c.text}: {c.backbone} is not among --models" for c in against if c not in present]
        parts += [f"Not compared: {'; '.join(absent)}."] if absent else []
        parts += [
            f"{c.text}: against {compared[c.text].text}."
            for c in present
            if compared[c.text].text != c.backbone
        ]
        if present:
            parts.append(
                _table(
                    present,
                    facts,
                    lambda c, level: _change(
                        grid[c.text, level], grid[compared[c.text].text, level], column, True
                    ),
                )
            )
    parts += [
        "## Candidates",
        "The settings with the best mean validation score over the seeds, and how many were tried.",
        _table(model_specs, facts, lambda c, level: _chosen(grid[c.text, level], c)),
    ]
    parts += _probe(grid, model_specs, facts)
    failed = [row for row in rows if row.get("error")]
    if failed:
        lines = [
            f"- {r['model']} {r['candidate']}, level {r['level']:g}, seed {r['seed']}: {r['error']}"
            for r in failed
        ]
        parts += ["## Failed runs", "\n".join(lines)]
    parts += ["## Where this comes from", _provenance(facts, rows)]
    return "\n\n".join(parts) + "\n"


def plain_one(model_spec: ModelSpec, model_specs: Sequence[ModelSpec]) -> ModelSpec | None:
    """Return the model that another is compared with, its backbone.

    Of several it is the one that shares most settings, then the first.
    """

    def shared(other: ModelSpec) -> int:
        return len(_fixed_settings(other) & _fixed_settings(model_spec))

    plain = [other for other in model_specs if other.name == model_spec.backbone]
    return max(plain, key=shared, default=None)


def _fixed_settings(model_spec: ModelSpec) -> set[str]:
    """Return the settings that all candidates of a model share, as text."""
    first, *others = ({repr(item) for item in candidate.items()} for candidate in model_spec.candidates)
    return first.intersection(*others)


def _table(model_specs: Sequence[ModelSpec], facts: Facts, cell: Callable[[ModelSpec, float], str]) -> str:
    lines = [
        f"| model | {' | '.join(f'{level:g}' for level in facts.levels)} |",
        "|---" * (len(facts.levels) + 1) + "|",
    ]
    # a candidate list holds the separator of columns
    lines += [
        f"| {_plain(c.text)} | {' | '.join(_plain(cell(c, level)) for level in facts.levels)} |"
        for c in model_specs
    ]
    return "\n".join(lines)


def _plain(text: str) -> str:
    return text.replace("|", "\\|")


def _mean_sd(cell: Cell | None, column: str) -> str:
    if cell is None:
        return "failed"
    values = cell.values(column)
    return f"{values.mean():.4f}" + (f" ± {values.std(ddof=1):.4f}" if len(values) > 1 else "")


def _change(cell: Cell | None, other: Cell | None, column: str, test: bool) -> str:
    if cell is None or other is None:
        return "-"
    change, p = relative_change(cell.values(column), other.values(column))
    if np.isnan(change):
        return "-"
    text = f"{100 * change:+.1f} %"
    if test:
        text += " (n < 2)" if len(cell.rows) < 2 else " (p -)" if np.isnan(p) else f" (p {p:.3f})"
    return text


def _chosen(cell: Cell | None, model_spec: ModelSpec) -> str:
    return "-" if cell is None else f"{cell.candidate} (of {len(model_spec.candidates)})"


def _probe(
    grid: Mapping[tuple[str, float], Cell | None], model_specs: Sequence[ModelSpec], facts: Facts
) -> list[str]:
    parts = []
    measured = [
        (c, level, cell)
        for c in model_specs
        for level in facts.levels
        if (cell := grid[c.text, level]) is not None
    ]
    for rows, what in (("latents", "item latents"), ("items", "final item rows")):
        columns = [part for part in PARTS if any(_has(cell, f"{rows}_r2_{part}") for _, _, cell in measured)]
        if not columns:
            continue
        lines = [f"| model | level | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
        for c, level, cell in measured:
            if any(_has(cell, f"{rows}_r2_{part}") for part in columns):
                pairs = [
                    tuple(cell.values(f"{rows}_{kind}_{part}").mean() for kind in ("r2", "share"))
                    for part in columns
                ]
                lines.append(
                    f"| {_plain(c.text)} | {level:g} | "
                    f"{' | '.join(f'{r2:.2f} / {s:.3f}' for r2, s in pairs)} |"
                )
        parts += [f"### In the {what}", "\n".join(lines)]
    if parts:
        head = (
            "Held-out R² of a linear read-out of the planted factors / share of the rows' variance that "
            "these explain; means over seeds."
        )
        parts = ["## What the models hold of what was planted", head, *parts]
    return parts


def _has(cell: Cell, column: str) -> bool:
    return any(column in row for row in cell.rows)


def _provenance(facts: Facts, rows: Sequence[dict]) -> str:
    lines = ["```", facts.command, "```", ""]
    if facts.spec is not None:
        spec = {key: value for key, value in facts.spec.items() if key != "irrelevance"}
        lines += [f"Planted: `{json.dumps(spec)}`.", ""]
    names = ("recbole-ib", "recbole", "torch", "numpy", "scipy", "scikit-learn")
    versions = ", ".join(f"{name} {_version(name)}" for name in names)
    seconds = sum(row.get("seconds", 0.0) for row in rows)
    lines.append(
        f"Python {platform.python_version()}, {versions}. {len(rows)} runs, {seconds:.0f} s in all; every "
        "number: runs.csv."
    )
    return "\n".join(lines)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed as a package)"


def draw_curves(
    rows: Sequence[dict], model_specs: Sequence[ModelSpec], facts: Facts, path: str | Path
) -> None:
    """Draw the test metric against the level, one line per model.

    Bars are of one standard deviation over the seeds.
    """
    metric, grid = metric_of(rows), cells(rows, model_specs, facts)
    figure = new_figure(7.5, 5.2)
    axes = figure.subplots()
    for i, model_spec in enumerate(model_specs):
        chosen = [
            (level, cell) for level in facts.levels if (cell := grid[model_spec.text, level]) is not None
        ]
        values = [cell.values(f"test_{metric}") for _, cell in chosen]
        if chosen:
            spread = [v.std(ddof=1) if len(v) > 1 else 0.0 for v in values]
            means = [v.mean() for v in values]
            axes.errorbar(
                [level for level, _ in chosen],
                means,
                yerr=spread,
                label=model_spec.text,
                marker="os^Dv<>ph*"[i % 10],
                capsize=3,
                linewidth=1.5,
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
        f"Data: {facts.data()}; {features}; noise: {facts.kind}; seeds: {', '.join(map(str, facts.seeds))}; "
        f"{bars}.\nSettings of each point chosen on validation.",
        fontsize="x-small",
    )
    figure.savefig(path, dpi=150)

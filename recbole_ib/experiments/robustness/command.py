"""The grid of ``recbole-ib robustness``: models against rising irrelevance, planted or injected, over seeds."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from recbole_ib.config.config import Config
from recbole_ib.config.declared import model_defaults
from recbole_ib.errors import ConfigurationError
from recbole_ib.experiments.model_spec import ModelSpec
from recbole_ib.experiments.robustness import corrupted_dataset, curves, report
from recbole_ib.experiments.robustness.options import PLANTED, SOURCE_KEYS, Plan
from recbole_ib.experiments.robustness.runs import Run, RunTable, run_all
from recbole_ib.experiments.robustness.synthetic import planted_name, write_planted


def run_plan(plan: Plan, command_line: str) -> int:
    """Run the grid and write its report, which quotes the command line; 0, or 1 where a run failed."""
    if plan.curves:
        curves.need_matplotlib()
    plan.out.mkdir(parents=True, exist_ok=True)
    runs = write_grid(plan)
    check_settings(runs)
    for text in budget_warnings(plan.model_specs):
        print(f"warning: {text}", file=sys.stderr)
    table = RunTable(plan.out / "runs.csv", fresh=plan.fresh)
    left = [run for run in runs if not table.finished(run)]
    print(f"{len(runs)} runs, {len(runs) - len(left)} of them done before; {plan.out / 'runs.csv'}")
    count = 0

    def done(run: Run, row: dict) -> None:
        nonlocal count
        count += 1
        table.add(row)
        metric = report.metric_of([row])
        what = f"FAILED: {row['error']}" if row["error"] else f"test {metric} {row[f'test_{metric}']:.4f}"
        print(f"[{count}/{len(left)}] {run.model} {row['candidate']} {run.noise} {run.level:g} seed {run.seed}: {what}"
              f" ({row['seconds']:.1f} s)", flush=True)  # fmt: skip

    run_all(left, plan.jobs, done)
    rows = table.of(runs)
    facts = report.Facts(
        command=command_line,
        kind=plan.kind,
        dataset=plan.dataset,
        spec=asdict(plan.spec) if plan.kind == PLANTED else None,
        levels=plan.levels,
        seeds=plan.seeds,
        warnings=budget_warnings(plan.model_specs),
    )
    text = report.markdown(rows, plan.model_specs, facts)
    (plan.out / "robustness.md").write_text(text, encoding="utf-8")
    if plan.curves:
        curves.draw(rows, plan.model_specs, facts, plan.out / "recall.png")
    print(text, end="")
    return 1 if any(row.get("error") for row in rows) else 0


def write_grid(plan: Plan) -> list[Run]:
    """Write every level's data sets that are not there yet below ``out/data``, and list the runs on them."""
    base = plan.out / "data"
    settings = dict(plan.settings)
    if plan.kind == PLANTED:
        source, data = None, {key: value for key, value in asdict(plan.spec).items() if key != "irrelevance"}
    else:
        source = corrupted_dataset.read_source(plan.dataset, plan.settings)
        data = {"dataset": plan.dataset, "source": str(source.folder), "settings": plan.settings}
        if plan.kind == "edges":
            data["knn_k"] = widest_graph(plan)
        for key in SOURCE_KEYS:
            settings.pop(key, None)
    runs = []
    for seed in plan.seeds:
        for level in plan.levels:
            name = _write_one(plan, base, source, data, level, seed)
            truth = str(base / name) if plan.kind == PLANTED else None
            common = {"settings": settings, "noise": plan.kind, "level": level, "seed": seed, "dataset": name, "data": data}
            common |= {"data_path": str(base), "truth": truth}
            runs += [Run(c.text, c.name, candidate, **common) for c in plan.model_specs for candidate in c.candidates]
    return runs


def _write_one(plan: Plan, base: Path, source, data: dict, level: float, seed: int) -> str:
    if plan.kind == PLANTED:
        spec = replace(plan.spec, irrelevance=float(level))
        name = planted_name(spec, seed)
        if plan.fresh or not (base / name).is_dir():
            write_planted(base, spec, seed, name)
        return name
    digest = hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:6]
    name = f"{corrupted_dataset.noisy_name(plan.dataset, plan.kind, level, seed)}-{digest}"
    if plan.fresh or not (base / name).is_dir():
        search = plan.settings.get("knn_search", "auto")
        corrupted_dataset.write_noisy(base, source, plan.kind, level, seed, name, knn_k=data.get("knn_k", 1), knn_search=search)
    return name


def widest_graph(plan: Plan) -> int:
    """The largest ``knn_k`` of any run: the ready graphs must hold as many neighbors."""
    found = [plan.settings["knn_k"]] if "knn_k" in plan.settings else []
    for model_spec in plan.model_specs:
        for candidate in model_spec.candidates:
            if "knn_k" in candidate:
                found.append(candidate["knn_k"])
    if "knn_k" not in plan.settings:
        from recbole_ib.model.registry import _registered

        named = {part for c in plan.model_specs for part in (c.name, c.backbone) if part in _registered}
        found += [model_defaults(_registered[name]).get("knn_k", 1) for name in named]
    if any(not isinstance(k, int) or isinstance(k, bool) or k < 1 for k in found):
        raise ConfigurationError(f"knn_k must be a whole number from 1 on, got {', '.join(map(str, found))}")
    return max(found, default=10)


def check_settings(runs: list[Run]) -> None:
    """Refuse a wrong model or setting before hours of training, on the first data set of the grid.

    Raises:
        ConfigurationError: the model's text, and what its Config says.
    """
    for run in runs:
        if (run.level, run.seed) == (runs[0].level, runs[0].seed):
            try:
                Config(run.name, run.dataset, None, run.config())
            except ConfigurationError as error:
                raise ConfigurationError(f"model {run.model!r}: {error}") from error


def budget_warnings(model_specs: list[ModelSpec]) -> list[str]:
    """Models that choose among different numbers of candidates are not compared on equal terms."""
    counts = {c.text: len(c.candidates) for c in model_specs}
    if len(set(counts.values())) < 2:
        return []
    named = ", ".join(f"{text}: {count}" for text, count in counts.items())
    return [f"the models choose among different numbers of candidates ({named}); a fair comparison gives all the same"]

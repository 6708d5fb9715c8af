"""The grid of ``recbole-ib robustness``.

Models against rising irrelevance, planted or injected, over seeds.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import cast

import torch
from recbole.utils import get_model

from recbole_ib.config.config import Config
from recbole_ib.config.declared import model_defaults
from recbole_ib.config.serialize import quoted
from recbole_ib.errors import ConfigurationError
from recbole_ib.experiments.jobs import Job, Resources, configured_job, run_missing
from recbole_ib.experiments.model_spec import ModelSpec, candidate_text
from recbole_ib.experiments.results import number
from recbole_ib.experiments.robustness import corrupted_dataset, report
from recbole_ib.experiments.robustness.linear_probe import probe_checkpoint
from recbole_ib.experiments.robustness.options import PLANTED, SOURCE_KEYS, RobustnessOptions
from recbole_ib.experiments.robustness.synthetic import planted_name, write_planted
from recbole_ib.model.registry import is_multimodal
from recbole_ib.training.manifest import read_manifest
from recbole_ib.utils.ray import lock_directory


@dataclass(frozen=True)
class Variant:
    """One data set of the grid, written below ``OUT/data``.

    ``made_from``: what decides its contents beside level and seed.
    """

    level: float
    seed: int
    dataset: str
    made_from: dict


@dataclass(frozen=True)
class GridRun:
    """One run of the grid.

    ``model``: the text of its :class:`ModelSpec`; ``candidate``: the settings that it is tried with.
    """

    model: str
    candidate: dict
    kind: str
    variant: Variant
    identity: str
    job: Job

    def line(self, error: str | None) -> str:
        """Return the text of the run's line of progress."""
        if error is None:
            row = self.row()
            metric = report.metric_of([row])
            outcome = f"test {metric} {row[f'test_{metric}']:.4f}"
        else:
            outcome = f"FAILED: {error}"
        level, seed = self.variant.level, self.variant.seed
        return f"{self.model} {candidate_text(self.candidate)} {self.kind} {level:g} seed {seed}: {outcome}"

    def row(self) -> dict:
        """Return the run's row of runs.csv, from its manifest and probe.

        What went wrong stands in the column ``error``.
        """
        row = {
            "model": self.model,
            "candidate": candidate_text(self.candidate),
            "noise": self.kind,
            "level": float(self.variant.level),
            "seed": self.variant.seed,
            "dataset": self.variant.dataset,
            "identity": self.identity,
        }
        path = self.job.manifest()
        if path is None or not self.job.finished():
            return {**row, "error": (self.job.error() or "no result")[:500]}
        manifest = read_manifest(path)
        result = manifest["result"]
        row |= {
            "error": "",
            "best_valid_score": number(result["best_valid_score"]),
            "valid_score_bigger": result["valid_score_bigger"],
            "seconds": sum(manifest["seconds"].values()),
            **{
                f"{part}_{name}": number(value)
                for part in ("valid", "test")
                for name, value in (result[part] or {}).items()
            },
        }
        if result["best_epoch"] is not None:
            row["best_epoch"] = result["best_epoch"]
        return row | self.job.measures()


def run(options: RobustnessOptions, command_line: str) -> int:
    """Run the grid and write its report, which quotes the command line; return 0, or 1 where a run failed.

    Raises:
        ConfigurationError: a wrong model or setting, before anything is trained, or another command in the
            same folder.
    """
    with lock_directory(options.out):
        runs = plan_runs(options, write_variants(options))
        warnings = budget_warnings(options.models)
        for text in warnings:
            print(f"warning: {text}", file=sys.stderr)
        if options.fresh:
            for grid_run in runs:
                shutil.rmtree(grid_run.job.folder, ignore_errors=True)
        run_of = {grid_run.job.folder: grid_run for grid_run in reversed(runs)}
        run_missing(
            [grid_run.job for grid_run in runs],
            options.out / "runs",
            resources(options.jobs),
            describe=lambda job, error: run_of[job.folder].line(error),
        )
        rows = [grid_run.row() for grid_run in runs]
        facts = report.Facts(
            command=command_line,
            kind=options.kind,
            dataset=options.dataset,
            spec=asdict(options.spec) if options.kind == PLANTED else None,
            levels=options.levels,
            seeds=options.seeds,
            warnings=warnings,
        )
        print(report.write_report(rows, options.models, facts, options.out, options.curves), end="")
    return 1 if any(row["error"] for row in rows) else 0


def resources(jobs: int) -> Resources:
    """Return what a run takes where ``jobs`` run side by side.

    A thread each, one alone all of torch's; a GPU is shared.
    """
    threads = torch.get_num_threads() if jobs == 1 else 1
    # Ray counts GPUs in ten-thousandths
    gpus = 10_000 // jobs / 10_000 if torch.cuda.is_available() else 0
    return Resources(cpus=threads, gpus=gpus, local_cpus=threads * jobs)


def write_variants(options: RobustnessOptions) -> list[Variant]:
    """Write every level's data sets that are not there yet below ``OUT/data``; return all of them."""
    base = options.out / "data"
    if options.kind == PLANTED:
        made_from = {key: value for key, value in asdict(options.spec).items() if key != "irrelevance"}
    else:
        # the options name a data set for every noise that is not planted
        dataset = cast("str", options.dataset)
        source = corrupted_dataset.read_source(dataset, options.settings)
        made_from = {"dataset": dataset, "source": str(source.folder), "settings": options.settings}
        if options.kind == "edges":
            made_from["knn_k"] = widest_graph(options)
        digest = hashlib.sha256(json.dumps(made_from, sort_keys=True, default=str).encode()).hexdigest()[:6]
    variants = []
    for seed in options.seeds:
        for level in options.levels:
            if options.kind == PLANTED:
                spec = replace(options.spec, irrelevance=float(level))
                name = planted_name(spec, seed)
                write = partial(write_planted, base, spec, seed, name)
            else:
                name = f"{corrupted_dataset.corrupted_name(dataset, options.kind, level, seed)}-{digest}"
                search = options.settings.get("knn_search", "auto")
                write = partial(
                    corrupted_dataset.write_corrupted,
                    base,
                    source,
                    options.kind,
                    level,
                    seed,
                    name,
                    knn_k=made_from.get("knn_k", 1),
                    knn_search=search,
                )
            if options.fresh or not (base / name).is_dir():
                write()
            variants.append(Variant(level, seed, name, made_from))
    return variants


def plan_runs(options: RobustnessOptions, variants: list[Variant]) -> list[GridRun]:
    """Return the runs of all models on all data sets.

    A wrong model or setting is refused before hours of training.

    Raises:
        ConfigurationError: the model's text, and what its Config says.
    """
    base = options.out / "data"
    # a data set with noise names its own features
    shared = {
        key: value
        for key, value in options.settings.items()
        if options.kind == PLANTED or key not in SOURCE_KEYS
    }
    runs = []
    for variant in variants:
        for spec in options.models:
            for candidate in spec.candidates:
                settings = {"per_user": False, **shared, **candidate, "data_path": str(base)}
                try:
                    config = Config(
                        spec.name, variant.dataset, None, quoted({**settings, "seed": variant.seed})
                    )
                    probed = options.kind == PLANTED and is_multimodal(config.model_class)
                    measure = (
                        partial(probe_checkpoint, folder=str(base / variant.dataset)) if probed else None
                    )
                    job = configured_job(
                        spec.name, config, settings, variant.seed, options.out / "runs", measure
                    )
                except ConfigurationError as error:
                    raise ConfigurationError(f"model {spec.text!r}: {error}") from error
                identity = {
                    "name": spec.name,
                    "candidate": candidate,
                    "settings": shared,
                    "noise": options.kind,
                    "level": float(variant.level),
                    "seed": variant.seed,
                    "data": variant.made_from,
                }
                text = json.dumps(identity, sort_keys=True, default=str)
                runs.append(GridRun(spec.text, candidate, options.kind, variant, text, job))
    return runs


def widest_graph(options: RobustnessOptions) -> int:
    """Return the largest ``knn_k`` of any run: the ready graphs must hold as many neighbors.

    Raises:
        ConfigurationError: a value that is no whole number from 1 on.
    """
    widths = [
        candidate["knn_k"] for spec in options.models for candidate in spec.candidates if "knn_k" in candidate
    ]
    if "knn_k" in options.settings:
        widths.append(options.settings["knn_k"])
    else:
        names = {name for spec in options.models for name in (spec.name, spec.backbone) if name}
        widths += [
            model_defaults(model_class).get("knn_k", 1)
            for model_class in map(_class_of, names)
            if model_class
        ]
    if any(not isinstance(k, int) or isinstance(k, bool) or k < 1 for k in widths):
        raise ConfigurationError(f"knn_k must be a whole number from 1 on, got {', '.join(map(str, widths))}")
    return max(widths, default=10)


def _class_of(name: str) -> type | None:
    """Return the class of a multimodal model.

    ``None`` for one of RecBole's, a combination or an unknown name.
    """
    try:
        model_class = get_model(name)
    except ValueError:
        return None
    return model_class if is_multimodal(model_class) else None


def budget_warnings(models: list[ModelSpec]) -> list[str]:
    """Return a warning where models choose among different numbers of candidates.

    They are not compared on equal terms.
    """
    counts = {spec.text: len(spec.candidates) for spec in models}
    if len(set(counts.values())) < 2:
        return []
    named = ", ".join(f"{text}: {count}" for text, count in counts.items())
    return [
        (
            f"the models choose among different numbers of candidates ({named}); a fair comparison gives all "
            "the same"
        )
    ]

"""The options of a comparison, and the model and settings of each of its entries.

All are checked before anything is trained.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recbole_ib.config.argv import parse_arguments
from recbole_ib.config.config import Config
from recbole_ib.config.presets import read_config_file
from recbole_ib.config.serialize import quoted
from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.experiments.jobs import QUIET, Job, configured_job, one_name
from recbole_ib.experiments.model_spec import ModelSpec
from recbole_ib.experiments.results import Entry
from recbole_ib.training.per_user import check_per_user
from recbole_ib.training.run import split_seed
from recbole_ib.utils.yaml import read_yaml

#: RecBole's own default seed splits the data where nothing else does: every seed of a comparison sees one
#: split
SPLIT_SEED = 2020
#: settings that belong to the whole comparison, by the word that gives them
TAKEN = {
    "seed": "--seeds",
    "model": "--models",
    "dataset": "--dataset",
    "bottleneck": "--models, as NAME+fib, so that the report says what was trained",
    "per_user": "nothing, every run writes it",
    "metric_decimal_place": "nothing, metrics keep all their digits",
    "resume_checkpoint": "nothing, a killed run is continued by itself",
    "checkpoint_dir": "--out",
}
#: the most seeds that one number may ask for: 2020 is a seed
MOST_SEEDS = 100


@dataclass(frozen=True)
class Options:
    """The options that ``compare`` and ``ablate`` share, checked; files, words: settings of all runs."""

    dataset: str
    seeds: list[int]
    out: Path
    tuned: Path | None
    metric: str
    baseline: str | None
    cpus: float
    gpus: float
    address: str | None
    keep_checkpoints: bool
    files: dict
    words: dict


def read_options(args: argparse.Namespace) -> Options:
    """Return the options of ``compare`` and ``ablate``, checked.

    Raises:
        ConfigurationError: a value that is none of those allowed.
    """
    files, words = read_settings(args)
    check_taken((*files, *words), "the settings of all runs")
    if args.cpus_per_run <= 0 or args.gpus_per_run < 0:
        raise ConfigurationError("--cpus-per-run must be above 0 and --gpus-per-run not below it")
    out = Path(args.out) if args.out else Path(args.command) / args.dataset
    return Options(
        dataset=args.dataset,
        seeds=read_seeds(args.seeds),
        out=out.expanduser().resolve(),
        tuned=Path(args.tuned).expanduser().resolve() if args.tuned else None,
        metric=args.metric.lower(),
        baseline=args.baseline,
        cpus=args.cpus_per_run,
        gpus=args.gpus_per_run,
        address=args.address,
        keep_checkpoints=args.keep_checkpoints,
        files=files,
        words=words,
    )


def read_settings(args: argparse.Namespace) -> tuple[dict, dict]:
    """Return the settings of all runs.

    They are those of the config files, later ones winning, and those of the command's words.
    """
    files = {key: value for file in args.config_files for key, value in read_config_file(file).items()}
    return files, parse_arguments(args.settings)


def joined(words: Sequence[str]) -> str:
    """Return a list given as ``A B``, ``A,B``, ``A, B`` or a mixture as ``A,B``."""
    return ",".join(word.removesuffix(",") for word in words)


def read_seeds(words: Sequence[str]) -> list[int]:
    """Return the seeds. ``5``: 0 to 4; ``3 7`` or ``3,7``: these; ``2020,``: this one.

    Raises:
        ConfigurationError: no whole numbers from 0 on, or one twice.
    """
    counted = len(words) == 1 and "," not in words[0]
    parts = joined(words).split(",")
    wrong = not all(part.isdecimal() for part in parts) or len(set(parts)) != len(parts)
    if wrong or (counted and not 1 <= int(parts[0]) <= MOST_SEEDS):
        raise ConfigurationError(
            f"--seeds {' '.join(words)}: allowed are one number up to {MOST_SEEDS}, how many (5: the seeds 0 "
            "to 4), or several different ones, such as 3 7 11. One seed is written with a comma: 2020,"
        )
    return list(range(int(parts[0]))) if counted else [int(part) for part in parts]


def check_taken(keys: Iterable[str], where: str) -> None:
    """Raise ConfigurationError for a setting that belongs to the whole comparison."""
    for key in keys:
        if key in TAKEN:
            raise ConfigurationError(
                f"{where}: {key} is not for one run alone; a comparison takes it from {TAKEN[key]}"
            )


def make_entry(model_spec: ModelSpec, options: Options, borrowed: str | None = None) -> Entry:
    """Return a model with its settings.

    Later ones win: files, those tuned for it, the command's words, its own in its text.

    Args:
        model_spec: with one candidate.
        options: of the command.
        borrowed: a model whose tuned settings are taken where this one has none of its own.

    Raises:
        ConfigurationError: a setting that belongs to the whole comparison, or no search of this model where
            one is wanted.
    """
    candidate, note, trials = model_spec.candidates[0], "", None
    tuned: dict = {}
    check_taken(candidate, f"model {model_spec.text!r}")
    if options.tuned is not None:
        tuned, note, trials = read_tuned(options.tuned, options.dataset, model_spec.name, borrowed)
    settings = {**options.files, **tuned, **options.words, **candidate}
    settings.setdefault("split_seed", SPLIT_SEED)
    return Entry(model_spec.text, (), note, trials, model_spec.name, settings)


def read_tuned(
    folder: Path, dataset: str, name: str, borrowed: str | None = None
) -> tuple[dict, str, int | None]:
    """Return the settings that a search found for a model.

    With them go the report's words for it, and how many trials it had.

    Raises:
        ConfigurationError: no search of this model, or one on another data set.
    """
    # VLATTICE+fib+gib is IBMRec, and its search may lie under either name
    for model in dict.fromkeys(
        alias for wanted in (name, borrowed) if wanted for alias in (wanted, one_name(wanted))
    ):
        file = folder / model / "best.yaml"
        if not file.is_file():
            continue
        settings = read_yaml(file)
        if settings.get("dataset", dataset) != dataset:
            raise ConfigurationError(
                f"{file} was tuned on {settings['dataset']!r}, this comparison is on {dataset!r}"
            )
        searched = one_name(settings.get("model", model), settings.get("bottleneck"))
        if searched != one_name(model):
            raise ConfigurationError(f"{file} was tuned for {searched}, not for {model}")
        # what it says of one run is not for all of these
        settings = {key: value for key, value in settings.items() if key not in (*TAKEN, *QUIET)}
        trials = file.with_name("trials.csv")
        count = None
        if trials.is_file():
            with trials.open(encoding="utf-8", newline="") as rows:
                count = sum(1 for _ in csv.DictReader(rows))
        searched_as = "" if model in (name, one_name(name)) else f" as {model}"
        return settings, f"tuned{searched_as}", count
    available = sorted(path.parent.name for path in folder.glob("*/best.yaml"))
    raise ConfigurationError(
        f"{folder} holds no {name}/best.yaml.{nearest(name, available)} There: "
        f"{', '.join(available) or 'none'}. Tune it: recbole-ib tune --model={name} --dataset={dataset} "
        f"--out={folder / name}"
    )


def plan_jobs(entries: list[Entry], options: Options) -> dict[tuple[str, int], Job]:
    """Return the job of every entry's name and seed.

    A wrong model, setting or metric is refused before hours of training.

    Raises:
        ConfigurationError: the entry, and what its Config says; or splits that differ.
    """
    splits, jobs = {}, {}
    for entry in entries:
        try:
            config = Config(entry.model, options.dataset, None, quoted({**entry.settings, "per_user": True}))
            check_per_user(config)
            splits[entry.name] = split_seed(config)
            for seed in options.seeds:
                jobs[entry.name, seed] = configured_job(
                    entry.model, config, entry.settings, seed, options.out / "runs"
                )
        except ConfigurationError as error:
            raise ConfigurationError(f"model {entry.name!r}: {error}") from error
        computed = [f"{metric}@{k}".lower() for metric in config["metrics"] for k in config["topk"]]
        if options.metric not in computed:
            raise ConfigurationError(
                f"--metric is {options.metric!r}, which {entry.name} does not "
                f"compute.{nearest(options.metric, computed)} Computed: {', '.join(computed)}"
            )
    if len(set(splits.values())) > 1:
        named = ", ".join(f"{name}: {seed}" for name, seed in splits.items())
        raise ConfigurationError(
            f"the models would be compared on different splits of the data (split_seed of {named}); tune "
            "them on one split, or give --split_seed, knowing that a tuned model may then have seen test "
            "interactions in its search"
        )
    return jobs

"""The options of ``recbole-ib robustness``, read from its words and checked."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from recbole_ib.config.argv import parse_value
from recbole_ib.config.config import resolve_paths
from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.experiments.model_spec import ModelSpec, parse_models
from recbole_ib.experiments.options import check_taken, joined, read_settings
from recbole_ib.experiments.robustness import corruption
from recbole_ib.experiments.robustness.synthetic import PlantedSpec, spec_from

PLANTED = "planted"
KINDS = (PLANTED, *corruption.KINDS)
#: how lists of numbers are written, for messages
EXAMPLES = {"levels": "0,0.3,0.6,0.9", "seeds": "0,1,2,3,4"}
#: settings of the source of real noise: the data set that is written names its own features
SOURCE_KEYS = ("data_path", "feature_path", "modalities", "use_modalities")
#: settings that every job has of its own
OF_JOBS = ("metric_decimal_place", "resume_checkpoint", "checkpoint_dir")


@dataclass(frozen=True)
class RobustnessOptions:
    """The options of the command, checked; settings: of all runs; spec: of planted data."""

    models: list[ModelSpec]
    kind: str
    levels: list[float]
    seeds: list[int]
    out: Path
    jobs: int
    fresh: bool
    curves: bool
    dataset: str | None
    spec: PlantedSpec
    settings: dict


def read_robustness_options(args: argparse.Namespace) -> RobustnessOptions:
    """Return the options of the command, checked.

    Raises:
        ConfigurationError: a value that is none of those allowed.
    """
    files, words = read_settings(args)
    settings = {**files, **words}
    dataset = args.dataset or settings.pop("dataset", None)
    for key in ("seed", "model"):
        if key in settings:
            raise ConfigurationError(f"{key} is for one run; a comparison takes --{key}s={settings[key]},...")
    check_taken((key for key in settings if key in OF_JOBS), "the settings of all runs")
    # a run works in a folder of its own
    settings = resolve_paths(settings)
    kind = args.noise
    if kind not in KINDS:
        raise ConfigurationError(
            f"there is no noise {kind!r}.{nearest(kind, KINDS)} Allowed: {', '.join(KINDS)}"
        )
    levels, seeds = _numbers(joined(args.levels), "levels", float), _numbers(joined(args.seeds), "seeds", int)
    if not args.jobs.isdecimal() or int(args.jobs) < 1:
        raise ConfigurationError(f"--jobs is {args.jobs!r}; allowed: a whole number from 1 on")
    spec = parse_value(args.spec) if args.spec else {}
    if not isinstance(spec, dict):
        raise ConfigurationError(
            f"--spec is {args.spec!r}; a mapping is needed, such as --spec='{{n_users: 400, width: 128}}'"
        )
    if "irrelevance" in spec:
        raise ConfigurationError("--spec: irrelevance is what --levels gives")
    if kind == PLANTED and dataset:
        raise ConfigurationError(
            "--noise=planted makes its own data; for noise in --dataset take features, rows, modality or "
            "edges"
        )
    if kind != PLANTED and (args.spec or not dataset):
        what = "--spec is for planted data" if args.spec else "--dataset says which data set gets it"
        raise ConfigurationError(f"--noise={kind} is put into a data set that is there: {what}")
    for key in SOURCE_KEYS if kind == PLANTED else ():
        if key in settings and key != "use_modalities":
            raise ConfigurationError(f"{key} names features of other data; planted data have their own")
    for level in levels:
        spec_from(spec, irrelevance=level) if kind == PLANTED else corruption.check_level(kind, level)
    return RobustnessOptions(
        models=parse_models(joined(args.models)),
        kind=kind,
        levels=levels,
        seeds=seeds,
        out=Path(args.out).expanduser().resolve(),
        jobs=int(args.jobs),
        fresh=_truth(args.fresh, "fresh"),
        curves=_truth(args.curves, "curves"),
        dataset=dataset,
        spec=spec_from(spec),
        settings=settings,
    )


def _numbers(text: str, name: str, kind: type) -> list:
    """Return different numbers, none negative, in ascending order."""
    try:
        values = [kind(part) for part in str(text).strip("[]() ").split(",")]
    except ValueError:
        raise ConfigurationError(
            f"--{name} is {text!r}; allowed: numbers separated by commas, such as --{name}={EXAMPLES[name]}"
        ) from None
    if len(set(values)) != len(values) or any(value < 0 for value in values):
        raise ConfigurationError(f"--{name} is {text!r}; allowed: different numbers, none negative")
    return sorted(values)


def _truth(text: str, name: str) -> bool:
    """Return a word for true or false as such."""
    value = parse_value(text)
    if not isinstance(value, bool):
        raise ConfigurationError(f"--{name} is {text!r}; allowed: true, false")
    return value

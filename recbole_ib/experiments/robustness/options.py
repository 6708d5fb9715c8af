"""What a ``recbole-ib robustness`` command asks for, read from its words and checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recbole_ib.config.argv import parse_arguments, parse_value
from recbole_ib.config.config import resolve_paths
from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.experiments.model_spec import Contestant, parse_contestants
from recbole_ib.experiments.robustness import corruption
from recbole_ib.experiments.robustness.synthetic import PlantedSpec, spec_from
from recbole_ib.utils.yaml import read_yaml

PLANTED = "planted"
KINDS = (PLANTED, *corruption.KINDS)
#: the words that belong to the comparison; all others are settings of every run
DEFAULTS = {
    "models": "VBPR,VLATTICE,IBMRec",
    "noise": PLANTED,
    "levels": "0,0.3,0.6,0.9",
    "seeds": "0,1,2,3,4",
    "dataset": None,
    "out": "robustness",
    "jobs": "1",
    "spec": None,
    "curves": "true",
    "fresh": "false",
}
#: settings of the source of real noise: the data set that is written names its own features
SOURCE_KEYS = ("data_path", "feature_path", "modalities", "use_modalities")


@dataclass(frozen=True)
class Plan:
    """What a command asks for, checked."""

    contestants: list[Contestant]
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


def read_plan(argv: Sequence[str]) -> Plan:
    """The words of the command, checked.

    Raises:
        ConfigurationError: a value that is none of those allowed.
    """
    from recbole_ib.config.argv import split_arguments

    words, files = split_arguments(["--fresh=true" if word == "--fresh" else word for word in argv])
    given, rest = dict(DEFAULTS), []
    for word in words:
        match = re.fullmatch(r"--(\w+)=(.*)", word, flags=re.DOTALL)
        if match and match[1] in DEFAULTS:
            given[match[1]] = match[2]
        else:
            rest.append(word)
    settings = {key: value for file in files for key, value in read_yaml(Path(file)).items()}
    settings.update(parse_arguments(rest))
    given["dataset"] = given["dataset"] or settings.pop("dataset", None)
    for key in ("seed", "model"):
        if key in settings:
            raise ConfigurationError(f"{key} is for one run; a comparison takes --{key}s={settings[key]},...")
    # a run works in a folder of its own
    settings = resolve_paths(settings)
    kind = given["noise"]
    if kind not in KINDS:
        raise ConfigurationError(f"there is no noise {kind!r}.{nearest(kind, KINDS)} Allowed: {', '.join(KINDS)}")
    levels, seeds = _numbers(given["levels"], "levels", float), _numbers(given["seeds"], "seeds", int)
    jobs = _numbers(given["jobs"], "jobs", int)
    if len(jobs) != 1 or jobs[0] < 1:
        raise ConfigurationError(f"--jobs is {given['jobs']!r}; allowed: a whole number from 1 on")
    spec = parse_value(given["spec"]) if given["spec"] else {}
    if not isinstance(spec, dict):
        raise ConfigurationError(
            f"--spec is {given['spec']!r}; a mapping is needed, such as --spec='{{n_users: 400, width: 128}}'"
        )
    if "irrelevance" in spec:
        raise ConfigurationError("--spec: irrelevance is what --levels gives")
    if kind == PLANTED and given["dataset"]:
        raise ConfigurationError(
            "--noise=planted makes its own data; for noise in --dataset take features, rows, modality or edges"
        )
    if kind != PLANTED and (given["spec"] or not given["dataset"]):
        what = "--spec is for planted data" if given["spec"] else "--dataset says which data set gets it"
        raise ConfigurationError(f"--noise={kind} is put into a data set that is there: {what}")
    for key in SOURCE_KEYS if kind == PLANTED else ():
        if key in settings and key != "use_modalities":
            raise ConfigurationError(f"{key} names features of other data; planted data have their own")
    for level in levels:
        spec_from(spec, irrelevance=level) if kind == PLANTED else corruption.check_level(kind, level)
    return Plan(
        contestants=parse_contestants(given["models"]),
        kind=kind,
        levels=levels,
        seeds=seeds,
        out=Path(given["out"]).expanduser().resolve(),
        jobs=jobs[0],
        fresh=_truth(given["fresh"], "fresh"),
        curves=_truth(given["curves"], "curves"),
        dataset=given["dataset"],
        spec=spec_from(spec),
        settings=settings,
    )


def _numbers(text: str, name: str, kind: type) -> list:
    try:
        values = [kind(part) for part in str(text).strip("[]() ").split(",")]
    except ValueError:
        raise ConfigurationError(
            f"--{name} is {text!r}; allowed: numbers separated by commas, such as --{name}={DEFAULTS[name]}"
        ) from None
    if len(set(values)) != len(values) or any(value < 0 for value in values):
        raise ConfigurationError(f"--{name} is {text!r}; allowed: different numbers, none negative")
    return sorted(values)


def _truth(text: str, name: str) -> bool:
    value = parse_value(text)
    if not isinstance(value, bool):
        raise ConfigurationError(f"--{name} is {text!r}; allowed: true, false")
    return value

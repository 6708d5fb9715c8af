"""What a report compares: the models, and their runs as read from their manifests and files of users."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_ib.errors import ConfigurationError, first_few, nearest
from recbole_ib.experiments.metrics import smaller_is_better
from recbole_ib.training.manifest import read_manifest

#: what a file of users says of a user beside the metrics
USER_COLUMNS = ("user_id", "n_train", "n_test")
#: how far the mean over the users may lie from the metric of the manifest, beside the rounding that
#: `metric_decimal_place` asks for
CLOSE = 1e-6


@dataclass(frozen=True)
class Entry:
    """One line of a comparison.

    name: in the report; manifests: of its runs, one per seed; note: how its settings were chosen; trials:
    among how many; model: what ``run_recbole_ib`` takes; settings: of all its seeds.
    """

    name: str
    manifests: Sequence[Path] = ()
    note: str = ""
    trials: int | None = None
    model: str = ""
    settings: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """A whole comparison.

    baseline: the name of the entry that others are compared with; metric: RecBole's name of the one that
    tests and charts are about; failures: what went wrong, a sentence each; groups: headings of the charts and
    tables -> names of entries, for ablations.
    """

    title: str
    dataset: str
    entries: Sequence[Entry]
    baseline: str
    metric: str = "recall@20"
    failures: Sequence[str] = ()
    command: str = ""
    groups: Mapping[str, Sequence[str]] | None = None


@dataclass(frozen=True)
class RunResult:
    """A finished run: its manifest and, where it was kept, a row for each user of the test set."""

    path: Path
    manifest: dict
    users: pd.DataFrame | None

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.manifest["seed"]

    def test(self, metric: str) -> float:
        """Return a test metric; NaN where it was not computed.

        It is computed from the users where they are kept (RecBole rounds what it returns).
        """
        if self.users is not None and metric in self.users:
            return float(self.users[metric].mean())
        return number(self.manifest["result"]["test"].get(metric))


def number(value: float | None) -> float:
    """Return a number of a manifest, NaN where it has none."""
    return float("nan") if value is None else float(value)


@dataclass(frozen=True)
class Results:
    """The runs of a comparison.

    ``runs``: entry -> its runs by seed; entries without a run are in ``missing`` alone.
    """

    comparison: Comparison
    runs: dict[str, list[RunResult]]
    missing: list[str]
    metrics: list[str]
    user_metrics: list[str]
    slice_columns: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The entries that have runs."""
        return list(self.runs)

    @property
    def all_runs(self) -> list[RunResult]:
        """The runs of all entries."""
        return [run for runs in self.runs.values() for run in runs]

    @property
    def seeds(self) -> list[int]:
        """The seeds of any entry, ascending."""
        return sorted({run.seed for run in self.all_runs})

    @property
    def baseline(self) -> str | None:
        """The baseline's name; ``None`` where it has no run, or no other entry has one."""
        return (
            self.comparison.baseline if self.comparison.baseline in self.runs and len(self.runs) > 1 else None
        )

    def entry(self, name: str) -> Entry:
        """Return the entry of a name."""
        return next(entry for entry in self.comparison.entries if entry.name == name)

    def values(self, name: str, metric: str) -> np.ndarray:
        """Return a test metric of an entry, one value per seed."""
        return np.array([run.test(metric) for run in self.runs[name]], dtype=float)

    def mean(self, name: str, metric: str) -> float:
        """Return the mean of a test metric over the seeds of an entry."""
        return float(self.values(name, metric).mean())

    def better_first(self, metric: str) -> list[str]:
        """Return the entries that have the metric, best mean first.

        Among equal ones the order is that of the comparison.
        """
        sign = 1 if smaller_is_better(metric) else -1
        names = [name for name in self.runs if not np.isnan(self.mean(name, metric))]
        return sorted(names, key=lambda name: sign * self.mean(name, metric))


def read_results(comparison: Comparison) -> Results:
    """Read every manifest and file of users of a comparison.

    Raises:
        ConfigurationError: names that are given twice or unknown, a file that is missing, damaged or of
            another run, seeds given twice, a metric that no run computed, or no run at all.
    """
    _check_names(comparison)
    runs = {entry.name: _read_entry(entry, comparison) for entry in comparison.entries if entry.manifests}
    missing = [entry.name for entry in comparison.entries if not entry.manifests]
    if not runs:
        raise ConfigurationError(
            f"{comparison.title}: no model has a finished run, so there is nothing to report"
        )
    all_runs = [run for entry_runs in runs.values() for run in entry_runs]
    metrics = list(dict.fromkeys(m for run in all_runs for m in run.manifest["result"]["test"]))
    columns = list(dict.fromkeys(c for run in all_runs if run.users is not None for c in run.users))
    slices = [c for c in columns if ":" in c]
    user_metrics = [c for c in columns if c not in USER_COLUMNS and c not in slices]
    if comparison.metric not in metrics:
        raise ConfigurationError(
            f"the comparison is about {comparison.metric!r}, which no run "
            f"computed.{nearest(comparison.metric, metrics)} Computed: {', '.join(metrics)}"
        )
    lacking = [
        name
        for name, entry_runs in runs.items()
        if any(comparison.metric not in run.manifest["result"]["test"] for run in entry_runs)
    ]
    if lacking:
        raise ConfigurationError(
            f"the comparison is about {comparison.metric!r}, and the runs of {first_few(lacking)} did not "
            "compute it; give all the same `metrics` and `topk`"
        )
    return Results(comparison, runs, missing, metrics, user_metrics, slices)


def _check_names(comparison: Comparison) -> None:
    names = [entry.name for entry in comparison.entries]
    if not names:
        raise ConfigurationError(f"{comparison.title}: no model is given to compare")
    duplicates = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if duplicates:
        raise ConfigurationError(
            f"{comparison.title}: the name {duplicates[0]!r} is given twice; name the entries apart"
        )
    if comparison.baseline not in names:
        raise ConfigurationError(
            f"the baseline {comparison.baseline!r} is none of the "
            f"models.{nearest(comparison.baseline, names)} They are {', '.join(names)}"
        )
    groups = comparison.groups or {}
    for title, members in groups.items():
        for member in members:
            if member not in names:
                raise ConfigurationError(
                    f"group {title!r} names {member!r}, which is none of the models.{nearest(member, names)}"
                )
            if sum(member in others for others in groups.values()) > 1:
                raise ConfigurationError(f"{member!r} stands in more than one group")


def _read_entry(entry: Entry, comparison: Comparison) -> list[RunResult]:
    runs = sorted((_read_run(Path(path), entry.name) for path in entry.manifests), key=lambda run: run.seed)
    for run in runs:
        if run.manifest["dataset"] != comparison.dataset:
            raise ConfigurationError(
                f"{entry.name}: {run.path} is a run on {run.manifest['dataset']!r}, and the comparison is on "
                f"{comparison.dataset!r}"
            )
    for one, other in itertools.pairwise(runs):
        if one.seed == other.seed:
            raise ConfigurationError(
                f"{entry.name}: {one.path} and {other.path} both are runs of seed {one.seed}; give one run a "
                "seed"
            )
    return runs


def _read_run(path: Path, name: str) -> RunResult:
    manifest = read_manifest(path)
    if not (manifest.get("result") or {}).get("test"):
        raise ConfigurationError(
            f"{name}: {path} holds no test result; was the run interrupted? Train it again"
        )
    users = None
    if manifest.get("per_user"):
        users = _read_users(path.with_name(manifest["per_user"]), name)
        _check_same_run(users, manifest, path, name)
    return RunResult(path, manifest, users)


def _read_users(path: Path, name: str) -> pd.DataFrame:
    import pyarrow

    if not path.is_file():
        raise ConfigurationError(
            f"{name}: there is no {path}, which its manifest names; keep the file of users beside the "
            "manifest"
        )
    try:
        users = pd.read_parquet(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise ConfigurationError(f"{name}: {path} is damaged or no parquet file ({error})") from None
    lacking = [column for column in USER_COLUMNS if column not in users]
    if lacking:
        raise ConfigurationError(
            f"{name}: {path} has no column {', '.join(lacking)}; it has {', '.join(map(str, users.columns))}"
        )
    if users.empty:
        raise ConfigurationError(f"{name}: {path} holds no user; a run with test data writes one row a user")
    users["user_id"] = users["user_id"].astype(str)
    duplicates = users["user_id"][users["user_id"].duplicated()]
    if len(duplicates):
        raise ConfigurationError(
            f"{name}: {path} has more than one row for user {first_few(duplicates.unique())}"
        )
    for column in users.columns.difference(["user_id"]):
        if not pd.api.types.is_numeric_dtype(users[column]):
            raise ConfigurationError(
                f"{name}: {path}: column {column} holds {users[column].dtype}, not numbers"
            )
        if ":" not in column and users[column].isna().any():
            token = users["user_id"][users[column].isna()].iloc[0]
            raise ConfigurationError(f"{name}: {path}: column {column} has no value for user {token}")
    return users


def _check_same_run(users: pd.DataFrame, manifest: dict, path: Path, name: str) -> None:
    """Raise ConfigurationError where the means over the users are not the metrics of the manifest.

    They may differ by RecBole's rounding.
    """
    places = (manifest.get("config") or {}).get("metric_decimal_place")
    allowed = CLOSE + (0.5 * 10.0**-places if isinstance(places, int) else 5e-5)
    for metric, value in manifest["result"]["test"].items():
        if metric in users and not abs(users[metric].mean() - value) <= allowed:
            raise ConfigurationError(
                f"{name}: {path} says test {metric} {value:.6f}, and the mean over the users of "
                f"{manifest['per_user']} is {users[metric].mean():.6f}: they are not of one run. Train it "
                "again"
            )

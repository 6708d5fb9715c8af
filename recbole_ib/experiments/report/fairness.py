"""Are the models compared on equal terms? Every way in which they are not, as a sentence for the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from recbole_ib.errors import first_few
from recbole_ib.experiments.results import Results, RunResult
from recbole_ib.training.resume import LATER_KEYS

#: settings that decide what a metric means, and how long a model may train
MEASURING = ("protocol", "metrics", "topk", "eval_args", "repeatable", "defaults")
BUDGET = ("epochs", "stopping_step", "stopping_batches", "eval_step", "valid_metric")
#: settings that differ from run to run by nature, name places of a machine, or say what is printed
RUN_SETTINGS = {
    "seed", "split_seed", "model", "dataset", "checkpoint_dir", "data_path", "feature_path", "mmrec_path",
    "per_user", "show_progress", "state", "save_last", "log_wandb", "wandb_project", "threads",
}  # fmt: skip
PARTS = {"train": "training", "valid": "validation", "test": "test"}


def unequal_conditions(results: Results) -> list[str]:
    """Return what a reader must take into account before comparing the numbers.

    Nothing is returned where all entries were run alike.
    """
    checks = (_within, _trials, _seeds, _data, _features, _measuring, _budget, _versions, _machines, _users)
    return [text for check in checks for text in check(results)]


def _by_value(values: Iterable[tuple[str, object]]) -> dict[str, list[str]]:
    """Return value -> the entries that have it, in their order."""
    groups: dict[str, list[str]] = {}
    for name, value in values:
        names = groups.setdefault(str(value), [])
        if name not in names:
            names.append(name)
    return groups


def _listed(groups: dict[str, list[str]]) -> str:
    """Return ``10: A, B; 3: all others``: the largest group last, without its names where they are many."""
    order = sorted(groups, key=lambda value: len(groups[value]))
    parts = [f"{value}: {', '.join(groups[value])}" for value in order[:-1]]
    many = len(groups[order[-1]]) > 3 and len(order) > 1
    return "; ".join([*parts, f"{order[-1]}: {'all others' if many else ', '.join(groups[order[-1]])}"])


def _differs(results: Results, what: str, value: Callable[[RunResult], object]) -> list[str]:
    groups = _by_value((name, value(run)) for name, runs in results.runs.items() for run in runs)
    return [f"{what} ({_listed(groups)})."] if len(groups) > 1 else []


def _within(results: Results) -> list[str]:
    """Return the entries whose runs are not one model with one set of settings.

    Their spread is not that of the seeds alone.
    """
    texts = []
    for name, runs in results.runs.items():
        settings = [{"model": run.manifest["model"]} | (run.manifest.get("config") or {}) for run in runs]
        keys = dict.fromkeys(
            key for one in settings for key in one if key == "model" or key not in RUN_SETTINGS
        )
        differing = [key for key in keys if len({str(one.get(key)) for one in settings}) > 1]
        if differing:
            values = [
                f"{key} {' or '.join(dict.fromkeys(str(one.get(key)) for one in settings))}"
                for key in differing
            ]
            texts.append(f"The runs of {name} do not share their settings ({first_few(values)}).")
    return texts


def _trials(results: Results) -> list[str]:
    counts = {name: results.entry(name).trials for name in results.names}
    if len(set(counts.values())) < 2:
        return []
    groups = _by_value(
        (name, "unknown or none" if count is None else count) for name, count in counts.items()
    )
    return [
        (
            f"Settings were chosen from different numbers of trials ({_listed(groups)}). More trials find "
            "better settings."
        )
    ]


def _seeds(results: Results) -> list[str]:
    groups = _by_value(
        (name, ", ".join(str(run.seed) for run in runs)) for name, runs in results.runs.items()
    )
    return [f"Entries were run with different seeds ({_listed(groups)})."] if len(groups) > 1 else []


def _data(results: Results) -> list[str]:
    differing: dict[str, list[str]] = {}
    for seed in results.seeds:
        named_runs = [(name, run) for name, runs in results.runs.items() for run in runs if run.seed == seed]
        for part, title in PARTS.items():
            digests = _by_value(
                (name, (run.manifest["data"].get(part) or {}).get("digest")) for name, run in named_runs
            )
            if len(digests) > 1:
                most = max(digests.values(), key=len)
                odd = [name for names in digests.values() if names is not most for name in names]
                differing.setdefault(
                    f"{title} data of {', '.join(odd)} differ from those of {', '.join(most)}", []
                ).append(str(seed))
    texts = [
        f"The {text} (seed {', '.join(seeds)}); pairs with different test sets are not tested."
        for text, seeds in differing.items()
    ]
    for name, runs in results.runs.items():
        for split in dict.fromkeys(run.manifest["split_seed"] for run in runs):
            digests = _by_value(
                (str(run.seed), (run.manifest["data"].get("test") or {}).get("digest"))
                for run in runs
                if run.manifest["split_seed"] == split
            )
            if len(digests) > 1:
                seeds = " and ".join(", ".join(same) for same in digests.values())
                texts.append(
                    f"{name} was tested on different data under one split_seed ({split}; seeds {seeds}): the "
                    "data have changed."
                )
    return texts


def _features(results: Results) -> list[str]:
    texts, modalities = [], dict.fromkeys(m for run in results.all_runs for m in run.manifest["features"])
    for modality in modalities:
        with_it = [
            (name, run.manifest["features"][modality])
            for name, runs in results.runs.items()
            for run in runs
            if modality in run.manifest["features"]
        ]
        encoders = _by_value((name, feature.get("encoder") or "not named") for name, feature in with_it)
        digests = _by_value((name, str(feature.get("digest"))[:12]) for name, feature in with_it)
        if len(encoders) > 1:
            texts.append(f"{modality} features come from different encoders ({_listed(encoders)}).")
        if len(digests) > 1:
            texts.append(f"{modality} features are not the same numbers (digests {_listed(digests)}).")
    reading = [(name, run) for name, runs in results.runs.items() for run in runs if run.manifest["features"]]
    sets = _by_value((name, ", ".join(sorted(run.manifest["features"]))) for name, run in reading)
    if len(sets) > 1:
        texts.append(f"Entries read different modalities ({_listed(sets)}).")
    return texts


def _setting(run: RunResult, key: str) -> str:
    # a setting that came later: what runs before it had
    return _plain((run.manifest.get("config") or {}).get(key, LATER_KEYS.get(key)))


def _recorded(run: RunResult, part: str, key: str) -> object:
    return run.manifest[part].get(key)


def _settings(results: Results, keys: Iterable[str], what: str) -> list[str]:
    texts = []
    for key in keys:
        texts += _differs(
            results,
            f"{what}: {key} differs",
            partial(_setting, key=key),
        )
    return texts


def _plain(value: object) -> str:
    """Return settings as text: ``[Recall, NDCG]`` and ``['recall', 'ndcg']`` name the same metrics."""
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(v) for v in value)
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in sorted(value.items()))
    return value.lower() if isinstance(value, str) else str(value)


def _measuring(results: Results) -> list[str]:
    return _settings(results, MEASURING, "The metrics are not measured alike")


def _budget(results: Results) -> list[str]:
    return _settings(results, BUDGET, "The training budgets differ")


def _versions(results: Results) -> list[str]:
    packages = dict.fromkeys(p for run in results.all_runs for p in run.manifest["versions"])
    texts = []
    for package in packages:
        texts += _differs(
            results, f"Versions of {package} differ", partial(_recorded, part="versions", key=package)
        )
    return texts


def _machines(results: Results) -> list[str]:
    texts = []
    for key, title in {
        "processor": "processors",
        "device": "devices",
        "threads": "numbers of threads",
        "cpus": "numbers of cores",
    }.items():
        texts += _differs(
            results,
            f"Runs were made on different {title}, so seconds do not compare",
            partial(_recorded, part="machine", key=key),
        )
    return texts


def _users(results: Results) -> list[str]:
    lacking = [
        f"{name} (seed {run.seed})"
        for name, runs in results.runs.items()
        for run in runs
        if run.users is None
    ]
    return (
        [f"Without values of single users, so left out of tests and slices: {first_few(lacking)}."]
        if lacking
        else []
    )


def stopped_by_limit(run: RunResult) -> bool:
    """Return whether the run reached its last epoch before its patience was at an end.

    More epochs could have raised it.
    """
    limit, result = (run.manifest.get("config") or {}).get("epochs"), run.manifest["result"]
    if "ended" in result:
        return result["ended"] == "epochs" and result["best_epoch"] is not None
    # an older manifest
    last = run.manifest["curve"][-1]["epoch"] if run.manifest.get("curve") else result["epochs"] - 1
    if not isinstance(limit, int) or result["epochs"] < limit or result["best_epoch"] is None:
        return False
    # in evaluations, as RecBole counts its patience
    config = run.manifest["config"]
    waited = (last - result["best_epoch"]) / max(1, config.get("eval_step") or 1)
    return waited <= (config.get("stopping_step") or 0)


def stopped_runs(results: Results) -> list[str]:
    """Return a line for each epoch limit that stopped runs, with the entries and seeds.

    For example ``A, B (every seed): stopped by its epoch limit of 300: could still rise.``
    """
    entries: dict[str, list[str]] = {}
    for name, runs in results.runs.items():
        stopped = [run for run in runs if stopped_by_limit(run)]
        if stopped:
            which = (
                "every seed"
                if len(stopped) == len(runs)
                else f"seed {', '.join(str(run.seed) for run in stopped)}"
            )
            limit = max(run.manifest["config"]["epochs"] for run in stopped)
            entries.setdefault(
                f"({which}): stopped by its epoch limit of {limit}: could still rise.", []
            ).append(name)
    return [f"{', '.join(names)} {text}" for text, names in entries.items()]

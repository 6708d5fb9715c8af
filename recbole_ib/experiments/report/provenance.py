"""The page's facts and provenance.

What was compared, with which settings, on what data, features and machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from recbole_ib.experiments.metrics import metric_title
from recbole_ib.experiments.report.fairness import PARTS, RUN_SETTINGS
from recbole_ib.experiments.report.html_tables import cell, row, table
from recbole_ib.experiments.results import Results, RunResult
from recbole_ib.experiments.statistics.pairwise import split_digest

#: given by the command, not chosen for a model
MACHINE_SETTINGS = ("use_gpu", "gpu_id", "metric_decimal_place")


def _distinct(values: Iterable) -> list:
    return list(dict.fromkeys(values))


def _seed_text(seeds: list[int]) -> str:
    if len(seeds) > 3 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def _modalities(results: Results) -> list[str]:
    return _distinct(m for run in results.all_runs for m in run.manifest["features"])


def lede(results: Results) -> str:
    """Return the line below the title: how it was compared."""
    seeds = results.seeds
    runs = (
        f"{len(results.all_runs)} runs of {len(results.names)}, {'seed' if len(seeds) == 1 else 'seeds'} "
        f"{_seed_text(seeds)}"
    )
    return (
        f"Compared by test {metric_title(results.comparison.metric)} on {results.comparison.dataset}: {runs}."
    )


def origin(results: Results) -> str:
    """Return data, seeds and features, for the captions."""
    features = ", ".join(_modalities(results)) or "none"
    return f"Data: {results.comparison.dataset}; seeds: {_seed_text(results.seeds)}; features: {features}."


def facts(results: Results) -> list[dict]:
    """Return name, value and a note of what was compared, for the head of the page."""
    first, seeds = results.all_runs[0].manifest, results.seeds
    data = first["data"]
    counts = ", ".join(
        f"{title} {data[part]['interactions']:,}" for part, title in PARTS.items() if data.get(part)
    )
    rows = [
        (
            "Data",
            results.comparison.dataset,
            f"{data.get('users', 0):,} users, {data.get('items', 0):,} items",
        ),
        ("Interactions", f"{sum(data[part]['interactions'] for part in PARTS if data.get(part)):,}", counts),
        ("Seeds", _seed_text(seeds), _split(results)),
        (
            "Features",
            ", ".join(_modalities(results)) or "none",
            "read by the multimodal models" if _modalities(results) else "",
        ),
    ]
    config = first.get("config") or {}
    patience = (
        f"at most {config['epochs']} epochs, patience {config['stopping_step']}{_batches(config)}"
        if "stopping_step" in config
        else ""
    )
    valid = metric_title(str(first["result"].get("valid_metric") or "").lower())
    rows.append(("Stopped early by", f"validation {valid}" if valid else "-", patience))
    protocol = config.get("protocol")
    rows.append(("Ranking", f"all items, protocol {protocol}" if protocol else "all items", ""))
    return [{"name": name, "value": value, "more": more} for name, value, more in rows]


def _batches(config: dict) -> str:
    batches = config.get("stopping_batches")
    return f" evaluations and {batches:,} batches" if batches else ""


def _split(results: Results) -> str:
    if len(results.seeds) < 2:
        return "one split"
    digests = _distinct(split_digest(run) for run in results.all_runs)
    return "one split for all of them" if len(digests) == 1 else "each with a split of its own"


# -- settings ------------------------------------------------------------------------------------------------


def _short(value: str) -> str:
    """Return a long number in four digits; all of them stand in the settings below and in the manifests."""
    return f"{float(value):.4g}" if re.fullmatch(r"-?\d*\.\d{5,}(e-?\d+)?", value) else value


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _settings(runs: list[RunResult], part: str) -> dict[str, str]:
    """Return the settings of an entry (``given`` or ``config``).

    One that differs among its own runs shows all its values.
    """
    keys = _distinct(key for run in runs for key in run.manifest.get(part) or {} if key not in RUN_SETTINGS)
    return {
        key: " or ".join(_distinct(_text((run.manifest.get(part) or {}).get(key)) for run in runs))
        for key in keys
    }


def settings(results: Results) -> dict:
    """Return the table of what was given, and all settings.

    These are those that all entries share, and each one's others.
    """
    rows = []
    for name, runs in results.runs.items():
        entry = results.entry(name)
        chosen = {
            key: value for key, value in _settings(runs, "given").items() if key not in MACHINE_SETTINGS
        }
        text = (
            ", ".join(f"{key}={_short(value)}" for key, value in chosen.items())
            or "nothing: the model's defaults"
        )
        note = entry.note or "not said"
        trials = "-" if entry.trials is None else str(entry.trials)
        cells = [cell(name, entry=name), cell(runs[0].manifest["model"], left=True)]
        cells += [cell(note, left=True, mark="words"), cell(trials), cell(text, left=True, mark="text")]
        rows.append(row(cells))
    head: list[str | tuple] = [
        "Entry",
        ("Model", "", True),
        ("How chosen", "", True),
        "Trials",
        ("Given", "", True),
    ]
    configs = {name: _settings(runs, "config") for name, runs in results.runs.items()}
    keys = _distinct(key for config in configs.values() for key in config)
    shared = [key for key in keys if len({config.get(key) for config in configs.values()}) == 1]
    first = next(iter(configs.values()))
    return {
        "settings": table("Settings", head, rows),
        "same_settings": [f"{key}={first[key]}" for key in sorted(shared)],
        "own_settings": {
            name: [f"{key}={value}" for key, value in sorted(config.items()) if key not in shared]
            for name, config in configs.items()
        },
    }


# -- provenance ----------------------------------------------------------------------------------------------


def provenance(results: Results) -> dict:
    """Return the command, the tables of versions, data and features, and the runs' files."""
    tables = [_versions(results), _data(results)]
    if _modalities(results):
        tables.append(_features(results))
    return {
        "command": results.comparison.command,
        "provenance": tables,
        "files": [
            f"{name} {run.seed}: {run.path.name}" for name, runs in results.runs.items() for run in runs
        ],
    }


def _versions(results: Results) -> dict:
    rows = []
    for title, part in (("Versions", "versions"), ("Machine", "machine")):
        keys = _distinct(key for run in results.all_runs for key in run.manifest[part])
        values = {
            key: _distinct(str(run.manifest[part].get(key)) for run in results.all_runs) for key in keys
        }
        text = ", ".join(f"{key} {' or '.join(distinct)}" for key, distinct in values.items())
        rows.append(row([cell(title), cell(text, left=True, mark="text")]))
    return table("Versions and machine", ["", ("", "", True)], rows)


def _data(results: Results) -> dict:
    rows = []
    for seeds, data in _by_data(results):
        cells = [cell(_seed_text(seeds))]
        for part in PARTS:
            split = data.get(part) or {}
            cells.append(cell(f"{split.get('interactions', 0):,}", sub=str(split.get("digest", "-"))[:16]))
        rows.append(row(cells))
    return table(
        "Data, with the digest of each part",
        ["Seed", *(title.capitalize() for title in PARTS.values())],
        rows,
    )


def _by_data(results: Results) -> list[tuple[list[int], dict]]:
    groups: dict[str, tuple[list[int], dict]] = {}
    for run in results.all_runs:
        key = json.dumps([run.manifest["data"].get(part) for part in PARTS], sort_keys=True)
        seeds = groups.setdefault(key, ([], run.manifest["data"]))[0]
        if run.seed not in seeds:
            seeds.append(run.seed)
    return [(sorted(seeds), data) for seeds, data in groups.values()]


def _features(results: Results) -> dict:
    groups: dict[str, tuple[str, dict, list[str]]] = {}
    for name, runs in results.runs.items():
        for run in runs:
            for modality, feature in run.manifest["features"].items():
                described = {key: value for key, value in feature.items() if key != "file"}
                names = groups.setdefault(
                    json.dumps([modality, described], sort_keys=True), (modality, described, [])
                )[2]
                if name not in names:
                    names.append(name)
    rows = []
    for modality, feature, names in groups.values():
        shape = " x ".join(f"{size:,}" for size in feature.get("shape") or ())
        cells = [cell(modality), cell(feature.get("encoder") or "not named", left=True, mark="text")]
        cells += [cell(shape), cell(f"{feature['covered']:,}" if feature.get("covered") is not None else "-")]
        cells += [cell(str(feature.get("digest", "-"))[:16]), cell(", ".join(names), left=True, mark="text")]
        rows.append(row(cells))
    head: list[str | tuple] = [
        "Modality",
        ("Encoder", "", True),
        "Shape",
        "Items covered",
        "Digest",
        ("Read by", "", True),
    ]
    return table("Features", head, rows)

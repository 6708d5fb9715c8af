"""What the page shows, as plain rows and cells: no HTML here, no numbers in the template."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recbole_ib.experiments.metrics import metric_title
from recbole_ib.experiments.report import provenance
from recbole_ib.experiments.report.html_cells import cell, row, table
from recbole_ib.experiments.report.style import grouped
from recbole_ib.experiments.report.tables import BEST, DIGITS, LEAD, SECOND, percent
from recbole_ib.experiments.statistics.pairwise import LEVEL, of_pair, significant
from recbole_ib.experiments.statistics.slices import ITEMS, QUARTERS
from recbole_ib.version import __version__

if TYPE_CHECKING:
    from recbole_ib.experiments.report.findings import Findings


def context(findings: Findings) -> dict:
    """Everything the template reads but the charts."""
    results = findings.results
    comparison, runs = results.comparison, results.all_runs
    sections = [("results", "Results"), ("pairs", "Pairs"), ("slices", "Slices"), ("training", "Training and cost")]
    sections += [("settings", "Settings"), ("provenance", "Provenance")] + [("failures", "Failures")] * bool(findings.failures)
    pairs, slices = _pairs(findings), _slices(findings)
    absent = {i for i, part in (("pairs", pairs), ("slices", slices)) if part is None}
    return {
        "title": comparison.title,
        "lede": provenance.lede(results),
        "origin": provenance.origin(results),
        "metric": metric_title(comparison.metric),
        "baseline": results.baseline,
        "answer": findings.answer,
        "unequal": findings.unequal,
        "limited": findings.limited,
        "failures": findings.failures,
        "equal": _equal(findings),
        "facts": provenance.facts(results),
        "sections": [(i, name) for i, name in sections if i not in absent],
        "several_seeds": any(len(found) > 1 for found in results.runs.values()),
        "main": _main(findings),
        "pairs": pairs,
        "slices": slices,
        "cost": _cost(findings),
        **provenance.settings(results),
        **provenance.provenance(results),
        "version": __version__,
        "finished": max((str(run.manifest.get("finished") or "") for run in runs), default=""),
    }


def _equal(findings: Findings) -> str:
    """What was found the same for all entries; empty where something was not, or where there is one entry."""
    results = findings.results
    if findings.unequal or len(results.names) < 2:
        return ""
    known = results.entry(results.names[0]).trials is not None
    text = "seeds, data, features, metrics, training budget, versions and machine are the same for all."
    if known:
        return f"Trials of tuning, {text}"
    return f"{text.capitalize()} How many trials the settings were chosen from is not on record."


def _main(findings: Findings) -> dict:
    results, found = findings.results, findings.table
    metric, against = results.comparison.metric, results.baseline is not None
    head: list = ["Model", *(metric_title(m) for m in found.metrics)]
    if against:
        head.append((metric_title(metric), f"against {results.baseline}"))
    parts = []
    for title, names in grouped(results):
        rows = []
        for name in names:
            cells = [cell(name, entry=name)]
            for c in found.cells[name].values():
                mark = "best" if c.rank == BEST else "second" if c.rank == SECOND else ""
                text = "-" if np.isnan(c.mean) else f"{c.mean:.{DIGITS}f}"
                spread = f"± {c.sd:.{DIGITS}f}" if c.seeds > 1 and not np.isnan(c.sd) else "n = 1" if not np.isnan(c.mean) else ""
                cells.append(cell(text, c.mean, sub=spread, mark=mark))
            if against:
                change = found.cells[name][metric].change
                cells.append(cell(percent(change), change))
            rows.append(row(cells, "base" if against and name == results.baseline else ""))
        parts.append({"title": title, "rows": rows})
    if len(results.names) > 1:
        sums = [cell(LEAD.capitalize()), *(cell(percent(found.lead[m])) for m in found.metrics)] + [cell("")] * against
        parts[-1]["rows"].append(row(sums, "sum"))
    return table("Test metrics", head, [], parts)


# -- pairs ------------------------------------------------------------------------------------------------------------

HEAD_PAIR = [
    ("Difference", "[95 % interval]"), ("t-test", "p, Holm"), ("Wilcoxon", "p, Holm"), ("Effect", "d_z"), ("Effect", "rank-biserial"),
    ("Users", "without a difference"),
]  # fmt: skip


def p_text(p: float) -> str:
    return "-" if np.isnan(p) else "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _signed(value: float, digits: int) -> str:
    """``+0.12``; what rounds to nothing has no sign."""
    return "-" if np.isnan(value) else f"{value:+.{digits}f}" if round(value, digits) else f"{0:.{digits}f}"


def _pair_cells(found: dict) -> list[dict]:
    interval = "" if np.isnan(found["ci95_low"]) else f"[{found['ci95_low']:+.4f}, {found['ci95_high']:+.4f}]"
    mark = "sig" if significant(found) else ""
    return [
        cell(_signed(found["mean_difference"], DIGITS), found["mean_difference"], sub=interval or found["not_tested"], mark=mark),
        cell(p_text(found["p_t_holm"]), found["p_t_holm"], mark="sig" if found["p_t_holm"] < LEVEL else ""),
        cell(p_text(found["p_wilcoxon_holm"]), found["p_wilcoxon_holm"], mark="sig" if found["p_wilcoxon_holm"] < LEVEL else ""),
        cell(_signed(found["cohen_d_z"], 2), found["cohen_d_z"]),
        cell(_signed(found["rank_biserial"], 2), found["rank_biserial"]),
        cell(str(found["users"]), found["users"], sub=str(found["users_equal"])),
    ]


def _range(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _pairs(findings: Findings) -> dict | None:
    results, tests = findings.results, findings.tests
    metric, names = results.comparison.metric, results.better_first(results.comparison.metric)
    here = tests[tests["metric"] == metric]
    if here.empty:
        return None
    title, best, count = metric_title(metric), names[0], len(here)
    rows = [of_pair(tests, metric, a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    against = [row([cell(r["b"], entry=r["b"]), *_pair_cells(r)]) for r in rows if r["a"] == best]
    every = [row([cell(r["a"], entry=r["a"]), cell(r["b"], entry=r["b"], left=True), *_pair_cells(r)]) for r in rows]
    left_out, seeds, made = int(here["users_left_out"].max()), sorted(set(here["seeds"])), int(here["p_t"].notna().sum())
    how = (
        f"Paired over users, by test {title}: a user's value is the mean over {_range(seeds)} {'seed' if seeds == [1] else 'seeds'}. "
        "Two-sided paired t-test and Wilcoxon signed-rank test (users without a difference left out, zero_method=wilcox; normal "
        f"approximation for many users), p corrected by Holm's step-down over the {made} {'pair' if made == 1 else 'pairs'} tested by "
        f"this metric. Bold: below {f'{LEVEL:g}'.removeprefix('0')}; a difference is called significant where both are."
    )
    if left_out:
        how += f" Up to {left_out} users are in the files of one model of a pair alone and are left out."
    reading = (
        "d_z: mean difference over the standard deviation of the users' differences (below .2 very small, then small, from .5 medium, from "
        ".8 large). Rank-biserial: from -1 (every user who differs is worse off) to +1 (every one better off). The tests ask whether the "
        "difference would hold for other users of this data set and these trained models, not for other data sets. All metrics: tests.csv."
    )
    return {
        "how": how,
        "reading": reading,
        "best": table(f"{best} against each other model", ["Model", *HEAD_PAIR], against) if count > 1 else None,
        "best_title": f"{best}, the best by {title}, against",
        "all": table(f"All pairs by {title}", ["Model", ("minus", "", True), *HEAD_PAIR], every),
        "count": count,
        "open": count <= 10,
    }


# -- slices and cost --------------------------------------------------------------------------------------------------


def _slices(findings: Findings) -> dict | None:
    results, slices = findings.results, findings.slices
    metric, made = results.comparison.metric, []
    items = slices[slices["of"] == "items"]
    if len(items):
        own = items["metric"].iloc[0]
        made.append(_slice_table(findings, items, ITEMS, f"Items: test {metric_title(own)} on a part of the items"))
    users = slices[(slices["of"] == "users") & (slices["metric"] == metric)]
    if len(users):
        parts = dict.fromkeys(QUARTERS, "")
        made.append(_slice_table(findings, users, parts, f"Users by activity: test {metric_title(metric)}"))
    if not made:
        return None
    how = " ".join(
        [
            "Mean over the users that have a test item in the slice; the standard deviation is over the seeds.",
            f"{'; '.join(ITEMS.values())}.".capitalize() if len(items) else "",
            "Quarters hold equally many users, by their training interactions; users with as many as a bound may stand on both sides."
            if len(users)
            else "",
            "Slices are described, not tested.",
        ]
    )  # fmt: skip
    return {"how": how, "tables": made}


def _slice_table(findings: Findings, slices, parts: dict, label: str) -> dict:
    shown = [part for part in parts if part in set(slices["slice"])]
    head: list = ["Model"]
    for part in shown:
        here = slices[slices["slice"] == part]
        low, high = int(here["users_min"].min()), int(here["users_max"].max())
        users = f"{low} users" if low == high else f"{low} to {high} users"
        bounds = next((b for b in here["bounds"] if b), "") if here["of"].iloc[0] == "users" else ""
        head.append((part.capitalize(), f"{bounds.replace(' training interactions', ' in training, ')}{users}"))
    body = []
    for name in findings.results.names:
        cells = [cell(name, entry=name)]
        for part in shown:
            found = slices[(slices["slice"] == part) & (slices["entry"] == name)]
            one = found.iloc[0] if len(found) else None
            if one is None or np.isnan(one["mean"]):
                cells.append(cell("-", np.nan))
            else:
                spread = f"± {one['sd']:.{DIGITS}f}" if one["seeds"] > 1 else "n = 1"
                best = slices[(slices["slice"] == part)]["mean"].round(DIGITS).max() == round(one["mean"], DIGITS)
                cells.append(cell(f"{one['mean']:.{DIGITS}f}", one["mean"], sub=spread, mark="best" if best else ""))
        body.append(row(cells))
    return table(label, head, body)


def _cost(findings: Findings) -> dict:
    cost = findings.cost
    gpu = bool(cost["gpu_peak_bytes"].notna().any())
    head: list = [
        "Model", ("Epoch", "seconds"), ("Training", "seconds"), ("Set-up", "seconds"), ("Test", "seconds"), ("Epochs", "best"),
        ("Peak memory", "GB"), *[("GPU memory", "GB")] * gpu, ("Parameters", "millions"),
    ]  # fmt: skip
    rows = []
    for one in cost.to_dict("records"):
        cells = [cell(one["entry"], entry=one["entry"])]
        cells += [cell(_seconds(one["seconds_epoch"]), one["seconds_epoch"])]
        spread = f"± {_seconds(one['seconds_train_sd'])}" if one["seeds"] > 1 else "n = 1"
        cells += [cell(_seconds(one["seconds_train"]), one["seconds_train"], sub=spread)]
        cells += [cell(_seconds(one[f"seconds_{part}"]), one[f"seconds_{part}"]) for part in ("set_up", "test")]
        cells += [cell(_number(one["epochs"], 0), one["epochs"], sub=_number(one["best_epoch"], 0))]
        cells += [cell(_number(one["peak_bytes"] / 1e9, 2), one["peak_bytes"])]
        cells += [cell(_number(one["gpu_peak_bytes"] / 1e9, 2), one["gpu_peak_bytes"])] * gpu
        cells += [cell(_number(one["parameters"] / 1e6, 3), one["parameters"])]
        rows.append(row(cells))
    return table("What it cost", head, rows)


def _seconds(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _number(value: float, digits: int) -> str:
    return "-" if np.isnan(value) else f"{value:.{digits}f}"

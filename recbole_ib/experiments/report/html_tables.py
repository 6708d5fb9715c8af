"""The page's tables as plain dicts of rows and cells that the template reads.

No HTML here, no numbers there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from recbole_ib.experiments.metrics import metric_title
from recbole_ib.experiments.report.style import grouped
from recbole_ib.experiments.report.tables import BEST, DIGITS, LEAD, SECOND, percent
from recbole_ib.experiments.statistics.pairwise import LEVEL, pair_row, significant
from recbole_ib.experiments.statistics.slices import ITEMS, QUARTERS

if TYPE_CHECKING:
    import pandas as pd

    from recbole_ib.experiments.report.findings import Findings


def cell(text: str, value: float | None = None, **more: object) -> dict:
    """Return a cell: ``value`` is what its column is sorted by (NaN last)."""
    key = None if value is None else "" if np.isnan(value) else repr(float(value))
    return {"text": text, "value": key, "mark": "", "sub": "", "entry": None, "left": False} | more


def table(
    label: str, head: Sequence[str | tuple], rows: Iterable[dict], parts: Sequence[dict] | None = None
) -> dict:
    """Return a table; ``head``: texts, or (text, unit), or (text, unit, True) for a column of text."""
    heads = [(h, "", False) if isinstance(h, str) else (*h, False)[:3] for h in head]
    columns = [{"text": text, "unit": unit, "left": left} for text, unit, left in heads]
    return {
        "label": label,
        "head": columns,
        "parts": parts if parts is not None else [{"title": "", "rows": list(rows)}],
    }


def row(cells: list[dict], mark: str = "") -> dict:
    """Return a row; ``mark``: its CSS class."""
    return {"cells": cells, "mark": mark}


# -- main table ----------------------------------------------------------------------------------------------


def main_table(findings: Findings) -> dict:
    """Return the test metrics of all entries."""
    results, metrics = findings.results, findings.table
    metric, against = results.comparison.metric, results.baseline is not None
    head: list = ["Model", *(metric_title(m) for m in metrics.metrics)]
    if against:
        head.append((metric_title(metric), f"against {results.baseline}"))
    parts: list[dict] = []
    for title, names in grouped(results):
        rows = []
        for name in names:
            cells = [cell(name, entry=name)]
            for c in metrics.cells[name].values():
                mark = "best" if c.rank == BEST else "second" if c.rank == SECOND else ""
                text = "-" if np.isnan(c.mean) else f"{c.mean:.{DIGITS}f}"
                spread = (
                    f"± {c.sd:.{DIGITS}f}"
                    if c.seeds > 1 and not np.isnan(c.sd)
                    else "n = 1"
                    if not np.isnan(c.mean)
                    else ""
                )
                cells.append(cell(text, c.mean, sub=spread, mark=mark))
            if against:
                change = metrics.cells[name][metric].change
                cells.append(cell(percent(change), change))
            rows.append(row(cells, "base" if against and name == results.baseline else ""))
        parts.append({"title": title, "rows": rows})
    if len(results.names) > 1:
        sums = [cell(LEAD.capitalize()), *(cell(percent(metrics.lead[m])) for m in metrics.metrics)] + [
            cell("")
        ] * against
        parts[-1]["rows"].append(row(sums, "sum"))
    return table("Test metrics", head, [], parts)


# -- pairs ---------------------------------------------------------------------------------------------------

HEAD_PAIR = [
    ("Difference", "[95 % interval]"), ("t-test", "p, Holm"), ("Wilcoxon", "p, Holm"), ("Effect", "d_z"),
    ("Effect", "rank-biserial"), ("Users", "without a difference"),
]  # fmt: skip


def p_text(p: float) -> str:
    """Return a p value as people write it: ``.012``, ``< .001``, a dash for NaN."""
    return "-" if np.isnan(p) else "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _signed(value: float, digits: int) -> str:
    """Return ``+0.12``; what rounds to nothing has no sign."""
    return "-" if np.isnan(value) else f"{value:+.{digits}f}" if round(value, digits) else f"{0:.{digits}f}"


def _pair_cells(pair: dict) -> list[dict]:
    interval = "" if np.isnan(pair["ci95_low"]) else f"[{pair['ci95_low']:+.4f}, {pair['ci95_high']:+.4f}]"
    mark = "sig" if significant(pair) else ""
    return [
        cell(
            _signed(pair["mean_difference"], DIGITS),
            pair["mean_difference"],
            sub=interval or pair["not_tested"],
            mark=mark,
        ),
        cell(p_text(pair["p_t_holm"]), pair["p_t_holm"], mark="sig" if pair["p_t_holm"] < LEVEL else ""),
        cell(
            p_text(pair["p_wilcoxon_holm"]),
            pair["p_wilcoxon_holm"],
            mark="sig" if pair["p_wilcoxon_holm"] < LEVEL else "",
        ),
        cell(_signed(pair["cohen_d_z"], 2), pair["cohen_d_z"]),
        cell(_signed(pair["rank_biserial"], 2), pair["rank_biserial"]),
        cell(str(pair["users"]), pair["users"], sub=str(pair["users_equal"])),
    ]


def _range(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def pair_tables(findings: Findings) -> dict | None:
    """Return the tests of all pairs, and how they were made; ``None`` where there is no pair."""
    results, tests = findings.results, findings.tests
    metric, names = results.comparison.metric, results.better_first(results.comparison.metric)
    pairs = tests[tests["metric"] == metric]
    if pairs.empty:
        return None
    title, best, count = metric_title(metric), names[0], len(pairs)
    rows = [pair_row(tests, metric, a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    against = [row([cell(r["b"], entry=r["b"]), *_pair_cells(r)]) for r in rows if r["a"] == best]
    every = [
        row([cell(r["a"], entry=r["a"]), cell(r["b"], entry=r["b"], left=True), *_pair_cells(r)])
        for r in rows
    ]
    left_out, seeds, tested = (
        int(pairs["users_left_out"].max()),
        sorted(set(pairs["seeds"])),
        int(pairs["p_t"].notna().sum()),
    )
    how = (
        f"Paired over users, by test {title}: a user's value is the mean over {_range(seeds)} "
        f"{'seed' if seeds == [1] else 'seeds'}. Two-sided paired t-test and Wilcoxon signed-rank test "
        "(users without a difference left out, zero_method=wilcox; normal approximation for many users), p "
        f"corrected by Holm's step-down over the {tested} {'pair' if tested == 1 else 'pairs'} tested by "
        f"this metric. Bold: below {f'{LEVEL:g}'.removeprefix('0')}; a difference is called significant "
        "where both are."
    )
    if left_out:
        how += f" Up to {left_out} users are in the files of one model of a pair alone and are left out."
    reading = (
        "d_z: mean difference over the standard deviation of the users' differences (below .2 very small, "
        "then small, from .5 medium, from .8 large). Rank-biserial: from -1 (every user who differs is worse "
        "off) to +1 (every one better off). The tests ask whether the difference would hold for other users "
        "of this data set and these trained models, not for other data sets. All metrics: tests.csv."
    )
    return {
        "how": how,
        "reading": reading,
        "best": table(f"{best} against each other model", ["Model", *HEAD_PAIR], against)
        if count > 1
        else None,
        "best_title": f"{best}, the best by {title}, against",
        "all": table(f"All pairs by {title}", ["Model", ("minus", "", True), *HEAD_PAIR], every),
        "count": count,
        "open": count <= 10,
    }


# -- slices and cost -----------------------------------------------------------------------------------------


def slice_tables(findings: Findings) -> dict | None:
    """Return the tables of items and of users, and how to read them.

    ``None`` where no users' metrics were kept.
    """
    slices, metric = findings.slices, findings.results.comparison.metric
    tables = []
    items = slices[slices["of"] == "items"]
    if len(items):
        cut_off = items["metric"].iloc[0]
        tables.append(
            _slice_table(
                findings, items, ITEMS, f"Items: test {metric_title(cut_off)} on a part of the items"
            )
        )
    users = slices[(slices["of"] == "users") & (slices["metric"] == metric)]
    if len(users):
        parts = dict.fromkeys(QUARTERS, "")
        tables.append(_slice_table(findings, users, parts, f"Users by activity: test {metric_title(metric)}"))
    if not tables:
        return None
    how = " ".join(
        [
            (
                "Mean over the users that have a test item in the slice; the standard deviation is over the "
                "seeds."
            ),
            f"{'; '.join(ITEMS.values())}.".capitalize() if len(items) else "",
            (
                "Quarters hold equally many users, by their training interactions; users with as many as a "
                "bound may stand on both sides."
            )
            if len(users)
            else "",
            "Slices are described, not tested.",
        ]
    )
    return {"how": how, "tables": tables}


def _slice_table(findings: Findings, slices: pd.DataFrame, parts: Mapping[str, str], label: str) -> dict:
    shown = [part for part in parts if part in set(slices["slice"])]
    head: list = ["Model"]
    for part in shown:
        members = slices[slices["slice"] == part]
        low, high = int(members["users_min"].min()), int(members["users_max"].max())
        users = f"{low} users" if low == high else f"{low} to {high} users"
        bounds = next((b for b in members["bounds"] if b), "") if members["of"].iloc[0] == "users" else ""
        head.append(
            (part.capitalize(), f"{bounds.replace(' training interactions', ' in training, ')}{users}")
        )
    body = []
    for name in findings.results.names:
        cells = [cell(name, entry=name)]
        for part in shown:
            rows = slices[(slices["slice"] == part) & (slices["entry"] == name)]
            value = rows.iloc[0] if len(rows) else None
            if value is None or np.isnan(value["mean"]):
                cells.append(cell("-", np.nan))
            else:
                spread = f"± {value['sd']:.{DIGITS}f}" if value["seeds"] > 1 else "n = 1"
                best = slices[(slices["slice"] == part)]["mean"].round(DIGITS).max() == round(
                    value["mean"], DIGITS
                )
                cells.append(
                    cell(
                        f"{value['mean']:.{DIGITS}f}", value["mean"], sub=spread, mark="best" if best else ""
                    )
                )
        body.append(row(cells))
    return table(label, head, body)


def efficiency_table(findings: Findings) -> dict:
    """Return the means over the seeds of seconds, epochs, memory and parameters."""
    cost = findings.cost
    gpu = bool(cost["gpu_peak_bytes"].notna().any())
    head: list = [
        "Model", ("Epoch", "seconds"), ("Training", "seconds"), ("Set-up", "seconds"), ("Test", "seconds"),
        ("Epochs", "best"), ("Peak memory", "GB"), *[("GPU memory", "GB")] * gpu, ("Parameters", "millions"),
    ]  # fmt: skip
    rows = []
    for record in cost.to_dict("records"):
        cells = [cell(record["entry"], entry=record["entry"])]
        cells += [cell(_seconds(record["seconds_epoch"]), record["seconds_epoch"])]
        spread = f"± {_seconds(record['seconds_train_sd'])}" if record["seeds"] > 1 else "n = 1"
        cells += [cell(_seconds(record["seconds_train"]), record["seconds_train"], sub=spread)]
        cells += [
            cell(_seconds(record[f"seconds_{part}"]), record[f"seconds_{part}"])
            for part in ("set_up", "test")
        ]
        cells += [cell(_number(record["epochs"], 0), record["epochs"], sub=_number(record["best_epoch"], 0))]
        cells += [cell(_number(record["peak_bytes"] / 1e9, 2), record["peak_bytes"])]
        cells += [cell(_number(record["gpu_peak_bytes"] / 1e9, 2), record["gpu_peak_bytes"])] * gpu
        cells += [cell(_number(record["parameters"] / 1e6, 3), record["parameters"])]
        rows.append(row(cells))
    return table("What it cost", head, rows)


def _seconds(value: float) -> str:
    return (
        "-"
        if np.isnan(value)
        else f"{value:.0f}"
        if value >= 100
        else f"{value:.1f}"
        if value >= 10
        else f"{value:.2f}"
    )


def _number(value: float, digits: int) -> str:
    return "-" if np.isnan(value) else f"{value:.{digits}f}"

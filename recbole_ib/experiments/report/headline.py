"""The result of a comparison in two or three sentences that claim no more than the tests do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recbole_ib.experiments.metrics import metric_title, smaller_is_better
from recbole_ib.experiments.report.tables import BEST, DIGITS, Cell, Table
from recbole_ib.experiments.results import Results
from recbole_ib.experiments.statistics.paired_tests import effect_word
from recbole_ib.experiments.statistics.pairwise import LEVEL, pair_row, significant

if TYPE_CHECKING:
    import pandas as pd


def headline(results: Results, table: Table, tests: pd.DataFrame) -> list[str]:
    """Return sentences about the best model by the metric.

    They say its lead, which leads are significant, and how large they are.
    """
    metric = results.comparison.metric
    order = results.better_first(metric)
    cell = table.cells[order[0]][metric]
    if len(order) == 1:
        return [
            (
                f"{order[0]} reached a test {metric_title(metric)} of {_spread(cell)}; with one model there "
                "is nothing to compare."
            )
        ]
    shared = [name for name in order if table.cells[name][metric].rank == BEST]
    if len(shared) > 1:
        first = f"{_and(shared)} share the best test {metric_title(metric)}: {_spread(cell)}."
    else:
        first = (
            f"{order[0]} has the best test {metric_title(metric)}, "
            f"{_spread(cell)}{_leads(results, table, order)}."
        )
    others = [name for name in order[1:] if name not in shared]
    if not others:
        return [first]
    owner = "its" if len(shared) == 1 else f"{order[0]}'s"
    return [first, *_significance(results, tests, order[0], others, owner)]


def _leads(results: Results, table: Table, order: list[str]) -> str:
    metric, base = results.comparison.metric, results.baseline
    parts = []
    if not np.isnan(table.lead[metric]):
        parts.append(f"{_share(table.lead[metric])} {order[1]}, the second")
    change = table.cells[order[0]][metric].change
    if base == order[0]:
        parts.append("it is the baseline itself")
    elif base == order[1] and parts:
        parts[0] += " and the baseline"
    elif not np.isnan(change):
        parts.append(f"{_share(change)} {base}, the baseline")
    return f": {', and '.join(parts)}" if parts else ""


def _share(change: float) -> str:
    return f"{abs(100 * change):.1f} % {'above' if change >= 0 else 'below'}"


def _spread(cell: Cell) -> str:
    if cell.seeds < 2:
        return f"{cell.mean:.{DIGITS}f} (one seed, no spread)"
    return (
        f"{cell.mean:.{DIGITS}f} ± {cell.sd:.{DIGITS}f} (mean ± standard deviation over {cell.seeds} seeds)"
    )


def _significance(
    results: Results, tests: pd.DataFrame, best: str, others: list[str], owner: str
) -> list[str]:
    """Return which leads over the models that do not share the first place are significant.

    ``owner`` is the first's name in the text.
    """
    metric, title = results.comparison.metric, owner[0].upper() + owner[1:]
    if tests.empty or metric not in set(tests["metric"]):
        return ["No difference was tested: the values of single users were not kept (per_user)."]
    rows = {name: pair_row(tests, metric, best, name) for name in others}
    tested = {name: row for name, row in rows.items() if not np.isnan(row["p_t_holm"])}
    if not tested:
        reasons = sorted({row["not_tested"] for row in rows.values() if row["not_tested"]})
        return [f"No difference between {best} and the others could be tested: {'; '.join(reasons)}."]
    count = int(tests[tests["metric"] == metric]["p_t"].notna().sum())
    users = sorted({int(row["users"]) for row in tested.values()})
    over = f"{users[0]} users" if len(users) == 1 else f"{users[0]} to {users[-1]} users"
    one_pair = "" if count == 1 else f", Holm's correction over {count} pairs"
    how = f"paired t-test and Wilcoxon test over {over}{one_pair}, p < {LEVEL:g} in both".replace("0.", ".")
    # a lead over the users that were compared; with different splits it may point the other way than the
    # means of the table
    sign = -1 if smaller_is_better(metric) else 1
    won = [name for name, row in tested.items() if significant(row) and sign * row["mean_difference"] > 0]
    lost = [name for name, row in tested.items() if significant(row) and sign * row["mean_difference"] < 0]
    open_ones = [name for name in tested if name not in won and name not in lost]
    untested = [name for name in others if name not in tested]
    if not won and not lost:
        text = (
            f"None of {owner} leads is significant ({how}): this comparison does not establish that {best} "
            f"is better than {_and(open_ones) if len(open_ones) < 4 else 'the others'}."
        )
    elif not open_ones and not lost:
        text = f"{title} lead over {_all_of(won, len(tested))} is significant ({how})."
    else:
        text = (
            f"{title} lead over {_and(won)} is significant ({how})"
            if won
            else f"No lead of its own is significant ({how})"
        )
        text += f"; over {_and(open_ones)} it is not established" if open_ones else ""
        text += f"; among the users compared {_and(lost)} is significantly better" if lost else ""
        text += "."
    if untested:
        text += f" Not tested against {_and(untested)}."
    return [text, _size(results, tested)]


def _size(results: Results, tested: dict[str, dict]) -> str:
    second = next(iter(tested))
    names = [second] + (
        [results.baseline] if results.baseline in tested and results.baseline != second else []
    )
    parts = []
    for name in names:
        row = tested[name]
        d_z, rank = row["cohen_d_z"], row["rank_biserial"]
        size = "of unknown size" if np.isnan(d_z) else effect_word(d_z)
        parts.append(f"from {name} is {size} (Cohen's d_z {d_z:+.2f}, rank-biserial {rank:+.2f})")
    return f"User by user, the difference {', that '.join(parts)}."


def _all_of(names: list[str], count: int) -> str:
    if count <= 3:
        return _and(names)
    return f"each of the {count} other models"


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

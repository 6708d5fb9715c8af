"""The main table of a comparison, in Markdown, LaTeX and CSV: mean and standard deviation over the seeds."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from recbole_ib.experiments.metrics import metric_title, smaller_is_better
from recbole_ib.experiments.results import Results

DIGITS = 4
BEST, SECOND = 1, 2
LEAD = "best over second"


@dataclass(frozen=True)
class Cell:
    """A metric of an entry.

    ``sd`` is NaN for one seed; ``rank``: 1 best, 2 second, else 0; ``change``: relative, against the
    baseline.
    """

    mean: float
    sd: float
    seeds: int
    rank: int
    change: float

    @property
    def text(self) -> str:
        """Mean and standard deviation as the tables print them."""
        if np.isnan(self.mean):
            return "-"
        return f"{self.mean:.{DIGITS}f}" + (f" ± {self.sd:.{DIGITS}f}" if self.seeds > 1 else "")


@dataclass(frozen=True)
class Table:
    """The numbers of the main table.

    ``cells``: entry -> metric -> cell; ``lead``: metric -> relative change of the best over the second, NaN
    where they share.
    """

    metrics: list[str]
    cells: dict[str, dict[str, Cell]]
    lead: dict[str, float]


def main_table(results: Results) -> Table:
    """Return all test metrics of all entries.

    Best and second are judged by what is shown (4 digits): entries that look equal share their place, and
    where several are best there is no second. Changes are ratios of the means over the seeds, minus 1.
    """
    cells: dict[str, dict[str, Cell]] = {name: {} for name in results.names}
    lead = {}
    for metric in results.metrics:
        values = {name: results.values(name, metric) for name in results.names}
        means = {name: float(v.mean()) for name, v in values.items()}
        ranks, lead[metric] = _ranks(means, smaller_is_better(metric))
        base = np.nan if results.baseline is None else means.get(results.baseline, np.nan)
        for name, v in values.items():
            change = np.nan if name == results.baseline else _ratio(means[name], base)
            sd = float(v.std(ddof=1)) if len(v) > 1 else np.nan
            cells[name][metric] = Cell(means[name], sd, len(v), ranks.get(name, 0), change)
    return Table(results.metrics, cells, lead)


def _ratio(value: float, base: float) -> float:
    return value / base - 1 if base else float("nan")


def _ranks(means: dict[str, float], smaller: bool) -> tuple[dict[str, int], float]:
    shown = {name: round(mean, DIGITS) for name, mean in means.items() if not np.isnan(mean)}
    levels = sorted(set(shown.values()), reverse=not smaller)
    best = [name for name in shown if shown[name] == levels[0]]
    if len(best) > 1 or len(levels) < 2:
        return dict.fromkeys(best, BEST) if len(shown) > 1 else {}, float("nan")
    second = [name for name in shown if shown[name] == levels[1]]
    sign = -1 if smaller else 1
    nearest_mean = sign * max(sign * means[name] for name in second)
    return {best[0]: BEST, **dict.fromkeys(second, SECOND)}, _ratio(means[best[0]], nearest_mean)


def percent(change: float) -> str:
    """Return a relative change in percent, a dash for NaN."""
    return "-" if np.isnan(change) else f"{100 * change:+.1f} %"


def markdown_table(results: Results, table: Table) -> str:
    """Return two tables: the metrics (best bold, second underlined), and the changes against the baseline."""
    head = [metric_title(m) for m in table.metrics]
    rows = [[_md(name), *(_mark_md(cell) for cell in cells.values())] for name, cells in table.cells.items()]
    rows.append([LEAD, *(percent(table.lead[m]) for m in table.metrics)])
    parts = [_md_rows(["model", *head], rows)]
    if results.baseline is not None:
        others = {name: cells for name, cells in table.cells.items() if name != results.baseline}
        rows = [
            [_md(name), *(percent(cell.change) for cell in cells.values())] for name, cells in others.items()
        ]
        parts += [f"Change against {_md(results.baseline)}:", _md_rows(["model", *head], rows)]
    return "\n\n".join(parts)


def _md_rows(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def _md(text: str) -> str:
    return re.sub(r"([|*_`<\[\]\\])", r"\\\1", text)


def _mark_md(cell: Cell) -> str:
    return (
        f"**{cell.text}**"
        if cell.rank == BEST
        else f"<u>{cell.text}</u>"
        if cell.rank == SECOND
        else cell.text
    )


#: what LaTeX reads as its own
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip


def latex_text(text: str) -> str:
    """Return a text that LaTeX prints as it is."""
    return "".join(LATEX.get(letter, letter) for letter in text)


def latex_table(results: Results, table: Table, caption: str) -> str:
    r"""Return a ``table*`` with booktabs; LaTeX's preamble needs ``\usepackage{booktabs}``."""
    names, metric = results.names, results.comparison.metric
    against = results.baseline is not None
    head = ["Model", *(latex_text(metric_title(m)) for m in table.metrics)]
    if against:
        head.append(rf"$\Delta$ {latex_text(metric_title(metric))}")
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table*}[t]",
        r"\centering",
        rf"\caption{{{latex_text(caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
    ]
    for name in names:
        row = [latex_text(name), *(_mark_latex(cell) for cell in table.cells[name].values())]
        lines.append(" & ".join(row + [_latex_percent(table.cells[name][metric].change)] * against) + r" \\")
    if len(names) > 1:
        row = [LEAD.capitalize(), *(_latex_percent(table.lead[m]) for m in table.metrics)]
        lines += [r"\midrule", " & ".join(row + [""] * against) + r" \\"]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""])


def _latex_percent(change: float) -> str:
    return "--" if np.isnan(change) else f"${100 * change:+.1f}\\,\\%$"


def _mark_latex(cell: Cell) -> str:
    if np.isnan(cell.mean):
        return "--"
    text = f"{cell.mean:.{DIGITS}f}"
    text = (
        rf"\textbf{{{text}}}"
        if cell.rank == BEST
        else rf"\underline{{{text}}}"
        if cell.rank == SECOND
        else text
    )
    return text + (rf" {{\small$\pm${cell.sd:.{DIGITS}f}}}" if cell.seeds > 1 else "")


def csv_table(table: Table) -> pd.DataFrame:
    """Return table.csv: a row per entry, all digits.

    Columns: ``METRIC_mean``, ``_sd``, ``_change``; the last row, :data:`LEAD`, has changes alone.
    """
    rows: list[dict] = []
    for name, cells in table.cells.items():
        row: dict = {"entry": name, "seeds": next(iter(cells.values())).seeds}
        for metric, cell in cells.items():
            row |= {f"{metric}_mean": cell.mean, f"{metric}_sd": cell.sd, f"{metric}_change": cell.change}
        rows.append(row)
    rows.append({"entry": LEAD} | {f"{metric}_change": table.lead[metric] for metric in table.metrics})
    return pd.DataFrame(rows).astype({"seeds": "Int64"})

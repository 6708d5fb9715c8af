"""The report of a comparison: from the manifests of its runs to tables, tests, charts and one page."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_ib.experiments.metrics import metric_title
from recbole_ib.experiments.report import charts, html, tables
from recbole_ib.experiments.report.findings import Findings, compute_findings
from recbole_ib.experiments.report.provenance import lede, origin
from recbole_ib.experiments.report.style import styles
from recbole_ib.experiments.results import Comparison
from recbole_ib.experiments.statistics.efficiency import user_table
from recbole_ib.utils.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: what a report may hold; a file of an earlier report that this one does not write again is removed
FILES = (
    "report.html", "table.md", "table.csv", "table.tex", "tests.csv", "slices.csv", "cost.csv", "curves.csv",
    "per_user.parquet", "bars.png", "curves.png", "slices.png", "cost.png", "pairs.png",
)  # fmt: skip


def write_report(comparison: Comparison, out: Path) -> Path:
    """Write the report of a comparison into a folder; other files there stay as they are.

    Returns:
        ``report.html``.

    Raises:
        ConfigurationError: a run that cannot be read, or a name that is unknown; nothing is written then.
    """
    findings, out = compute_findings(comparison), Path(out)
    figures = _figures(findings)
    contents = _files(findings)
    contents |= {
        f"{name}.png": html.png_bytes(figure, origin(findings.results))
        for name, (figure, _, _) in figures.items()
    }
    pictures = {name: html.picture(*figure) for name, figure in figures.items()}
    beside = [name for name in FILES if name in contents]
    contents["report.html"] = html.render(findings, pictures, styles(findings.results.names), beside).encode()
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if name not in contents:
            (out / name).unlink(missing_ok=True)
    # the page last: where it is, all that it names is
    for name in (*beside, "report.html"):
        with atomic_write(out / name) as scratch:
            scratch.write_bytes(contents[name])
    return out / "report.html"


def _files(findings: Findings) -> dict[str, bytes]:
    """Return the contents of the tables, by file name."""
    results = findings.results
    metric = metric_title(results.comparison.metric)
    seeds = ", ".join(map(str, results.seeds))
    spread = (
        "mean ± standard deviation over the seeds"
        if len(results.seeds) > 1
        else "one seed (n = 1), no spread"
    )
    caption = (
        f"{results.comparison.title}. Test metrics on {results.comparison.dataset}, "
        f"{spread.replace('±', 'and')}; seeds {seeds}."
    )
    text = [
        f"# {results.comparison.title}",
        lede(results),
        " ".join(findings.headline),
        *(f"**Not on equal terms**: {text}" for text in findings.unequal),
        *(f"**Not trained to the end**: {text}" for text in findings.stopped),
        *(f"**Failed**: {text}" for text in findings.failures),
        (
            f"Test metrics, {spread}; bold: best, underlined: second. Tests and charts: {metric}. "
            f"{origin(results)}"
        ),
        tables.markdown_table(results, findings.table),
    ]
    files = {
        "table.md": "\n\n".join(text) + "\n",
        "table.tex": tables.latex_table(results, findings.table, caption),
        "table.csv": _csv(tables.csv_table(findings.table)),
        "tests.csv": _csv(findings.tests),
        "slices.csv": _csv(findings.slices),
        "cost.csv": _csv(findings.cost),
        "curves.csv": _csv(findings.curves),
    }
    contents = {name: content.encode() for name, content in files.items()}
    users = user_table(results)
    if users is not None:
        contents["per_user.parquet"] = _parquet(users)
    return contents


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, lineterminator="\n")


def _parquet(table: pd.DataFrame) -> bytes:
    content = io.BytesIO()
    table.to_parquet(content, index=False, compression="zstd", compression_level=9)
    return content.getvalue()


def _figures(findings: Findings) -> dict[str, tuple[Figure, str, str]]:
    """Return name -> (figure, text in its place, caption), without the charts that have nothing to show.

    The text is for those who do not see the figure.
    """
    results, metric = findings.results, metric_title(findings.results.comparison.metric)
    several = any(len(runs) > 1 for runs in results.runs.values())
    bars = "Bars: ± 1 standard deviation over the seeds." if several else "One seed: no spread."
    order = results.better_first(results.comparison.metric)
    ranked = ", ".join(f"{name} {results.mean(name, results.comparison.metric):.4f}" for name in order)
    dashed = f" Dashed: {results.baseline}, the baseline." if results.baseline else ""
    dots = " Ticks: single seeds." if several else ""
    figures = {
        "bars": (
            charts.draw_bars(results),
            f"Bar chart of test {metric}, best first: {ranked}",
            f"Test {metric}. {bars}{dots}{dashed}",
        ),
        "pairs": (
            charts.draw_pairs(results, findings.tests),
            f"Heat map of Cohen's d_z between all pairs of models by test {metric}",
            (
                f"Cohen's d_z of the row's model over the column's, by test {metric}. Star and bold: both "
                "corrected tests below .05."
            ),
        ),
        "slices": (
            charts.draw_slices(results, findings.slices),
            (
                "Charts of the metric on head, tail and cold items, and for users by activity; the numbers "
                "stand in the tables above"
            ),
            f"The metric on parts of the items and of the users. {bars}",
        ),
        "curves": (
            charts.draw_curves(results, findings.curves),
            "Validation score of every model by epoch and by seconds",
            (
                "Validation score after every evaluation. Thin: single runs; thick: their mean, as far as "
                "all seeds were still training."
            ),
        ),
        "cost": (
            charts.draw_cost(results, findings.cost),
            (
                f"Scatter chart of test {metric} against seconds of training; the seconds stand in the table "
                "above"
            ),
            (
                f"Test {metric} against what its training took: further left is cheaper, further up better. "
                f"{bars}"
            ),
        ),
    }
    return {
        name: (figure, text, caption)
        for name, (figure, text, caption) in figures.items()
        if figure is not None
    }

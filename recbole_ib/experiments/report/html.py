"""report.html: one page that a person can read, with everything it shows inside it."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_ib.experiments.metrics import metric_title
from recbole_ib.experiments.report import html_tables, provenance
from recbole_ib.experiments.report.style import Style
from recbole_ib.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from recbole_ib.experiments.report.findings import Findings

TEMPLATES = Path(__file__).with_name("templates")
#: points of a chart's size to pixels of the page
PIXELS = 100


@dataclass(frozen=True)
class Picture:
    """A chart inside the page."""

    uri: str
    width: int
    height: int
    alt: str
    caption: str


def picture(figure: Figure, alt: str, caption: str) -> Picture:
    """Return a figure as a data URI.

    PNG: with few colors it is shorter than SVG, from three models on and for every chart of these.
    """
    uri = f"data:image/png;base64,{base64.b64encode(png_bytes(figure)).decode('ascii')}"
    width, height = figure.get_size_inches()
    return Picture(uri, round(width * PIXELS), round(height * PIXELS), alt, caption)


def _lay_out(figure: Figure) -> None:
    """Place everything once: every further drawing would move it by a pixel, and take its time."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def png_bytes(figure: Figure, foot: str = "") -> bytes:
    """Return a figure as PNG of at most 256 colors.

    They are chosen by how much they are used: a third of the bytes. ``foot``: a line below the figure.
    """
    from PIL import Image

    _lay_out(figure)
    raw, small = io.BytesIO(), io.BytesIO()
    line = figure.text(0.5, -0.01, foot.replace("$", r"\$"), ha="center", va="top", fontsize=7, color="0.4")
    figure.savefig(raw, format="png", dpi=2 * PIXELS, bbox_inches="tight" if foot else None)
    line.remove()
    image = (
        Image.open(raw)
        .convert("RGB")
        .quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    )
    image.save(small, format="png", optimize=True)
    return small.getvalue()


def render(
    findings: Findings, pictures: dict[str, Picture], styles: dict[str, Style], beside: list[str]
) -> str:
    """Return the page's text."""
    import jinja2
    import markupsafe

    def indexed(text: str) -> markupsafe.Markup:
        """Return a text with ``d_z`` as it is written in mathematics."""
        return markupsafe.escape(text).replace("d_z", markupsafe.Markup("<i>d</i><sub>z</sub>"))

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["indexed"] = indexed
    context = page_context(findings)
    return environment.get_template("report.html.j2").render(
        **context, charts=pictures, styles=styles, beside=", ".join(beside)
    )


def page_context(findings: Findings) -> dict:
    """Return everything that the template reads but the charts."""
    results = findings.results
    comparison, runs = results.comparison, results.all_runs
    sections = [
        ("results", "Results"),
        ("pairs", "Pairs"),
        ("slices", "Slices"),
        ("training", "Training and cost"),
    ]
    sections += [("settings", "Settings"), ("provenance", "Provenance")] + [("failures", "Failures")] * bool(
        findings.failures
    )
    pairs, slices = html_tables.pair_tables(findings), html_tables.slice_tables(findings)
    absent = {i for i, part in (("pairs", pairs), ("slices", slices)) if part is None}
    return {
        "title": comparison.title,
        "lede": provenance.lede(results),
        "origin": provenance.origin(results),
        "metric": metric_title(comparison.metric),
        "baseline": results.baseline,
        "headline": findings.headline,
        "unequal": findings.unequal,
        "stopped": findings.stopped,
        "failures": findings.failures,
        "equal": _equal(findings),
        "facts": provenance.facts(results),
        "sections": [(i, name) for i, name in sections if i not in absent],
        "several_seeds": any(len(entry_runs) > 1 for entry_runs in results.runs.values()),
        "main": html_tables.main_table(findings),
        "pairs": pairs,
        "slices": slices,
        "cost": html_tables.efficiency_table(findings),
        **provenance.settings(results),
        **provenance.provenance(results),
        "version": __version__,
        "finished": max((str(run.manifest.get("finished") or "") for run in runs), default=""),
    }


def _equal(findings: Findings) -> str:
    """Return what is the same for all entries; empty where something was not, or where there is one entry."""
    results = findings.results
    if findings.unequal or len(results.names) < 2:
        return ""
    recorded = results.entry(results.names[0]).trials is not None
    text = "seeds, data, features, metrics, training budget, versions and machine are the same for all."
    if recorded:
        return f"Trials of tuning, {text}"
    return f"{text.capitalize()} How many trials the settings were chosen from is not on record."

"""The charts: colors that all can tell apart, one look for an entry in all of them, and what stands in them."""

import base64
import io
import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from recbole_ib.experiments.report import charts
from recbole_ib.experiments.report.html import picture, png_bytes
from recbole_ib.experiments.report.style import PALETTE, grouped, styles
from recbole_ib.experiments.results import read_results
from recbole_ib.experiments.statistics.efficiency import cost_table, curve_table
from recbole_ib.experiments.statistics.pairwise import compare_pairs
from recbole_ib.experiments.statistics.slices import slice_table
from tests.support.made_runs import Made, comparison_of, make_entry, plain_entry

#: Machado, Oliveira, Fernandes 2009, severity 1: what the eye makes of linear RGB
SIGHT = {
    "full": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(color, sight):
    """CIE L*a*b* of a color as someone sees it."""
    rgb = np.array(to_rgb(color))
    linear = np.clip(np.array(sight) @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    x, y, z = np.array(to_xyz) @ linear / [0.95047, 1, 1.08883]
    f = [np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", SIGHT)
def test_any_two_colors_of_the_palette_differ_to_every_eye(sight):
    # 2.3 is just noticeable
    worst = min(np.linalg.norm(lab(a, SIGHT[sight]) - lab(b, SIGHT[sight])) for a, b in itertools.combinations(PALETTE, 2))
    assert worst > 12


def test_every_entry_has_a_look_of_its_own_also_beyond_the_palette():
    found = styles([f"M{i}" for i in range(3 * len(PALETTE))])
    assert len({(look.color, look.hatch) for look in found.values()}) == len(found)
    assert found["M0"].hatch == "" != found[f"M{len(PALETTE)}"].hatch


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    makes = [Made("A$1$", epochs=30), Made("B", 0.2, epochs=40, seconds=30), Made("C", 0.3)]
    return read_results(comparison_of([make_entry(folder, made, [0, 1, 2], 80) for made in makes], groups={"parts": ["C", "B"]}))


def drawn(results):
    return {
        "bars": charts.draw_bars(results),
        "curves": charts.draw_curves(results, curve_table(results)),
        "slices": charts.draw_slices(results, slice_table(results)),
        "cost": charts.draw_cost(results, cost_table(results)),
        "pairs": charts.draw_pairs(results, compare_pairs(results)),
    }


def test_an_entry_has_its_color_in_every_chart(results):
    look, figures = styles(results.names), drawn(results)
    bars = figures["bars"].axes[0]
    order = [label.get_text().replace("\\", "").removesuffix(" (baseline)") for label in bars.get_yticklabels()]
    assert order == ["A$1$", "C", "B"]
    for name, bar in zip(order, bars.patches, strict=True):
        assert to_rgb(bar.get_facecolor()) == to_rgb(look[name].color)
        assert bar.get_width() == pytest.approx(results.mean(name, "recall@20"))
    for key in ("curves", "slices", "cost"):
        handles, labels = figures[key].axes[0].get_legend_handles_labels()
        assert [label.replace("\\", "") for label in labels] == results.names
        for handle, name in zip(handles, results.names, strict=True):
            line = handle if key == "curves" else handle.lines[0]
            assert to_rgb(line.get_color()) == to_rgb(look[name].color)


def test_curves_hold_every_run_and_the_mean_as_far_as_all_go(results):
    curves = curve_table(results)
    axes = charts.draw_curves(results, curves).axes[0]
    mean = next(line for line in axes.lines if line.get_label() == "B")
    own = curves[curves["entry"] == "B"]
    shortest = own.groupby("seed")["epoch"].max().min()
    assert mean.get_xdata()[-1] == shortest
    assert mean.get_ydata()[4] == pytest.approx(own[own["epoch"] == 4]["score"].mean())
    assert len(axes.lines) == 3 * 3 + 3
    assert curves["epoch"].min() == 0


def test_the_heat_map_holds_effects_and_stars(results):
    tests = compare_pairs(results)
    figure = charts.draw_pairs(results, tests)
    texts = {text.get_text() for text in figure.axes[0].texts}
    row = tests[(tests["metric"] == "recall@20") & (tests["a"] == "A$1$") & (tests["b"] == "C")].iloc[0]
    star = "*" if row["p_t_holm"] < 0.05 and row["p_wilcoxon_holm"] < 0.05 else ""
    assert {f"{row['cohen_d_z']:+.2f}{star}", f"{-row['cohen_d_z']:+.2f}{star}"} <= texts


def test_every_chart_is_a_picture_of_some_size(results):
    for figure in drawn(results).values():
        png, made = png_bytes(figure), picture(figure, "alt", "caption")
        assert png.startswith(b"\x89PNG")
        assert len(png) > 4000
        assert made.uri == "data:image/png;base64," + base64.b64encode(png).decode()
        assert (made.width, made.height) > (200, 200)


def test_a_line_below_is_in_the_file_and_not_left_in_the_chart(results):
    figure = charts.draw_pairs(results, compare_pairs(results))
    before = png_bytes(figure)
    assert Image.open(io.BytesIO(png_bytes(figure, "a $line$ below"))).size != Image.open(io.BytesIO(before)).size
    assert png_bytes(figure) == before


def test_colors_are_as_meant_in_the_file(results):
    picture = np.asarray(Image.open(io.BytesIO(png_bytes(charts.draw_bars(results)))).convert("RGB")).reshape(-1, 3).astype(int)
    for color in (*(look.color for look in styles(results.names).values()), "white"):
        meant = np.round(255 * np.array(to_rgb(color))).astype(int)
        assert (np.abs(picture - meant).max(axis=1) <= 2).mean() > 0.01, color


def test_what_there_is_nothing_of_is_not_drawn(tmp_path):
    results = read_results(comparison_of([plain_entry(tmp_path, "A", {0: [0.2, 0.4]}, curve=[], per_user=None)]))
    assert charts.draw_curves(results, curve_table(results)) is None
    assert charts.draw_pairs(results, compare_pairs(results)) is None
    assert charts.draw_bars(results) is not None
    assert grouped(results) == [("", ["A"])]

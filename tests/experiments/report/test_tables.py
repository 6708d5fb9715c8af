"""The main table: numbers against numpy, places and ties, and what Markdown and LaTeX need escaped."""

import io
import re

import numpy as np
import pandas as pd
import pytest

from recbole_ib.experiments.report.tables import (  # fmt: skip
    BEST,
    LEAD,
    SECOND,
    csv_table,
    latex_table,
    latex_text,
    main_table,
    markdown_table,
    percent,
)
from recbole_ib.experiments.results import read_results
from tests.support.made_runs import Made, comparison_of, make_entry, plain_entry


def table_of(entries, **more):
    results = read_results(comparison_of(entries, **more))
    return results, main_table(results)


def ranks(tmp_path, values):
    entries = [plain_entry(tmp_path, f"M{i}", {0: [v, v]}) for i, v in enumerate(values)]
    _, table = table_of(entries)
    return [cells["recall@20"].rank for cells in table.cells.values()], table.lead["recall@20"]


def test_means_deviations_and_changes_are_those_of_numpy(tmp_path):
    entries = [make_entry(tmp_path, made, [0, 1, 2], 80) for made in (Made("A"), Made("B", 0.3))]
    results, table = table_of(entries)
    for metric in table.metrics:
        a, b = (np.array([run.users[metric].mean() for run in results.runs[name]]) for name in "AB")
        cell = table.cells["B"][metric]
        assert (cell.mean, cell.sd, cell.seeds) == pytest.approx((b.mean(), b.std(ddof=1), 3))
        assert cell.change == pytest.approx(b.mean() / a.mean() - 1)
        assert np.isnan(table.cells["A"][metric].change)
        assert table.lead[metric] == pytest.approx(b.mean() / a.mean() - 1)
        assert cell.text == f"{b.mean():.4f} ± {b.std(ddof=1):.4f}"


@pytest.mark.parametrize(
    ("values", "expected", "lead"),
    [
        ([0.2, 0.4, 0.3], [0, BEST, SECOND], 0.4 / 0.3 - 1),
        ([0.4, 0.40001, 0.3], [BEST, BEST, 0], np.nan),
        ([0.5, 0.3, 0.3, 0.1], [BEST, SECOND, SECOND, 0], 0.5 / 0.3 - 1),
        ([0.3, 0.3], [BEST, BEST], np.nan),
        ([0.3], [0], np.nan),
        ([0.3, 0.0], [BEST, SECOND], np.nan),
    ],
)
def test_places_are_shared_by_what_looks_equal(tmp_path, values, expected, lead):
    found, over = ranks(tmp_path, values)
    assert found == expected
    assert over == pytest.approx(lead, nan_ok=True)


def test_a_smaller_value_is_better_where_recbole_says_so(tmp_path):
    results, _ = table_of([plain_entry(tmp_path, name, {0: [0.1, 0.2]}) for name in "AB"])
    for name, value in (("A", 0.5), ("B", 0.4)):
        results.runs[name][0].manifest["result"]["test"]["giniindex@20"] = value
    results.metrics.append("giniindex@20")
    table = main_table(results)
    assert table.cells["B"]["giniindex@20"].rank == BEST
    assert table.lead["giniindex@20"] == pytest.approx(-0.2)
    assert results.better_first("giniindex@20") == ["B", "A"]


def test_one_seed_has_no_deviation(tmp_path):
    results, table = table_of([plain_entry(tmp_path, name, {0: [0.1, 0.2]}) for name in "AB"])
    cell = table.cells["A"]["recall@20"]
    assert (cell.text, cell.seeds) == ("0.1500", 1)
    assert np.isnan(cell.sd)
    assert "±" not in markdown_table(results, table)
    assert r"\pm" not in latex_table(results, table, "")


def test_a_metric_that_an_entry_lacks_is_a_dash(tmp_path):
    results, table = table_of([make_entry(tmp_path, Made("A"), [0, 1], 40), plain_entry(tmp_path, "B", {0: [0.1, 0.2]})])
    assert table.cells["B"]["ndcg@10"].text == "-"
    line = next(line for line in markdown_table(results, table).splitlines() if line.startswith("| B"))
    assert line.count(" - ") == 5


def test_markdown_has_every_number_and_keeps_its_columns(tmp_path):
    entries = [make_entry(tmp_path, made, [0, 1], 60) for made in (Made("A"), Made("B|c_d*", 0.4), Made("C", 0.1))]
    results, table = table_of(entries)
    text = markdown_table(results, table)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {8}
    for cells in table.cells.values():
        for cell in cells.values():
            shown = {BEST: f"**{cell.text}**", SECOND: f"<u>{cell.text}</u>"}.get(cell.rank, f" {cell.text} ")
            assert shown in text
    assert r"B\|c\_d\*" in text
    assert percent(table.lead["recall@20"]) in text
    assert "Change against A:" in text


def test_latex_is_escaped_balanced_and_has_every_number(tmp_path):
    entries = [make_entry(tmp_path, made, [0, 1], 60) for made in (Made("A_1 & 50% {x}"), Made("B", 0.4), Made("C", 0.1))]
    results, table = table_of(entries)
    text = latex_table(results, table, "100 % of_it")
    assert r"A\_1 \& 50\% \{x\}" in text
    assert r"\caption{100 \% of\_it}" in text
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert text.count(r"\begin") == text.count(r"\end") == 2
    columns = len(re.search(r"\\begin\{tabular\}\{(l r*|lr*)\}", text)[1])
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert columns == 8
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {columns - 1}
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    for cell in table.cells["B"].values():
        number = rf"\textbf{{{cell.mean:.4f}}}" if cell.rank == BEST else f"{cell.mean:.4f}"
        assert number in text
    assert r"\underline{" in text


def test_every_letter_that_latex_reads_as_its_own_is_escaped():
    assert latex_text(r"\&%$#_{}~^<>|") == (
        r"\textbackslash{}\&\%\$\#\_\{\}\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}\textbar{}"
    )


def test_csv_keeps_all_digits_and_the_lead(tmp_path):
    entries = [make_entry(tmp_path, made, [0, 1], 60) for made in (Made("007"), Made("B,c", 0.4))]
    _, table = table_of(entries)
    back = pd.read_csv(io.StringIO(csv_table(table).to_csv(index=False)), dtype={"entry": str}, float_precision="round_trip")
    assert back["entry"].tolist() == ["007", "B,c", LEAD]
    assert back["seeds"].tolist()[:2] == [2, 2]
    for name, row in zip(table.cells, back.to_dict("records"), strict=False):
        for metric, cell in table.cells[name].items():
            assert (row[f"{metric}_mean"], row[f"{metric}_sd"]) == (cell.mean, cell.sd)
    assert back["recall@20_change"].tolist()[1:] == [table.cells["B,c"]["recall@20"].change, table.lead["recall@20"]]

"""What a comparison found: the input of every renderer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from recbole_ib.experiments.report import tables
from recbole_ib.experiments.report.fairness import stopped_runs, unequal_conditions
from recbole_ib.experiments.report.headline import headline
from recbole_ib.experiments.results import Comparison, Results, read_results
from recbole_ib.experiments.statistics.efficiency import cost_table, curve_table
from recbole_ib.experiments.statistics.pairwise import compare_pairs
from recbole_ib.experiments.statistics.slices import slice_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Findings:
    """Everything that a report says."""

    results: Results
    table: tables.Table
    tests: pd.DataFrame
    slices: pd.DataFrame
    cost: pd.DataFrame
    curves: pd.DataFrame
    headline: list[str]
    unequal: list[str]
    stopped: list[str]
    failures: list[str]


def compute_findings(comparison: Comparison) -> Findings:
    """Read the runs of a comparison and compute all of its report.

    Raises:
        ConfigurationError: as :func:`~recbole_ib.experiments.results.read_results`.
    """
    results = read_results(comparison)
    table, tests = tables.main_table(results), compare_pairs(results)
    return Findings(
        results=results,
        table=table,
        tests=tests,
        slices=slice_table(results),
        cost=cost_table(results),
        curves=curve_table(results),
        headline=headline(results, table, tests),
        unequal=unequal_conditions(results),
        stopped=stopped_runs(results),
        failures=[f"{name} has no finished run." for name in results.missing] + list(comparison.failures),
    )

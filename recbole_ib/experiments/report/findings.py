"""What a comparison found: the input of every renderer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from recbole_ib.experiments.report import tables
from recbole_ib.experiments.results import Results

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
    answer: list[str]
    unequal: list[str]
    limited: list[str]
    failures: list[str]

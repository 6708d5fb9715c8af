"""``recbole-ib robustness``."""

from __future__ import annotations

import argparse

from recbole_ib.experiments.robustness.command import run_plan
from recbole_ib.experiments.robustness.options import read_plan


def run(args: argparse.Namespace) -> int:
    """Run the grid and write its report; 1 where a run failed."""
    return run_plan(read_plan(args), args.command_line)

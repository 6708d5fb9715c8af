"""``recbole-ib robustness``."""

from __future__ import annotations

import argparse

from recbole_ib.experiments.robustness.options import read_robustness_options
from recbole_ib.experiments.robustness.run import run as run_grid


def run(args: argparse.Namespace) -> int:
    """Run the grid and write its report; 1 where a run failed."""
    return run_grid(read_robustness_options(args), args.command_line)

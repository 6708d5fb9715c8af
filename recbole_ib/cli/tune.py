"""``recbole-ib tune``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields

from recbole_ib.tuning import search  # noqa: TID253  (this module is imported by the command alone)
from recbole_ib.tuning.options import Options
from recbole_ib_cli.common import INTERRUPTED


def run(args: argparse.Namespace) -> int:
    """Search, and print what was found and which trials failed."""
    model, dataset = args.model, args.dataset
    if not args.config_files:
        model, dataset = model or "IBMRec", dataset or "ml-100k"
    options = {field.name: getattr(args, field.name) for field in fields(Options) if field.name != "heatmaps"}
    try:
        result = search.tune(
            model,
            dataset,
            args.space,
            args.config_files,
            argv=args.settings,
            out=args.out,
            command=args.command_line,
            heatmaps=tuple(args.heatmap),
            **options,
        )
    except KeyboardInterrupt as stop:
        goes_on = str(stop) or "The search had not begun: the same command begins it"
        print(f"\nInterrupted. {goes_on}", file=sys.stderr, flush=True)
        return INTERRUPTED
    print(result.text)
    failed = int((result.trials["status"] == "failed").sum())
    if failed:
        print(
            f"WARNING: {failed} of {len(result.trials)} trials failed; they are named above and in "
            "trials.csv",
            file=sys.stderr,
        )
    return 0

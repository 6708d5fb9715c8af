"""``recbole-ib train``, and ``recbole-ib`` without a command."""

from __future__ import annotations

import argparse

from recbole_ib.config.argv import parse_arguments
from recbole_ib.distributed.launch import rank
from recbole_ib.training import run as training


def run(args: argparse.Namespace) -> int:
    """Train and test one model, and print its metrics."""
    settings = parse_arguments(args.settings)
    # the bare command trains IBMRec on the bundled sample; a config file may name another model or data set
    defaults = {} if args.config_files else {"model": "IBMRec", "dataset": "ml-100k"}
    named = {key: settings.get(key, defaults.get(key)) for key in ("model", "dataset")}
    result = training.run_recbole_ib(config_file_list=args.config_files, argv=args.settings, **named)
    if rank() == 0:
        print(training.format_result(result))
    return 0

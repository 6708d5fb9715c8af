"""What happens around every command.

Torchrun is for training alone, and an error of ours is one line on stderr.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from recbole_ib.distributed.launch import launched, rank
from recbole_ib.errors import ConfigurationError, RecBoleIBError


def run_command(args: argparse.Namespace, target: str) -> int:
    """Run ``module:function`` on a command's arguments.

    Returns:
        The exit status: the function's own, or 1 where it raised an error of :mod:`recbole_ib.errors`.
    """
    module, _, function = target.partition(":")
    try:
        if args.command != "train" and launched():
            raise ConfigurationError(
                f"{args.command} runs in one process; torchrun is for training. Start it without torchrun"
            )
        return getattr(importlib.import_module(module), function)(args)
    except RecBoleIBError as error:
        print(f"recbole-ib{_process()}: {error}", file=sys.stderr)
        return 1


def _process() -> str:
    """Return which process speaks, where torchrun started several: any may have found the error."""
    return f" (process {rank()} of {os.environ['WORLD_SIZE']})" if launched() else ""

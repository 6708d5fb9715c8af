"""``recbole-ib train``, and ``recbole-ib`` without a command."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from recbole_ib.distributed.launch import launched, rank
from recbole_ib.errors import TrainingInterrupted
from recbole_ib.training import run as training
from recbole_ib_cli.common import INTERRUPTED


def run(args: argparse.Namespace) -> int:
    """Train and test one model, and print its metrics; where Ctrl-C ends it, what goes on."""
    # the bare command trains IBMRec on the bundled sample; a config file may name another model or data set
    bare = not args.config_files
    model, dataset = args.model or ("IBMRec" if bare else None), args.dataset or ("ml-100k" if bare else None)
    try:
        result = training.run_recbole_ib(
            model=model, dataset=dataset, config_file_list=args.config_files, argv=args.settings
        )
    except KeyboardInterrupt as stop:
        if rank() == 0:
            print(f"\nInterrupted: {how_to_go_on(args, stop)}", file=sys.stderr, flush=True)
        return INTERRUPTED
    if rank() == 0:
        print(training.format_result(result))
    return 0


def how_to_go_on(args: argparse.Namespace, stop: KeyboardInterrupt) -> str:
    """Return what to type to go on with a run that Ctrl-C ended, or that nothing can be resumed."""
    if isinstance(stop, TrainingInterrupted) and stop.checkpoint is not None:
        settings = [word for word in args.settings if not word.startswith("--resume_checkpoint=")]
        words = shlex.join([*_files(args.config_files), *settings, f"--resume_checkpoint={stop.checkpoint}"])
        return f"go on after the last evaluated epoch with\n  {_program()} {words}"
    if args.resume_checkpoint is not None:
        return f"the same command goes on from {args.resume_checkpoint}"
    reason = str(stop) or "the training had not started, so nothing can be resumed"
    return f"{reason}. The same command starts over"


def _files(names: list[str]) -> list[str]:
    return ["--config_files", *names] if names else []


def _program() -> str:
    """Return how this process was started, as it is typed."""
    if launched():
        here = os.environ.get("LOCAL_WORLD_SIZE")
        processes = f"--nproc_per_node={here}" if here == os.environ["WORLD_SIZE"] else "..."
        return f"torchrun {processes} -m recbole_ib"
    name = Path(sys.argv[0]).name
    return {"__main__.py": "python -m recbole_ib", "run_recbole_ib.py": "python run_recbole_ib.py"}.get(
        name, "recbole-ib"
    )

"""How many CPU threads a run takes: the setting ``threads``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger
from typing import Any

import torch

from recbole_ib.model.shared_settings import AUTO_THREADS
from recbole_ib.training.checkpoint import read_checkpoint
from recbole_ib.utils.threads import Load, free_threads, usable_cores

#: where a user has said how many there are
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
#: what torch has chosen itself
TORCHS_OWN = torch.get_num_threads()
#: measured from here on
LOAD = Load()


@contextmanager
def threads_of(config: Any) -> Iterator[int]:
    """Let torch compute with the threads of a run for the time of the block; write their number into it.

    ``threads`` is a number, or ``auto``: that of the checkpoint which is resumed, since the last digits of
    all numbers depend on it; else what ``OMP_NUM_THREADS`` says, or a program that has called
    ``torch.set_num_threads``; else one for every core that nothing else keeps busy.

    Args:
        config: of the run.

    Yields:
        the number.

    Raises:
        CheckpointError: the checkpoint to resume cannot be read.
    """
    before, cores = torch.get_num_threads(), usable_cores()
    number, why = _choose(config, before, cores)
    config["threads"] = number
    getLogger().info(f"Threads: {number} of {cores} cores, {why}")
    torch.set_num_threads(number)
    try:
        yield number
    finally:
        torch.set_num_threads(before)


def _choose(config: Any, before: int, cores: int) -> tuple[int, str]:
    """Return the number of threads, and why."""
    # RecBole's own defaults do not name it
    if config["threads"] not in (None, AUTO_THREADS):
        return int(config["threads"]), "as the setting threads says"
    if config["resume_checkpoint"]:
        resumed = read_checkpoint(config["resume_checkpoint"])["config"].get("threads")
        if isinstance(resumed, int):
            return resumed, "those of the run that goes on"
    variable = next((name for name in VARIABLES if os.environ.get(name)), None)
    if variable is not None:
        return before, f"as {variable} says"
    if before != TORCHS_OWN:
        return before, "as this program has set them"
    busy = LOAD.elsewhere()
    number = min(before, free_threads(cores, busy))
    return number, f"{busy:.1f} of them busy with other work; --threads={number} repeats the run in any case"

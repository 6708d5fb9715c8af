"""The log of one run: a file of its own, closed with the run, and none where the run was refused."""

from __future__ import annotations

import logging
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole.config import Config
from recbole.utils import init_logger

from recbole_ib.errors import RecBoleIBError


class RunLog:
    """What a run knows of its log.

    Attributes:
        started: whether the training has begun; before it, a refusal leaves no log.
    """

    started = False


@contextmanager
def run_log(config: Config, first: bool) -> Iterator[RunLog]:
    """Log a run as RecBole does, on standard error and into ``log/MODEL/``.

    RecBole's ``init_logger`` leaves the file of every run open, names two runs of a second alike, and does
    nothing more in the second run of a process.

    Args:
        config: of the run.
        first: whether this is the process that writes.
    """
    log = RunLog()
    if not first:
        yield log
        return
    root, before = logging.getLogger(), list(logging.getLogger().handlers)
    level = root.level
    root.handlers.clear()
    try:
        _init_logger(config)
    finally:
        added = list(root.handlers)
        # a host that logs to its own places hears of the run there
        root.handlers[:] = [*before, *(h for h in added if not before or isinstance(h, logging.FileHandler))]
    refused = False
    try:
        yield log
    except RecBoleIBError:
        refused = not log.started
        raise
    finally:
        for handler in added:
            root.removeHandler(handler)
            if isinstance(handler, logging.FileHandler):
                handler.close()
                if refused:
                    Path(handler.baseFilename).unlink(missing_ok=True)
        root.setLevel(level)


def _init_logger(config: Config) -> None:
    """Call RecBole's function, which names the file by the second and a digest of the settings."""
    module: Any = sys.modules["recbole.utils.logger"]
    original = module.get_local_time
    module.get_local_time = lambda: f"{original()}-{secrets.token_hex(3)}"
    try:
        init_logger(config)
    finally:
        module.get_local_time = original

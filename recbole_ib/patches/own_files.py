"""The pickles that this very process wrote: they are as trustworthy as the process."""

from __future__ import annotations

import os
from pathlib import Path

_written: dict[str, tuple[int, int, int]] = {}


def remember(path: str | Path) -> None:
    """Note that this process wrote a file, if it is one."""
    found = _identity(path)
    if found is not None:
        _written[found[0]] = found[1]


def is_own(path: str | Path) -> bool:
    """Return whether this process wrote a file, and nobody has replaced it since."""
    found = _identity(path)
    return found is not None and _written.get(found[0]) == found[1]


def _identity(path: str | Path) -> tuple[str, tuple[int, int, int]] | None:
    """Return a file and what changes when it is replaced: inode, size, time of change."""
    try:
        stat = Path(path).stat()
    except (OSError, TypeError):
        return None
    return os.path.realpath(path), (stat.st_ino, stat.st_size, stat.st_mtime_ns)

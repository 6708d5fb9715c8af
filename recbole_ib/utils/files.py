"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: this machine, in the names of scratch files: process ids are its own
_OWNER = hashlib.sha256(platform.node().encode()).hexdigest()[:6]


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a scratch file beside ``path``, which takes its place at the end of the block.

    A reader sees the old file or the new one, never half of one. An exception inside leaves the old file as
    it was.
    """
    path = Path(path)
    # the ending stays the last one: writers such as numpy's and matplotlib's go by it
    scratch = path.with_name(f".{path.stem}.{_OWNER}-{os.getpid()}-{secrets.token_hex(3)}.tmp{path.suffix}")
    try:
        yield scratch
        # on the disk before it has the name: a crash of the system must not leave an empty file under it
        with Path(scratch).open("rb") as file:
            os.fsync(file.fileno())
        Path(scratch).replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def remove_scratch(folder: str | Path) -> list[Path]:
    """Remove what :func:`atomic_write` of killed processes has left in a folder; return what it was.

    Files of processes that live, and of other machines, stay.
    """
    removed = []
    for path in Path(folder).glob(f".*.{_OWNER}-*.tmp*"):
        found = re.search(rf"\.{_OWNER}-(\d+)-[0-9a-f]{{6}}\.tmp", path.name)
        if found and not _lives(int(found[1])):
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all; its folder is made where needed."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def replace_folder(base: Path, name: str, fill: Callable[[Path], object]) -> Path:
    """Make the folder ``base/name`` by ``fill(folder)`` beside its place, and move it there.

    A reader never sees half of one. What was there before goes when the new one is in place.
    """
    base.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=base) as scratch:
        folder = Path(scratch) / name
        folder.mkdir()
        fill(folder)
        target = base / name
        if target.exists():
            shutil.move(target, Path(scratch) / "replaced")
        folder.rename(target)
    return target

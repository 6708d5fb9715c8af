"""Data set folders, written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np


def write_folder(base: Path, name: str, fill) -> Path:
    """Make ``base/name`` by ``fill(folder)`` beside its place and move it there: a reader never sees half of one."""
    base.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=base) as scratch:
        made = Path(scratch) / name
        made.mkdir()
        fill(made)
        target = base / name
        if target.exists():
            shutil.move(target, Path(scratch) / "replaced")
        made.rename(target)
    return target


def write_features(folder: Path, modality: str, values: np.ndarray, tokens) -> None:
    """``modality.npy`` and ``modality.tokens``: values ``[n, d]``, one token a row."""
    np.save(folder / f"{modality}.npy", values)
    (folder / f"{modality}.tokens").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")

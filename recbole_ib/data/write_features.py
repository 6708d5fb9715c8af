"""The feature files of data sets that are made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_features(folder: Path, modality: str, values: np.ndarray, tokens) -> None:
    """``modality.npy`` and ``modality.tokens``: values ``[n, d]``, one token a row."""
    np.save(folder / f"{modality}.npy", values)
    (folder / f"{modality}.tokens").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")

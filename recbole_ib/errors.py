"""The errors that recbole_ib raises on purpose: what is wrong, where, what is allowed, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class RecBoleIBError(Exception):
    """The base of all of them; the command line prints its text without a traceback."""


class ConfigurationError(RecBoleIBError, ValueError):
    """An unknown model, data set or key, or a value outside its range."""


class DataError(RecBoleIBError, ValueError):
    """A file of interactions, users or items that cannot be read, or does not fit the settings."""


class FeatureError(RecBoleIBError, ValueError):
    """A feature file that does not fit its data set."""


class ConversionError(RecBoleIBError, ValueError):
    """A folder of another toolkit that cannot be converted."""


class TrainingError(RecBoleIBError, ValueError):
    """A training that cannot go on, such as one whose loss is not finite."""


class CheckpointError(RecBoleIBError, RuntimeError):
    """A checkpoint that cannot be read, trusted or continued."""


class PickledCheckpointError(CheckpointError):
    """A checkpoint that holds pickled objects, as RecBole's own models write them."""


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C while a model was trained or tested.

    Args:
        text: what goes on with the run, or why nothing does.
        checkpoint: the file for ``resume_checkpoint``, where there is one.
    """

    def __init__(self, text: str, checkpoint: Path | None = None) -> None:
        super().__init__(text)
        self.checkpoint = checkpoint


def nearest(name: str, allowed: Iterable[str], n: int = 3) -> str:
    """`` Did you mean A or B?`` with the allowed names nearest to this one, or an empty text."""
    by_lower: dict[str, str] = {}
    for candidate in allowed:
        by_lower.setdefault(str(candidate).lower(), str(candidate))
    found = difflib.get_close_matches(str(name).lower(), by_lower, n=n, cutoff=0.6)
    return f" Did you mean {' or '.join(by_lower[f] for f in found)}?" if found else ""


def first_few(values: Iterable, n: int = 5) -> str:
    """The first n values as text, for messages: ``a, b, c, ...``."""
    values = list(values)
    return ", ".join(str(v) for v in values[:n]) + (", ..." if len(values) > n else "")

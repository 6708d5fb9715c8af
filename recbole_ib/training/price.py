"""What a run will cost, said before and at its start: memory, disk, and how long an epoch takes."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Iterable, Iterator
from logging import getLogger
from pathlib import Path
from typing import Any, TypeVar

import psutil
from torch import nn

from recbole_ib.utils.malloc import peak_memory

GIB = 2**30
#: of an epoch's first batches, those that build and warm up
SKIPPED = 2
#: batches that are timed, or as many as take so many seconds, whichever is more
TIMED, SECONDS = 5, 2.0
#: a shorter epoch tells what it takes itself
WORTH_SAYING = 10.0
#: beside a weight stand its gradient and Adam's two moments
MOMENTS = 2
#: the best epoch, the latest one, and the one that is being written
FILES = 3

Batch = TypeVar("Batch")


def duration(seconds: float) -> str:
    """Return seconds as people say them.

    Example:
        >>> duration(42.4), duration(204), duration(61200)
        ('42 s', '3.4 min', '17 h')
    """
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            amount = seconds / size
            return f"{amount:.1f} {unit}" if amount < 10 else f"{amount:.0f} {unit}"
    return f"{seconds:.0f} s"


def say_room(model: nn.Module, device: Any, folder: str, saved: bool) -> None:
    """Warn where the memory for the training of a model, or the disk for its checkpoints, is not there.

    Its gradients and the moments of Adam are made in the first step, its checkpoints after the first
    evaluation: a run would end there, hours later on a large set.

    Args:
        model: on its device.
        device: of the run; what a GPU holds is not looked at.
        folder: of the checkpoints.
        saved: whether there will be any.
    """
    weights = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    more, free = (1 + MOMENTS) * weights, psutil.virtual_memory().available
    if str(device) == "cpu" and more > free:
        getLogger().warning(
            f"Gradients and the optimizer's moments take {more / GIB:.1f} GiB, and {free / GIB:.1f} GiB of "
            "memory are free: the run may be ended by the system. A smaller embedding_size, raw_features: "
            "frozen or feature_dtype: float16, where the model has them, take less"
        )
    files, place = FILES * (1 + MOMENTS) * weights, _existing(Path(folder))
    left = shutil.disk_usage(place).free
    if saved and files > left:
        getLogger().warning(
            f"The checkpoints take up to {files / GIB:.1f} GiB, and {left / GIB:.1f} GiB are free in "
            f"{place}: free some space, or set checkpoint_dir to a folder elsewhere; save_last: False "
            "takes a third less"
        )


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    folder = folder.expanduser().absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())


class Price:
    """Say how long a run takes, once its first batches have been trained.

    Args:
        epochs: the most that the run will have.
    """

    def __init__(self, epochs: int):
        self.epochs, self.said = epochs, False

    def of(self, batches: Iterable[Batch], n_batches: int) -> Iterator[Batch]:
        """Pass the batches of an epoch on; say what it takes, once a run, where that is worth a line."""
        seconds: list[float] = []
        since = time.perf_counter()
        for number, batch in enumerate(batches):
            yield batch
            now = time.perf_counter()
            if not self.said and number >= SKIPPED:
                seconds.append(now - since)
                if len(seconds) >= TIMED and sum(seconds) >= SECONDS:
                    self._say(statistics.median(seconds), n_batches)
            since = now

    def _say(self, batch: float, n_batches: int) -> None:
        self.said = True
        epoch = batch * n_batches
        if epoch < WORTH_SAYING:
            return
        free = psutil.virtual_memory().available
        getLogger().info(
            f"An epoch takes about {duration(epoch)}: {n_batches} batches of {batch:.3g} s; {self.epochs} "
            f"epochs, the most that there are, {duration(self.epochs * epoch)}, without evaluations. Memory: "
            f"{peak_memory() / GIB:.1f} GiB at most so far, {free / GIB:.1f} GiB free"
        )

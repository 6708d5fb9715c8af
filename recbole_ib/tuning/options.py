"""Options of a search, and whether a folder may take it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_ib.errors import ConfigurationError, first_few, nearest
from recbole_ib.utils.files import write_text

FORMAT = "recbole_ib search 1"
SEARCHES = ("optuna", "random", "grid")
SCHEDULERS = ("asha", "none")
#: what a search writes into its folder; nothing else there is touched
PARTS = (
    "ray", "trials", "search.json", "trials.csv", "best.yaml", "best.pth", "best.json", "result.json",
    "parallel.png", "slices.png",
)  # fmt: skip
#: entries of search.json that may differ when a search is resumed
FREE = ("format", "command", "started", "versions")


@dataclass(frozen=True)
class Options:
    """Options of a search; see docs/tuning.md."""

    search: str = "optuna"
    scheduler: str = "asha"
    samples: int | None = None
    cpus_per_trial: float = 1
    gpus_per_trial: float | None = None
    cpus: int | None = None
    address: str | None = None
    resume: bool = False
    fresh: bool = False
    seed: int | None = None
    grace: int | None = None
    reduction: float = 3
    keep_checkpoints: bool = False
    heatmaps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("search", self.search, SEARCHES),
            ("scheduler", self.scheduler, SCHEDULERS),
        ):
            if value not in allowed:
                raise ConfigurationError(
                    f"{name} is {value!r}.{nearest(str(value), allowed)} Allowed: {', '.join(allowed)}"
                )
        for name, number, least in (
            ("samples", self.samples, 1),
            ("cpus_per_trial", self.cpus_per_trial, 0.01),
            ("gpus_per_trial", self.gpus_per_trial, 0),
            ("cpus", self.cpus, 1),
            ("grace", self.grace, 1),
            ("reduction", self.reduction, 1.01),
        ):
            if number is not None and not number >= least:
                raise ConfigurationError(f"{name} must be at least {least}, got {number}")
        if self.search == "grid" and self.samples is not None:
            raise ConfigurationError(
                "samples is for optuna and random: a grid goes through every combination of its values once"
            )
        if self.scheduler == "none" and self.grace is not None:
            raise ConfigurationError("grace is for the scheduler asha, and the scheduler is none")
        if self.address is not None and self.cpus is not None:
            raise ConfigurationError(
                "cpus is for a Ray that the search starts here; the one at address has its own"
            )
        if self.resume and self.fresh:
            raise ConfigurationError(
                "resume goes on with the search in the folder and fresh deletes it; give one of them"
            )

    @property
    def trials(self) -> int:
        """How many trials are sampled; of a grid, once through."""
        return 1 if self.search == "grid" else 20 if self.samples is None else self.samples


def claim(folder: Path, description: dict, options: Options) -> bool:
    """Check that a folder may take the search, and note it there.

    Returns:
        Is this search to be continued?

    Raises:
        ConfigurationError: the folder holds another search, this one without ``resume``, or none
            with it.
    """
    path = folder / "search.json"
    if path.is_file() and not options.resume and not options.fresh:
        raise ConfigurationError(
            f"{folder} holds a search already: --resume goes on with it, --fresh deletes it and starts over, "
            "--out=DIR searches elsewhere"
        )
    foreign = [file.name for file in _written(folder) if file.exists()]
    if not path.is_file() and foreign and not options.fresh:
        raise ConfigurationError(
            f"{folder} holds no search.json, but files that a search would replace ({first_few(foreign)}): "
            "--out=DIR searches elsewhere, --fresh deletes them"
        )
    if options.resume and not path.is_file():
        raise ConfigurationError(
            f"--resume: there is no search in {folder} to go on with. Give the --out of the search, or leave "
            "--resume out to start one"
        )
    if options.resume:
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path} is damaged ({error}); --fresh starts over") from None
        new = json.loads(json.dumps(description, default=str))
        differing = [
            f"{key}: {json.dumps(old.get(key))} then, {json.dumps(new.get(key))} now"
            for key in sorted({*old, *new} - set(FREE))
            if old.get(key) != new.get(key)
        ]
        if differing:
            raise ConfigurationError(
                f"{folder} holds another search than this one, which cannot go on with it: "
                f"{'; '.join(differing)}. Give what it was given, or --out=DIR"
            )
        return True
    clear(folder)
    write_text(path, json.dumps(description, indent=1, default=str) + "\n")
    return False


def _written(folder: Path, parts: Any = PARTS) -> list[Path]:
    """Where a search writes, there or not."""
    return [*(folder / name for name in parts), *folder.glob("heatmap-*.png")]


def clear(folder: Path, parts: Any = PARTS) -> None:
    """Delete what a search wrote into its folder."""
    for path in _written(folder, parts):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

"""One input that may go wrong, how it is run, and how what happened is judged."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from recbole_ib_cli.main import main

#: a run that is not refused trains so long
SHORT = ("--epochs=1", "--show_progress=False", "--state=ERROR", "--use_gpu=False")
USERS, ITEMS = 12, 20


@dataclass(frozen=True)
class Case:
    """An input.

    Attributes:
        group: of the table.
        name: of the input, unique in its group.
        words: what stderr must say, all of them; none: the input is to be read.
        make: writes the input into an empty folder, which holds ``data/d`` with a good data set first.
        command: what is typed in that folder.
        slow: it trains for seconds; `make test-slow` runs it.
    """

    group: str
    name: str
    words: tuple[str, ...]
    make: Callable[[Path], object]
    command: tuple[str, ...]
    slow: bool = False

    @property
    def id(self) -> str:
        return f"{self.group}: {self.name}"


@dataclass(frozen=True)
class Outcome:
    """What a case did: its exit status and what it printed."""

    status: int
    out: str
    error: str

    @property
    def kind(self) -> str:
        """``clear``, ``traceback`` (or a bug that was named as one), ``silent`` (it went on)."""
        said = self.out + self.error
        if "Traceback (most recent call last)" in said or "this is a bug" in said:
            return "traceback"
        return "silent" if self.status == 0 else "clear"


def train(*settings: str, model: str = "BPR", dataset: str = "d") -> tuple[str, ...]:
    """The words of a training."""
    return ("train", f"--model={model}", f"--dataset={dataset}", "--data_path=data", *SHORT, *settings)


def check(*settings: str, dataset: str = "d") -> tuple[str, ...]:
    """The words of a check of a data set."""
    return ("check", f"--dataset={dataset}", "--data_path=data", *settings)


def pairs() -> list[tuple[str, str]]:
    """Every user with nine items, no item with all users."""
    return [(f"u{u}", f"i{(u * 3 + k * 2) % ITEMS}") for u in range(USERS) for k in range(9)]


def rows(extra: Sequence[str] = ()) -> str:
    """The good data set's lines, header first, with times and ratings."""
    head = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    body = [f"{u}\t{i}\t{n % 5 + 1}\t{1_700_000_000 + 10 * n}" for n, (u, i) in enumerate(pairs())]
    return "\n".join([head, *body, *extra]) + "\n"


def good(folder: Path) -> Path:
    """Write ``data/d``: interactions, two modalities, the yaml; return its folder."""
    here = folder / "data" / "d"
    here.mkdir(parents=True)
    (here / "d.inter").write_text(rows())
    rng = np.random.default_rng(0)
    for modality in ("text", "image"):
        np.save(here / f"{modality}.npy", rng.standard_normal((ITEMS, 6)).astype(np.float32))
        (here / f"{modality}.tokens").write_text("".join(f"i{i}\n" for i in range(ITEMS)))
    (here / "d.yaml").write_text(yaml.safe_dump(settings()))
    return here


def settings(**more: object) -> dict:
    """The yaml of the good data set."""
    modalities = {m: {"file": f"{m}.npy", "tokens": f"{m}.tokens"} for m in ("text", "image")}
    columns = {"load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}}
    return {**columns, "modalities": modalities, **more}


def run(case: Case, folder: Path) -> Outcome:
    """Run a case in a folder of its own, which is the working directory."""
    good(folder)
    case.make(folder)
    out, error = io.StringIO(), io.StringIO()
    level = logging.getLogger().level
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        status = main(list(case.command))
    logging.getLogger().setLevel(level)
    for handler in list(logging.getLogger().handlers):
        if isinstance(handler, logging.FileHandler):
            handler.close()
            logging.getLogger().removeHandler(handler)
    return Outcome(status, out.getvalue(), error.getvalue())


def nothing(folder: Path) -> None:
    """Leave the good data set as it is: what is wrong is typed."""

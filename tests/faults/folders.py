"""Folders that cannot be written to, and checkpoints that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from tests.faults.case import ITEMS, Case, check, train
from tests.faults.hostile import both, modality


def a_file(path: str, data: bytes = b"x") -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)

    return make


def graph(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], object]:
    weights = change(np.eye(ITEMS) + np.eye(ITEMS, k=1))
    name = modality(file="text.npy", tokens="text.tokens", item_graph_file="g.npz")
    return both(lambda folder: sp.save_npz(folder / "data/d/g.npz", sp.csr_array(weights)), name)


def changed(value: float | complex) -> Callable[[np.ndarray], np.ndarray]:
    def change(weights: np.ndarray) -> np.ndarray:
        weights = weights.astype(np.result_type(type(value), np.float64))
        weights[0, 1] = value
        return weights

    return change


PLACES: dict[str, tuple[Callable[[Path], object], tuple[str, ...], tuple[str, ...]]] = {
    "checkpoint_dir is a file": (a_file("here"), train("--checkpoint_dir=here"), ("here",)),
    "checkpoint_dir below a file": (a_file("here"), train("--checkpoint_dir=here/there"), ("here",)),
    "saved is a file": (a_file("saved"), train(), ("saved",)),
    "log is a file": (a_file("log"), train(), ("log",)),
    "log_tensorboard is a file": (a_file("log_tensorboard"), train(), ("log_tensorboard",)),
    "log is a file, our model": (a_file("log"), train(model="VBPR"), ("log",)),
    "saved is a file, our model": (a_file("saved"), train(model="VBPR"), ("saved",)),
    "tune into a file": (a_file("o"), ("tune", "--model=BPR", "--dataset=d", "--data_path=data", "--out=o"), ("o",)),
    "tune below a file": (a_file("o"), ("tune", "--model=BPR", "--dataset=d", "--data_path=data", "--out=o/p"), ("o",)),
    "tune resumed where nothing is": (
        lambda folder: None,
        ("tune", "--model=BPR", "--dataset=d", "--data_path=data", "--resume", "--out=wrong"),
        ("wrong", "--resume"),
    ),
    "compare into a file": (a_file("o"), ("compare", "--models", "BPR", "--dataset=d", "--data_path=data", "--out=o"), ("o",)),
    "robustness into a file": (a_file("o"), ("robustness", "--models", "BPR", "--out=o"), ("o",)),
    "convert into a file": (a_file("o"), ("convert", "mmrec", "data/d", "o"), ("o is a file",)),
    "data_path is a file": (a_file("o"), ("train", "--model=BPR", "--dataset=d", "--data_path=o"), ("no data set 'd'",)),
    "recommend into a missing folder": (a_file("x.pth"), ("recommend", "x.pth", "--out=no/o.csv"), ("no folder no",)),
    "recommend into an unknown kind": (a_file("x.pth"), ("recommend", "x.pth", "--out=o.xls"), ("o.xls",)),
    "recommend for users of a missing file": (
        a_file("x.pth"),
        ("recommend", "x.pth", "--out=o.csv", "--users=u.txt"),
        ("u.txt",),
    ),
    "config file is a folder": (lambda folder: (folder / "c.yaml").mkdir(), train("--config_files", "c.yaml"), ("c.yaml",)),
    "plot of no diagnostics": (a_file("x.csv", b"a,b\n1,2\n"), ("plot-information", "x.csv"), ("x.csv",)),
    "plot of nothing": (lambda folder: None, ("plot-information", "x.csv"), ("x.csv",)),
}

#: files that are no checkpoint, which nobody is asked to trust
NO_CHECKPOINTS: dict[str, bytes] = {
    "empty": b"",
    "text": b"hello\n",
    "random bytes": np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes(),
    "zeros": bytes(2000),
    "a zip of something else": b"PK\x05\x06" + bytes(18),
    "the beginning of a zip": b"PK\x03\x04" + bytes(100),
    "an image": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "yaml": b"model: IBMRec\n",
    "a cut pickle": b"\x80\x04\x95\xff",
    "json": b"{}",
}

GRAPHS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "a negative weight": (graph(changed(-1.0)), ("g.npz", "negative")),
    "a complex weight": (graph(changed(1j)), ("g.npz", "complex")),
    "an infinite weight": (graph(changed(np.inf)), ("g.npz", "finite")),
    "a weight that is no number": (graph(changed(np.nan)), ("g.npz", "finite")),
    "another size": (graph(lambda weights: weights[:5, :5]), ("g.npz", "5")),
    "a rectangle": (graph(lambda weights: weights[:, :5]), ("g.npz", "5")),
}


def cases() -> list[Case]:
    """All of them."""
    found = [Case("folders", name, words, make, command) for name, (make, command, words) in PLACES.items()]
    for name, data in NO_CHECKPOINTS.items():
        make = a_file("x.pth", data)
        for what in (
            ("recommend", "x.pth", "--out=o.csv"),
            ("decompose", "x.pth"),
            train("--resume_checkpoint=x.pth", model="VBPR"),
        ):
            found.append(Case("no checkpoints", f"{name}, {what[0]}", ("x.pth", "checkpoint"), make, what))
    found += [Case("item graphs", name, words, make, check()) for name, (make, words) in GRAPHS.items()]
    return found

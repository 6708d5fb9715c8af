"""Files that would run code where they are unpickled, imported or shown: none of it runs.

The code of all of them writes the file ``ran`` into the working directory.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from tests.faults.case import SHORT, Case, check, nothing, settings, train

MARK = "ran"


class Payload:
    """Unpickled, it writes the mark."""

    def __reduce__(self) -> tuple:
        return (exec, (f"open({MARK!r}, 'w').close()",))


def pickled(protocol: int = 2) -> bytes:
    return pickle.dumps(Payload(), protocol=protocol)


def saved(value: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def npy(value: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([value, value], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def npz(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{key: np.array([value], dtype=object) for key, value in arrays.items()})
    return buffer.getvalue()


def archive(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, data)
    return buffer.getvalue()


#: what somebody may send as any file
PAYLOADS: dict[str, bytes] = {
    **{f"a pickle of protocol {p}": pickled(p) for p in range(2, 6)},
    "an object saved by torch": saved(Payload()),
    "an object saved by torch, old form": saved(Payload(), _use_new_zipfile_serialization=False),
    "a state with an object": saved({"format": "recbole_ib 2", "config": Payload(), "state_dict": {}}),
    "a state of the first format with an object": saved({"format": "recbole_ib 1", "state_dict": Payload()}),
    "RecBole's form with an object": saved({"config": Payload(), "state_dict": {}, "epoch": 0}),
    "an array of objects": npy(Payload()),
    "an archive of objects": npz(features=Payload(), ids=Payload()),
    "a zip with a pickle": archive("archive/data.pkl", pickled()),
}


def at(path: str, data: bytes) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)

    return make


def modality(**entry: str) -> Callable[[Path], object]:
    """Let the yaml of the data set name other files."""
    more = settings()
    more["modalities"]["text"] = entry
    return lambda folder: (folder / "data/d/d.yaml").write_text(yaml.safe_dump(more))


def both(*makes: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: [make(folder) for make in makes]


#: RecBole looks for these at every start
CACHES = (
    "saved/d-Dataset.pth",
    "saved/d-MultimodalDataset.pth",
    "saved/d-for-BPR-dataloader.pth",
    "saved/d-for-VBPR-dataloader.pth",
)
#: what a data set's yaml could set
OF_RUNS: dict[str, object] = {
    "dataset_save_path": "data/d/evil.pth",
    "dataloaders_save_path": "data/d/evil.pth",
    "checkpoint_dir": "data/d",
    "resume_checkpoint": "data/d/evil.pth",
    "mmrec_path": "data/d",
    "model": "mmrec:EVIL",
    "bottleneck": "fib",
    "save_dataset": True,
    "save_dataloaders": True,
    "log_wandb": True,
    "wandb_project": "theirs",
    "data_path": "elsewhere",
    "pretrain_path": "data/d/evil.pth",
    "item_graph_dict_file": "data/d/evil.npy",
    "nproc": 2,
    "gpu_id": "0",
    "per_user": True,
}
CONSTRUCTORS = (
    f"!!python/object/apply:builtins.exec [\"open('{MARK}', 'w').close()\"]",
    "!!python/object/new:tests.faults.hostile.Payload []",
    "!!python/name:os.system",
    "!!python/module:os",
)


def commands_on(file: str) -> dict[str, tuple[str, ...]]:
    """Everything that reads a checkpoint."""
    return {
        "recommend": ("recommend", file, "--out=o.csv", "--data_path=data"),
        "similar": ("similar", file, "i1", "--data_path=data"),
        "export": ("export", file, "out", "--data_path=data"),
        "decompose": ("decompose", file),
        "resume": ("train", "--model=VBPR", "--dataset=d", "--data_path=data", *SHORT, f"--resume_checkpoint={file}"),
    }


def refused() -> list[Case]:
    """Files that are named by the user, and must be refused."""
    found = []
    for name, data in PAYLOADS.items():
        make = at("evil.pth", data)
        found += [
            Case("hostile checkpoints", f"{name}, {what}", ("evil.pth",), make, words)
            for what, words in commands_on("evil.pth").items()
        ]
    for name, data in PAYLOADS.items():
        make = both(at("data/d/evil.npy", data), modality(file="evil.npy", tokens="text.tokens"))
        found.append(Case("hostile features", f"{name} as .npy", ("evil.npy",), make, train(model="VBPR")))
        make = both(at("data/d/evil.npz", data), modality(file="evil.npz"))
        found.append(Case("hostile features", f"{name} as .npz", ("evil.npz",), make, check()))
        make = both(at("data/d/evil.npz", data), modality(file="text.npy", tokens="text.tokens", item_graph_file="evil.npz"))
        found.append(Case("hostile features", f"{name} as item graph", ("evil.npz",), make, check()))
        make = at("data/d/d.inter", data)
        found.append(Case("hostile interactions", name, ("d.inter",), make, train()))
        make = at("evil.pth", data)
        for key in ("dataset_save_path", "dataloaders_save_path"):
            found.append(Case("hostile pickles", f"{name}, {key}", (key, "can run any code"), make, train(f"--{key}=evil.pth")))
    for key, value in OF_RUNS.items():
        text = yaml.safe_dump(settings(**{key: value}))
        make = both(at("data/d/d.yaml", text.encode()), at("data/d/evil.pth", pickled()))
        for what, command in (("train", train()), ("check", check())):
            found.append(Case("a data set's yaml", f"{key}, {what}", (f"d.yaml sets {key}", "may not"), make, command))
    for place in ("data/d/d.yaml", "mine.yaml"):
        for text in CONSTRUCTORS:
            command = train(*(() if "d.yaml" in place else ("--config_files", "mine.yaml")))
            found.append(
                Case(
                    "yaml with objects",
                    f"{place}: {text}",
                    ("is not valid yaml",),
                    at(place, f"epochs: {text}\n".encode()),
                    command,
                )
            )
    return found


def passed_by() -> list[Case]:
    """Files that lie where RecBole looks, which a run must pass by."""
    found = []
    for file in CACHES:
        model = "VBPR" if "VBPR" in file or "Multimodal" in file else "BPR"
        for name in ("a pickle of protocol 4", "a pickle of protocol 2"):
            found.append(Case("pickles beside a run", f"{file}: {name}", (), at(file, PAYLOADS[name]), train(model=model)))
    typed = [f"__import__('pathlib').Path({MARK!r}).touch()", f"open({MARK!r},'w')", f"exec(\"open('{MARK}','w')\")"]
    found += [Case("words that are code", text, (), nothing, train(f"--wandb_project={text}")) for text in typed]
    return [replace(case, words=()) for case in found]

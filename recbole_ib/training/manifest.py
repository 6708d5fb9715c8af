"""The record that every run leaves beside its checkpoint, as JSON.

It holds settings, versions, data, features, metrics, time and memory.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from recbole.data.dataset import Dataset

from recbole_ib.config.serialize import plain_config, plain_value
from recbole_ib.data.digest import interactions_digests, table_digest
from recbole_ib.errors import ConfigurationError
from recbole_ib.training.checkpoint import checkpoint_path
from recbole_ib.training.per_user import per_user_metrics
from recbole_ib.utils.files import atomic_write, write_text
from recbole_ib.utils.malloc import forget_peak, peak_memory

FORMAT = "recbole_ib run 1"
PACKAGES = ("recbole-ib", "recbole", "torch", "numpy", "scipy", "pandas")


class RunRecord:
    """Record of what is known only while a run goes on: its times, its memory, its validation curve."""

    def __init__(self) -> None:
        self.started = datetime.now(timezone.utc)
        self.seconds: dict[str, float] = {}
        self.curve: list[dict] = []
        #: whether this process trained; otherwise its memory means nothing, and ``epochs`` is how many were
        #: trained elsewhere
        self.trained_here, self.epochs = True, 0
        #: ``patience``, ``epochs``, a search's ``scheduler``, or None: training/patience.py
        self.ended: str | None = None
        self._since = time.perf_counter()
        forget_peak()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def _end(self, part: str) -> None:
        now = time.perf_counter()
        self.seconds[part], self._since = now - self._since, now

    def begin_training(self) -> None:
        """End the preparation."""
        self._end("set_up")

    def evaluated(self, epoch: int, score: float) -> None:
        """Add an evaluation: the ``callback_fn`` of RecBole's trainers."""
        self.curve.append(
            {"epoch": int(epoch), "score": float(score), "seconds": time.perf_counter() - self._since}
        )

    def begin_test(self) -> None:
        """End the training."""
        self._end("train")

    def end_test(self) -> None:
        """End the test."""
        self._end("test")


def write_records(run: Any, record: RunRecord, result: dict) -> dict[str, str | None]:
    """Write the manifest and, with ``per_user``, the users' metrics; the paths of both, by kind.

    Args:
        run: :class:`recbole_ib.training.run.RunSetup`, its best epoch loaded.
        record: of the run.
        result: what ``run_recbole_ib`` returns, with ``checkpoint`` or ``None``.
    """
    config, trainer = run.config, run.trainer
    folder = Path(config["checkpoint_dir"])
    stem = Path(result["checkpoint"] or checkpoint_path(folder, config["model"], config["dataset"]))
    folder.mkdir(parents=True, exist_ok=True)
    memory = {"peak_bytes": peak_memory() if record.trained_here else None, "gpu_peak_bytes": None}
    if torch.cuda.is_available() and record.trained_here:
        memory["gpu_peak_bytes"] = torch.cuda.max_memory_allocated()
    users = None
    if config["per_user"]:
        users = stem.with_name(f"{stem.stem}-users.parquet")
        table = per_user_metrics(trainer, run.train_data, run.test_data)
        with atomic_write(users) as scratch:
            table.to_parquet(scratch, index=False)
    epochs = getattr(trainer, "train_loss_dict", {})
    # that of our trainer has the part before an interruption too
    curve, before = getattr(trainer, "curve", ()) or record.curve, getattr(trainer, "seconds_before", 0.0)
    manifest = {
        "format": FORMAT,
        "model": config["model"],
        "dataset": config["dataset"],
        "seed": config["seed"],
        "split_seed": config["seed"] if config["split_seed"] is None else config["split_seed"],
        "started": record.started.isoformat(timespec="seconds"),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": sys.argv,
        "given": plain_value(config.external_config_dict),
        "config": plain_config(config),
        "versions": versions(),
        "machine": {
            "system": platform.system(),
            "processor": processor(),
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": str(config["device"]),
        },
        "data": _data(run),
        "features": _features(run.dataset),
        "parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "result": {
            "best_valid_score": result["best_valid_score"],
            "valid_score_bigger": result["valid_score_bigger"],
            "valid_metric": str(config["valid_metric"]).lower(),
            "best_epoch": _best_epoch(curve, result["valid_score_bigger"]),
            "epochs": len(epochs) or record.epochs,
            "ended": record.ended,
            "patience": getattr(trainer, "stopping_step", None),
            "valid": result["best_valid_result"],
            "test": result["test_result"],
        },
        "curve": curve,
        "losses": {str(epoch): float(loss) for epoch, loss in epochs.items()},
        "seconds": {**record.seconds, "train": record.seconds["train"] + before},
        "memory": memory,
        "checkpoint": stem.name if result["checkpoint"] else None,
        "per_user": users.name if users else None,
    }
    path = stem.with_suffix(".json")
    write_text(path, json.dumps(json_values(manifest), indent=1) + "\n")
    return {"manifest": str(path), "per_user": str(users) if users else None}


def read_manifest(path: str | Path) -> dict:
    """Read a run's manifest.

    Raises:
        ConfigurationError: no such file, no JSON, or not a manifest of this version.
    """
    try:
        manifest = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"there is no manifest {path}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is no manifest of a run: it is no JSON ({error})") from None
    kind = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
    if kind != FORMAT:
        raise ConfigurationError(
            f"{path} is no manifest of a run: format {kind!r}, this version reads {FORMAT!r}"
        )
    return manifest


def versions() -> dict[str, str]:
    """Return Python's version and those of the packages that decide a run's numbers."""
    return {"python": platform.python_version(), **{name: _installed(name) for name in PACKAGES}}


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"


def processor() -> str:
    """Return the processor's name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def json_values(values: Any) -> Any:
    """Return plain values with infinite numbers and NaN as text: JSON has no numbers for them."""
    if isinstance(values, dict):
        return {key: json_values(value) for key, value in values.items()}
    if isinstance(values, list):
        return [json_values(value) for value in values]
    return str(values) if isinstance(values, float) and not math.isfinite(values) else values


def _data(run: Any) -> dict:
    """Return sizes and digests; a data set without users or items (RecBole has such models) has no digest."""
    dataset = run.dataset
    if not (dataset.uid_field and dataset.iid_field):
        return {}
    # without the padding
    sizes = {"users": dataset.user_num - 1, "items": dataset.item_num - 1}
    parts = {name: getattr(run, f"{name}_data")._dataset for name in ("train", "valid", "test")}
    digests = interactions_digests(parts)
    return sizes | {
        name: {"interactions": len(part), "digest": digests[name]} for name, part in parts.items()
    }


def _features(dataset: Dataset) -> dict:
    tables = getattr(dataset, "modalities", None) or {}
    specs = {spec.name: spec for spec in dataset.modality_specs(dataset.config)} if tables else {}
    return {
        name: {
            "encoder": specs[name].encoder,
            "file": str(specs[name].file),
            "shape": list(table.shape),
            "covered": int(dataset.has_feature[name].sum()),
            "digest": table_digest(table),
        }
        for name, table in tables.items()
    }


def _best_epoch(curve: list[dict], bigger: bool) -> int | None:
    best, sign = None, 1.0 if bigger else -1.0
    for entry in curve:
        # of equal ones the last, as RecBole's early stopping keeps it
        if best is None or sign * entry["score"] >= sign * best["score"]:
            best = entry
    return None if best is None else best["epoch"]

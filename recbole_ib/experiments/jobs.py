"""The trainings of a comparison: each in a folder of its own, through Ray, and none of them twice."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from logging import getLogger
from pathlib import Path

from recbole_ib.config.config import feature_files
from recbole_ib.config.serialize import plain_value, quoted
from recbole_ib.errors import CheckpointError
from recbole_ib.model.registry import is_multimodal
from recbole_ib.training.checkpoint import last_path
from recbole_ib.utils.files import write_text
from recbole_ib.utils.ray import check_resources, ray_session, use_share, working_in
from recbole_ib.version import __version__

#: of every training; RecBole rounds metrics to four digits, coarser than what paired tests compare
QUIET = {"show_progress": False, "state": "ERROR", "save_last": True, "metric_decimal_place": 12, "per_user": True}
ERROR_FILE = "error.txt"
#: a training whose process ended (killed, out of memory) is started again so often
RESTARTS = 1


@dataclass(frozen=True)
class Task:
    """One training: what ``run_recbole_ib`` takes as model, the data set, all settings (the seed is one), and the folder of its files."""

    name: str
    dataset: str
    settings: dict
    folder: Path

    @classmethod
    def of(cls, name: str, dataset: str, settings: dict, runs: Path, data: str = "") -> Task:
        """The task's folder below ``runs`` is named after everything that decides its numbers, ``data`` being :func:`data_identity`."""
        parts = [name, dataset, plain_value(settings), data, __version__]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]
        slug = re.sub(r"[^\w.+-]", "_", name)
        return cls(name, dataset, settings, runs / f"{slug}-seed{settings['seed']}-{digest}")

    def manifest(self) -> Path | None:
        """The manifest of the finished training, ``None`` where it has not finished: a run writes it last, and whole."""
        return next(iter(sorted(self.folder.glob("*.json"))), None)

    def finished(self, with_checkpoint: bool) -> bool:
        """Is there a manifest, and the checkpoint that it names, where that is asked for?"""
        manifest = self.manifest()
        return manifest is not None and (not with_checkpoint or manifest.with_suffix(".pth").is_file())

    def error(self) -> str | None:
        """The first line of what stopped it, if an error did."""
        file = self.folder / ERROR_FILE
        return file.read_text(encoding="utf-8").splitlines()[0] if file.is_file() else None


def data_identity(config) -> str:
    """A digest of the files that a run reads: the data set's own, its yaml among them, and the features that the model takes."""
    files = sorted(Path(config["data_path"]).glob(f"{config['dataset']}.*"))
    digest = hashlib.sha256()
    for file in [*files, *(feature_files(config) if is_multimodal(config.model_class) else ())]:
        stat = file.stat()
        digest.update(f"{file.name}\n{_file_digest(file, stat.st_size, stat.st_mtime_ns)}\n".encode())
    return digest.hexdigest()


@cache
def _file_digest(file: Path, size: int, changed: int) -> str:
    """Of a file as it is at the time; models read the same ones."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def run_tasks(
    tasks: list[Task],
    cpus: float,
    gpus: float,
    address: str | None,
    keep_checkpoints: bool,
    done: Callable[[Task, float, str | None], None],
) -> None:
    """Train, as many at a time as the cores and GPUs of the cluster allow; ``done(task, seconds, error)`` hears of each as it ends.

    A training that failed leaves its error in its folder, and the others go on. One whose process was killed, or whose whole
    command was, continues from its last evaluated epoch when it is started again, where the model is ours.
    """
    if not tasks:
        return
    with ray_session(address):
        import ray

        check_resources(cpus, gpus, "run")
        # a worker for each: memory and threads of one training are not another's
        worker = ray.remote(num_cpus=cpus, num_gpus=gpus, max_calls=1, max_retries=RESTARTS)(train)
        left = {worker.remote(task, cpus, keep_checkpoints): task for task in tasks}
        while left:
            (ready,), _ = ray.wait(list(left), num_returns=1)
            task = left.pop(ready)
            try:
                seconds, error = ray.get(ready)
            except ray.exceptions.RayError as lost:
                seconds, error = 0.0, f"the process of this training ended: {type(lost).__name__}: {lost}".splitlines()[0]
                write_text(task.folder / ERROR_FILE, error + "\n")
            done(task, seconds, error)


def train(task: Task, cpus: float, keep_checkpoints: bool) -> tuple[float, str | None]:
    """Train and test one task in this process; the seconds that it took, and the error that stopped it or ``None``."""
    started = time.perf_counter()
    # a user's own choice of device stays
    devices = use_share(cpus)
    settings = {**devices, **task.settings, **QUIET, "checkpoint_dir": str(task.folder)}
    # RecBole writes log/ and log_tensorboard/ into the working directory
    with tempfile.TemporaryDirectory(prefix="comparison-") as scratch, working_in(scratch):
        try:
            _train(task, settings, keep_checkpoints)
        except Exception as error:
            # one failing model must not take the rest of a long comparison with it
            text = " ".join(f"{type(error).__name__}: {error}".split())
            write_text(task.folder / ERROR_FILE, f"{text}\n\n{traceback.format_exc()}\n")
            return time.perf_counter() - started, text
    return time.perf_counter() - started, None


def _train(task: Task, settings: dict, keep_checkpoints: bool) -> None:
    from recbole_ib.training.run import run_recbole_ib

    (task.folder / ERROR_FILE).unlink(missing_ok=True)
    unfinished = None if task.manifest() else last_of(task.folder)
    result = None
    if unfinished is not None:
        try:
            result = run_recbole_ib(task.name, task.dataset, None, quoted({**settings, "resume_checkpoint": str(unfinished)}))
        except CheckpointError as error:
            getLogger().error(f"{unfinished} cannot be continued, the run starts over: {error}")
    if result is None:
        # what a training has left that was killed before it could be continued
        shutil.rmtree(task.folder, ignore_errors=True)
        task.folder.mkdir(parents=True)
        result = run_recbole_ib(task.name, task.dataset, None, quoted(settings))
    if not keep_checkpoints:
        for path in (Path(result["checkpoint"]), last_path(result["checkpoint"])):
            path.unlink(missing_ok=True)


def last_of(folder: Path) -> Path | None:
    """The checkpoint that a killed training in this folder continues from: its last epoch's, if the best one's lies beside it."""
    for best in sorted(folder.glob("*.pth")):
        if last_path(best).is_file():
            return last_path(best)
    return None

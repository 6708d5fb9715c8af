"""The trainings of compare, ablate and robustness.

Each runs in a folder of its own, through Ray, and none of them twice.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from logging import getLogger
from pathlib import Path
from typing import cast

from recbole_ib.config.config import Config, absolute_paths, feature_files
from recbole_ib.config.serialize import plain_value, quoted
from recbole_ib.errors import CheckpointError
from recbole_ib.model.registry import MMREC_PREFIX, is_multimodal, resolve_model
from recbole_ib.training.checkpoint import last_path
from recbole_ib.training.run import run_recbole_ib
from recbole_ib.utils.files import write_text
from recbole_ib.utils.ray import apply_resources, chdir, check_resources, ray_session
from recbole_ib.version import __version__

#: of every training; RecBole rounds metrics to four digits, coarser than what paired tests compare
QUIET = {"show_progress": False, "state": "ERROR", "save_last": True, "metric_decimal_place": 12}
ERROR_FILE = "error.txt"
#: what a job's ``measure`` returned, as JSON
MEASURES_FILE = "measures.json"
#: a training whose process ended (killed, out of memory) is started again so often
RESTARTS = 1


@dataclass(frozen=True)
class Job:
    """One training.

    name: what ``run_recbole_ib`` takes as model; settings: all of them, the seed is one; folder: of its
    files; measure: numbers of the best epoch's checkpoint beside the metrics, of our models alone. Users'
    metrics are kept unless the settings say otherwise.
    """

    name: str
    dataset: str
    settings: dict
    folder: Path
    measure: Callable[[str], dict[str, float]] | None = None

    def manifest(self) -> Path | None:
        """Return the manifest of the finished training, ``None`` where it has not finished.

        A run writes it last, and whole.
        """
        return next((path for path in sorted(self.folder.glob("*.json")) if path.name != MEASURES_FILE), None)

    def finished(self, with_checkpoint: bool = False) -> bool:
        """Return whether the job is finished.

        There is a manifest, what ``measure`` found, and, where it is wanted, the checkpoint.
        """
        manifest = self.manifest()
        measured = self.measure is None or (self.folder / MEASURES_FILE).is_file()
        return (
            manifest is not None
            and measured
            and (not with_checkpoint or manifest.with_suffix(".pth").is_file())
        )

    def measures(self) -> dict[str, float]:
        """Return what ``measure`` found."""
        file = self.folder / MEASURES_FILE
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def error(self) -> str | None:
        """Return the first line of what stopped it, if an error did."""
        file = self.folder / ERROR_FILE
        return file.read_text(encoding="utf-8").splitlines()[0] if file.is_file() else None


@dataclass(frozen=True)
class Resources:
    """What one job takes, and where it runs.

    ``local_cpus``: cores of a Ray that is started for it, all of them if not given.
    """

    cpus: float = 1
    gpus: float = 0
    address: str | None = None
    local_cpus: int | None = None


# -- the jobs of a command -----------------------------------------------------------------------------------


def make_job(
    name: str,
    dataset: str,
    settings: dict,
    runs: Path,
    data: str = "",
    measure: Callable[[str], dict[str, float]] | None = None,
) -> Job:
    """Return a job whose folder below ``runs`` is named after everything that decides its numbers.

    Args:
        name: of the model.
        dataset: of the data set.
        settings: all of them.
        runs: the folder of all runs.
        data: as of :func:`data_identity`.
        measure: see :class:`Job`.
    """
    # data that lie beside the runs move with them
    own_data = "data_path" in settings and Path(settings["data_path"]).is_relative_to(runs.parent)
    named = {key: value for key, value in settings.items() if key != "data_path" or not own_data}
    parts = [name, dataset, plain_value(named), data, __version__]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]
    slug = re.sub(r"[^\w.+-]", "_", name)
    return Job(name, dataset, settings, runs / f"{slug}-seed{settings['seed']}-{digest}", measure)


def configured_job(
    name: str,
    config: Config,
    settings: dict,
    seed: int,
    runs: Path,
    measure: Callable[[str], dict[str, float]] | None = None,
) -> Job:
    """Return the job of a checked configuration and one seed.

    VLATTICE+fib+gib and IBMRec are one model: what was trained under one name is not trained again under the
    other.
    """
    settings = {**absolute_paths(settings, config), "seed": seed}
    return make_job(one_name(name), config["dataset"], settings, runs, data_identity(config), measure)


def one_name(model: str, bottleneck: str | None = None) -> str:
    """Return a model's one name, whatever it was written as; that of a checkout's model is its whole text."""
    if model.lower().startswith(MMREC_PREFIX):
        return model
    return cast("str", resolve_model(model, bottleneck))


def data_identity(config: Config) -> str:
    """Return a digest of the files that a run reads.

    They are the data set's own, its yaml among them, and the model's features.
    """
    files = sorted(Path(config["data_path"]).glob(f"{config['dataset']}.*"))
    digest = hashlib.sha256()
    for file in [*files, *(feature_files(config) if is_multimodal(config.model_class) else ())]:
        stat = file.stat()
        digest.update(f"{file.name}\n{_file_digest(file, stat.st_size, stat.st_mtime_ns)}\n".encode())
    return digest.hexdigest()


@cache
def _file_digest(file: Path, _size: int, _changed: int) -> str:
    """Return the digest of a file of this size and time of change; models read the same files."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# -- running them --------------------------------------------------------------------------------------------


def run_missing(
    jobs: Sequence[Job],
    runs: Path,
    resources: Resources,
    keep_checkpoints: bool = False,
    describe: Callable[[Job, str | None], str] | None = None,
) -> None:
    """Train what has not finished, and print one line a job as it ends.

    Args:
        jobs: all of a command; several with the same folder are one training.
        runs: the folder of all runs, for the first line.
        resources: of one job.
        keep_checkpoints: keep them, and train again where one is missing.
        describe: the text of the line of a job and its error; default: the name of its folder, and ``done``.
    """
    missing = list({job.folder: job for job in jobs if not job.finished(keep_checkpoints)}.values())
    print(f"{len(jobs)} runs, {len(missing)} of them to be trained; {runs}", flush=True)
    count = 0

    def ended(job: Job, seconds: float, error: str | None) -> None:
        nonlocal count
        count += 1
        text = (
            describe(job, error)
            if describe
            else f"{job.folder.name}: {f'FAILED: {error}' if error else 'done'}"
        )
        print(f"[{count}/{len(missing)}] {text} ({seconds:.1f} s)", flush=True)

    run_jobs(missing, resources, keep_checkpoints, ended)


def run_jobs(
    jobs: Sequence[Job],
    resources: Resources,
    keep_checkpoints: bool,
    ended: Callable[[Job, float, str | None], None],
) -> None:
    """Train jobs, as many at a time as the cores and GPUs allow.

    A training that failed leaves its error in its folder, and the others go on. One whose process was killed,
    or whose whole command was, continues from its last evaluated epoch when it is started again, where the
    model is ours.

    Args:
        jobs: to be trained.
        resources: of one job.
        keep_checkpoints: keep the checkpoints.
        ended: called with the job, its seconds and its error, or ``None``, as each ends.

    Raises:
        ConfigurationError: no cluster at the address, or no machine with so many cores or GPUs.
    """
    if not jobs:
        return
    with ray_session(resources.address, resources.local_cpus):
        import ray

        cpus, gpus = resources.cpus, resources.gpus
        check_resources(cpus, gpus, "run")
        # a worker for each: memory and threads of one training are not another's
        worker = ray.remote(num_cpus=cpus, num_gpus=gpus, max_calls=1, max_retries=RESTARTS)(train)
        running = {worker.remote(job, cpus, keep_checkpoints): job for job in jobs}
        while running:
            (ready,), _ = ray.wait(list(running), num_returns=1)
            job = running.pop(ready)
            try:
                seconds, error = ray.get(ready)
            except ray.exceptions.RayError as lost:
                seconds, error = (
                    0.0,
                    f"the process of this training ended: {type(lost).__name__}: {lost}".splitlines()[0],
                )
                write_text(job.folder / ERROR_FILE, error + "\n")
            ended(job, seconds, error)


def train(job: Job, cpus: float, keep_checkpoints: bool) -> tuple[float, str | None]:
    """Train and test one job in this process.

    Returns the seconds that it took, and the error that stopped it or ``None``.
    """
    started = time.perf_counter()
    # a user's own choice of device, and of the users' metrics, stays
    settings = {
        **apply_resources(cpus),
        "per_user": True,
        **job.settings,
        **QUIET,
        "checkpoint_dir": str(job.folder),
    }
    # RecBole writes log/ and log_tensorboard/ into the working directory
    with tempfile.TemporaryDirectory(prefix="run-") as scratch, chdir(scratch):
        try:
            _train(job, settings, keep_checkpoints)
        except Exception as error:
            # one failing model must not take the rest of a long comparison with it
            text = " ".join(f"{type(error).__name__}: {error}".split())
            write_text(job.folder / ERROR_FILE, f"{text}\n\n{traceback.format_exc()}\n")
            return time.perf_counter() - started, text
    return time.perf_counter() - started, None


def _train(job: Job, settings: dict, keep_checkpoints: bool) -> None:
    (job.folder / ERROR_FILE).unlink(missing_ok=True)
    unfinished = None if job.manifest() else resumable_checkpoint(job.folder)
    result = None
    if unfinished is not None:
        try:
            result = run_recbole_ib(
                job.name, job.dataset, None, quoted({**settings, "resume_checkpoint": str(unfinished)})
            )
        except CheckpointError as error:
            getLogger().error(f"{unfinished} cannot be continued, the run starts over: {error}")
    if result is None:
        # what a training has left that was killed before it could be continued
        shutil.rmtree(job.folder, ignore_errors=True)
        job.folder.mkdir(parents=True)
        result = run_recbole_ib(job.name, job.dataset, None, quoted(settings))
    checkpoint = Path(result["checkpoint"])
    if job.measure is not None:
        write_text(job.folder / MEASURES_FILE, json.dumps(job.measure(str(checkpoint)), indent=1) + "\n")
    if not keep_checkpoints:
        for path in (checkpoint, last_path(checkpoint)):
            path.unlink(missing_ok=True)


def resumable_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint that a killed training in this folder continues from.

    It is its last epoch's, beside the best one's.
    """
    for best in sorted(folder.glob("*.pth")):
        if last_path(best).is_file():
            return last_path(best)
    return None

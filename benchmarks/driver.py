"""Start the contestants of a benchmark, each a process of workers.py, and measure them in interleaved turns."""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks.workers import ROOT, extrapolated


class Contestant(NamedTuple):
    """kind: ``ours`` (our command, RecBole's own models too), ``plain`` (RecBole, of ours compat alone), ``cornac`` or ``implicit``.

    partner: the contestant that its bottlenecks stand on, or that it is with other ``settings`` (keys of the run), if there is one.
    """

    name: str
    kind: str
    model: str
    partner: str | None = None
    settings: dict | None = None
    checkout: str | None = None  # another one, whose package and workers.py are run


@dataclass
class Measured:
    """What was measured of a contestant; seconds, GiB. ``error``: why there is nothing or not all of it."""

    contestant: Contestant
    error: str | None = None
    startup: float | None = None
    imports: float | None = None
    n_batches: int = 0
    turns: list[dict] = field(default_factory=list)
    evaluations: list[float] = field(default_factory=list)
    peak: float | None = None
    peak_gpu: float | None = None
    ratio: float | None = None
    partner_ratio: float | None = None
    data: float | None = None  # of the start-up: reading and splitting
    model: float | None = None  # of the start-up: the model with its graphs, and the trainer

    @property
    def epoch(self) -> float | None:
        """Seconds of a training epoch, extrapolated from all turns."""
        return extrapolated(self.turns, self.n_batches) if self.turns else None

    @property
    def cpu_epoch(self) -> float | None:
        """The same in the process's own CPU time, of all its threads: less moved by what else the machine does."""
        return extrapolated([turn["cpu"] for turn in self.turns], self.n_batches) if self.turns else None

    @property
    def turn_epochs(self) -> list[float]:
        """The same, from each turn alone."""
        return [extrapolated([turn], self.n_batches) for turn in self.turns]

    @property
    def evaluation(self) -> float | None:
        """Seconds of an evaluation, median."""
        return statistics.median(self.evaluations) if self.evaluations else None


class Failure(Exception):
    """A contestant that could not be measured: its own error, its end, or the end of its budget."""


class Worker:
    """One contestant's process. ``budget``: seconds that all its answers together may take."""

    def __init__(self, contestant: Contestant, options: dict):
        self.contestant, self.left, self.budget = contestant, options["budget"], options["budget"]
        self.folder = tempfile.TemporaryDirectory(prefix="bench-")
        self.errors = open(Path(self.folder.name) / "stderr", "w+")  # noqa: SIM115  (closed by end)
        threads = str(options["threads"])
        variables = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        root = Path(contestant.checkout or ROOT)
        path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, str(root / "benchmarks" / "workers.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, cwd=self.folder.name,
            env={**os.environ, **variables, **options["environment"], "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
        )  # fmt: skip
        self.spec = {**options, **contestant._asdict()}

    def ask(self, command: str, **values) -> dict:
        """Send a command and wait for its answer. Raises Failure."""
        started = time.perf_counter()
        try:
            self.process.stdin.write(json.dumps({"command": command, **values}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failure(self._end_of_process()) from None
        ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, self.left))
        self.left -= time.perf_counter() - started
        if not ready:
            raise Failure(f"over the budget of {self.budget:g} s ({command})")
        line = self.process.stdout.readline()
        if not line:
            raise Failure(self._end_of_process())
        answer = json.loads(line)
        if "error" in answer:
            raise Failure(answer["error"])
        return answer

    def build(self) -> dict:
        return self.ask("build", spec=self.spec)

    def _end_of_process(self) -> str:
        code = self.process.wait()
        self.errors.seek(0)
        lines = [line for line in self.errors.read().splitlines() if line.strip()]
        return f"its process ended with {code}" + (f": {lines[-1].strip()}" if lines else "")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.errors.close()
        self.folder.cleanup()


def options(data_path, dataset, *, threads=1, device="cpu", budget=600.0, memory_gb=None, environment=None) -> dict:
    """What all contestants of a run share.

    memory_gb: a process that wants more gets torch's or numpy's out-of-memory error; environment: variables of the processes.
    """
    limit = None if device == "cuda" else memory_gb
    return {
        "data_path": str(data_path), "dataset": dataset, "threads": threads, "device": device, "budget": budget, "memory_gb": limit,
        "environment": environment or {},
    }  # fmt: skip


def run_group(
    contestants, shared: dict, turns: int, batches: int, evaluations: int, report=print, evaluation_batches: int | None = None
) -> dict[str, Measured]:
    """Build all contestants, then measure them in interleaved turns, after a turn that warms up; name -> what was measured.

    One that fails is left out from then on, with its error and what was measured before; the others go on. ``shared``: see
    :func:`options`; ``evaluation_batches``: an evaluation is extrapolated from so many batches of users (of RecBole's trainers alone).
    """
    measured = {contestant.name: Measured(contestant) for contestant in contestants}
    workers: dict[str, Worker] = {}

    def attempt(name, ask):
        try:
            answer = ask(workers[name])
            measured[name].peak, measured[name].peak_gpu = answer["peak"], answer["peak_gpu"]
            return answer
        except Failure as failure:
            measured[name].error = str(failure)
            report(f"  {name}: {failure}")
            workers.pop(name).end()
            return None

    def each(ask):
        for name in list(workers):
            answer = attempt(name, ask)
            if answer is not None:
                yield measured[name], answer

    try:
        for contestant in contestants:
            workers[contestant.name] = Worker(contestant, shared)
            built = attempt(contestant.name, Worker.build)
            if built is not None:
                found = measured[contestant.name]
                for key in ("startup", "data", "model", "imports", "n_batches"):
                    setattr(found, key, built[key])
                report(f"  {contestant.name}: started in {found.startup:.1f} s, {found.n_batches} batches an epoch")
        for turn in range(turns + 1):
            for found, answer in each(lambda worker: worker.ask("train", batches=batches)):
                if turn:  # the first one warms up
                    found.turns.append(answer)
        for found in measured.values():
            if found.turns:
                report(f"  {found.contestant.name}: {found.epoch:.1f} s an epoch, {found.peak:.1f} GiB so far")
        for _ in range(evaluations):
            for found, answer in each(lambda worker: worker.ask("evaluate", batches=evaluation_batches)):
                found.evaluations.append(answer["seconds"])
    finally:
        for worker in workers.values():
            worker.end()
    return measured


def ratio(measured: Measured, reference: Measured | None) -> float | None:
    """How many times the reference's epoch a contestant's takes: the median over the turns, which lie side by side."""
    if reference is None or not measured.turns or not reference.turns:
        return None
    pairs = zip(measured.turn_epochs, reference.turn_epochs, strict=False)
    return statistics.median(mine / theirs for mine, theirs in pairs)


def catalog() -> dict[str, str | None]:
    """Our models -> the backbone that their bottlenecks stand on (None without any), asked of another process."""
    script = (
        "import json, recbole_ib; from recbole_ib.model.registry import CATALOG; "
        "print(json.dumps({e.name: None if e.bottlenecks == '-' else e.backbone for e in CATALOG.values()}))"
    )
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def memory_share(processes: int) -> float | None:
    """GiB that each of so many processes may take, nine tenths of what is free in all; None where the system does not say."""
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    free = next((int(line.split()[1]) / 2**20 for line in lines if line.startswith("MemAvailable")), None)
    return None if free is None else 0.9 * free / processes

"""Contestants of a benchmark, each in a process of its own and driven over a pipe, so that their batches interleave.

A contestant is built once (data set, model, trainer), and then asked for a few training batches or a whole evaluation at a time. Its
trainer runs as it is; only the loader ends after a few batches. A turn of an epoch that was cut so is told apart into

- ``once``: what happens once an epoch, that is ``pre_epoch``, the shuffling, and what the first batch takes longer than the others;
- ``batches``: seconds of the other batches, loader, forward, backward and optimizer step together.

An epoch is EXTRAPOLATED from it: ``once`` + median(``batches``) x batches an epoch, by the clock and, as ``cpu``, in CPU time. An
evaluation is whole, unless a number of batches is asked for: then it is extrapolated in the same way. The peak is of the process's
resident memory, from its start to its last answer.
"""

from __future__ import annotations

import importlib
import itertools
import json
import logging
import os
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import types
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
#: cut-offs and metrics of all contestants that RecBole evaluates, those of properties/overall.yaml
EVALUATION = {"metrics": ["Recall", "Precision", "NDCG"], "topk": [10, 20], "valid_metric": "Recall@20"}
#: user-item pairs of a batch of plain RecBole's evaluation, those of our default, which is a default only where nobody sets it
PLAIN_PAIRS = 1 << 21
#: users that Cornac's evaluation is measured on; its figure is scaled to all
CORNAC_USERS = 500


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


def extrapolated(turns: list[dict], n_batches: int) -> float:
    """Seconds of an epoch of ``n_batches``, from turns of a few."""
    batches = [seconds for turn in turns for seconds in turn["batches"]]
    return statistics.median(turn["once"] for turn in turns) + statistics.median(batches) * n_batches


class Failure(Exception):
    """A contestant that could not be measured: its own error, its end, or the end of its budget."""


# -- the driver's side ------------------------------------------------------------------------------------------------


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


# -- the worker's side ------------------------------------------------------------------------------------------------


class FewBatches:
    """A loader that ends after ``limit`` batches, and notes when each was asked for. To ``isinstance`` it is of the loader's class."""

    def __init__(self, loader, limit: int, stamp):
        self.loader, self.limit, self.stamp, self.stamps = loader, limit, stamp, []

    def __len__(self) -> int:
        return min(self.limit, len(self.loader))

    def __getattr__(self, name):
        return getattr(self.loader, name)

    @property
    def __class__(self):  # RecBole's trainer ranks all items only for a loader of the class that does
        return type(self.loader)

    def __iter__(self):
        self.stamps.append(self.stamp())
        for number, batch in enumerate(self.loader, start=1):
            yield batch
            self.stamps.append(self.stamp())
            if number == self.limit:
                return


def split_turn(started: float, stamps: list[float]) -> dict:
    """A turn as ``once`` and ``batches``, from when it started and when each batch was asked for (the last entry: the end)."""
    seconds = [after - before for before, after in itertools.pairwise(stamps)]
    others = seconds[1:] or seconds
    return {"once": stamps[0] - started + max(0.0, seconds[0] - statistics.median(others)), "batches": others}


def stamp() -> tuple[float, float]:
    """Now, by the clock and in this process's CPU time."""
    return time.perf_counter(), time.process_time()


def measured_turn(started: tuple[float, float], stamps: list[tuple[float, float]]) -> dict:
    """:func:`split_turn` by the clock, and of the CPU time as ``cpu``."""
    wall, cpu = (split_turn(started[i], [s[i] for s in stamps]) for i in (0, 1))
    return {**wall, "cpu": cpu}


class RecBoleRun:
    """A model under RecBole's trainer or ours: data, model, trainer, as ``recbole_ib.training.run`` or RecBole's makes them."""

    def __init__(self, spec: dict):
        cuda = spec["device"] == "cuda"
        settings = {
            **EVALUATION, "data_path": spec["data_path"], "show_progress": False, "state": "ERROR", "use_gpu": cuda,
            "gpu_id": "0" if cuda else "", **(spec["settings"] or {}),
        }  # fmt: skip
        if spec["kind"] == "plain":
            compat_alone()
            from recbole.config import Config

            settings["load_col"] = {"inter": ["user_id", "item_id"]}
            settings.setdefault("eval_batch_size", PLAIN_PAIRS)
        else:
            importlib.import_module("recbole_ib")
            from recbole_ib.config.config import Config
            from recbole_ib.patches.kernels import applicable, install_fast_kernels
            from recbole_ib.utils.malloc import tune_malloc

            tune_malloc()
        import torch
        from recbole.data import create_dataset, data_preparation
        from recbole.utils import get_model, get_trainer, init_seed

        torch.set_num_threads(spec["threads"])
        self.synchronize = torch.cuda.synchronize if cuda else None
        self.imported = time.perf_counter()
        self.config = config = Config(spec["model"], spec["dataset"], config_dict=settings)
        init_seed(config["seed"], config["reproducibility"])
        self.train_data, self.valid_data, _ = data_preparation(config, create_dataset(config))
        prepared = time.perf_counter()
        init_seed(config["seed"], config["reproducibility"])
        self.model = get_model(config["model"])(config, self.train_data._dataset).to(config["device"])
        self.trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, self.model)
        if spec["kind"] == "ours" and applicable(config):
            install_fast_kernels(self.model, self.trainer)
        self.trainer.eval_collector.data_collect(self.train_data)
        self.startup = {"data": prepared - self.imported, "model": time.perf_counter() - prepared}
        self.n_batches, self.epoch = len(self.train_data), 0
        if spec["kind"] == "plain" and "recbole_ib.config.config" in sys.modules:
            raise RuntimeError("more of recbole_ib than compat is loaded")

    def stamp(self) -> tuple[float, float]:
        if self.synchronize:
            self.synchronize()
        return stamp()

    def train(self, batches: int) -> dict:
        few, started = FewBatches(self.train_data, batches, self.stamp), self.stamp()
        self.trainer._train_epoch(few, self.epoch)
        self.epoch += 1
        return measured_turn(started, few.stamps)

    def evaluate(self, batches: int | None = None) -> float:
        """Seconds of an evaluation, measured, or extrapolated from its first ``batches``."""
        total = len(self.valid_data)
        whole = batches is None or batches >= total
        loader = self.valid_data if whole else FewBatches(self.valid_data, batches, self.stamp)
        started, _ = self.stamp()
        self.trainer.evaluate(loader, load_best_model=False)
        ended, _ = self.stamp()
        if whole:
            return ended - started
        stamps = [seconds for seconds, _ in loader.stamps]
        # the metrics come after the last batch, and cost what a user costs
        return extrapolated([split_turn(started, stamps)], total) + (ended - stamps[-1]) * total / batches


def compat_alone() -> None:
    """Load and apply recbole_ib.patches.compat under a package that is empty otherwise: nothing else of ours is patched into RecBole."""
    package = sys.modules["recbole_ib"] = types.ModuleType("recbole_ib")
    package.__path__ = [str(ROOT / "recbole_ib")]
    importlib.import_module("recbole_ib.patches.compat").apply()


def read_split(spec: dict):
    """Training and validation interactions of a data set, as many a user as RecBole's 8:1:1 split has: two pairs (users, items), from 0.

    Returns the pairs, and (users, items) in number.
    """
    import numpy as np
    from pyarrow import csv

    path = Path(spec["data_path"]) / spec["dataset"] / f"{spec['dataset']}.inter"
    table = csv.read_csv(path, parse_options=csv.ParseOptions(delimiter="\t"))
    users, items = (column.to_numpy() - 1 for column in table.columns)
    order = np.lexsort((np.random.default_rng(0).random(users.size), users))
    users, items, total = users[order], items[order], np.bincount(users)
    # a tenth of a user's interactions each, rounded down but one at least, for validation and for testing
    tenth, rank = np.maximum(1, total // 10)[users], np.arange(users.size) - (np.cumsum(total) - total)[users]
    chosen = (rank >= 2 * tenth, rank < tenth)
    return [(users[at], items[at]) for at in chosen], (int(users.max()) + 1, int(items.max()) + 1)


class CornacVBPR:
    """Cornac's VBPR on all modalities side by side; batches are counted where it asks its data set for them."""

    def __init__(self, spec: dict):
        import cornac
        import numpy as np
        import torch
        import yaml

        torch.set_num_threads(spec["threads"])
        self.imported = time.perf_counter()
        (train, valid), _ = read_split(spec)
        folder = Path(spec["data_path"]) / spec["dataset"]
        files = yaml.safe_load((folder / f"{spec['dataset']}.yaml").read_text())["modalities"].values()
        table = np.concatenate([np.load(folder / entry["file"]) for entry in files], axis=1)
        self.train_set = cornac.data.Dataset.from_uir([(u, i, 1.0) for u, i in zip(*train, strict=True)], seed=0)
        image = cornac.data.ImageModality(features=table, ids=list(range(table.shape[0])), normalized=False)
        self.train_set.add_modalities(item_image=image.build(id_map=self.train_set.iid_map))
        self.train_set.dok_matrix  # noqa: B018  (made once, on the first read)
        batch = (spec["settings"] or {}).get("train_batch_size", 2048)
        self.n_batches = self.train_set.num_batches(batch)
        self.model = cornac.models.VBPR(
            k=64, k2=64, n_epochs=1, batch_size=batch, use_gpu=spec["device"] == "cuda", verbose=False, seed=0
        )
        self.metrics = [cornac.metrics.Recall(k=20), cornac.metrics.NDCG(k=20)]
        self.n_users = np.unique(valid[0]).size
        some = np.isin(valid[0], np.random.default_rng(0).permutation(np.unique(valid[0]))[:CORNAC_USERS])
        self.some_users = min(CORNAC_USERS, self.n_users)
        self.valid_set = cornac.data.Dataset.build(
            [(u, i, 1.0) for u, i in zip(valid[0][some], valid[1][some], strict=True)],
            global_uid_map=self.train_set.uid_map, global_iid_map=self.train_set.iid_map, exclude_unknowns=True,
        )  # fmt: skip

    def train(self, batches: int) -> dict:
        original, few = self.train_set.uij_iter, []

        def uij_iter(*args, **kwargs):
            few.append(FewBatches(original(*args, **kwargs), batches, stamp))
            return iter(few[-1])

        self.train_set.uij_iter = uij_iter
        try:
            self.model.fit(self.train_set)
        finally:
            self.train_set.uij_iter = original
        return measured_turn(few[-1].stamps[0], few[-1].stamps)

    def evaluate(self) -> float:
        from cornac.eval_methods.base_method import ranking_eval

        started = time.perf_counter()
        ranking_eval(self.model, self.metrics, self.train_set, self.valid_set)
        return (time.perf_counter() - started) * self.n_users / self.some_users


class ImplicitBPR:
    """implicit's BPR; it has no batches, so that every turn is a whole epoch."""

    n_batches = 1

    def __init__(self, spec: dict):
        import numpy as np
        import scipy.sparse as sp
        from implicit.bpr import BayesianPersonalizedRanking

        self.imported = time.perf_counter()
        parts, size = read_split(spec)
        self.parts = [sp.csr_matrix((np.ones(len(u), np.float32), (u, i)), shape=size) for u, i in parts]
        self.threads = spec["threads"]
        self.model = BayesianPersonalizedRanking(
            factors=64, iterations=1, use_gpu=spec["device"] == "cuda", num_threads=self.threads, random_state=0
        )

    def train(self, batches: int) -> dict:
        started = stamp()
        self.model.fit(self.parts[0], show_progress=False)
        return measured_turn(started, [started, stamp()])

    def evaluate(self) -> float:
        from implicit.evaluation import ranking_metrics_at_k

        started = time.perf_counter()
        ranking_metrics_at_k(self.model, *self.parts, K=20, show_progress=False, num_threads=self.threads)
        return time.perf_counter() - started


KINDS = {"ours": RecBoleRun, "plain": RecBoleRun, "cornac": CornacVBPR, "implicit": ImplicitBPR}


def peak_memory() -> float:
    """GiB of resident memory that this process had at most. Not ru_maxrss where it can be helped: that remembers the parent's."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 2**20
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def peak_gpu_memory(device: str) -> float | None:
    """GiB of tensors on the GPU at most, where there is one."""
    if device != "cuda" or "torch" not in sys.modules:
        return None
    return sys.modules["torch"].cuda.max_memory_allocated() / 2**30


def serve(commands, answers) -> None:
    """Answer commands, one line of json each, until there are no more. An error of the contestant's is an answer too."""
    run, spec = None, {}
    for line in commands:
        request = json.loads(line)
        try:
            if request["command"] == "build":
                spec, started = request["spec"], time.perf_counter()
                if spec["memory_gb"]:
                    limit = int(spec["memory_gb"] * 2**30)
                    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
                run = KINDS[spec["kind"]](spec)
                run.train(1)  # a run's first epoch has begun
                answer = {
                    "startup": time.perf_counter() - run.imported, "imports": run.imported - started, "n_batches": run.n_batches,
                    "data": None, "model": None, **getattr(run, "startup", {}),
                }  # fmt: skip
            elif request["command"] == "train":
                answer = run.train(request["batches"])
            else:
                answer = {"seconds": run.evaluate(request["batches"]) if request["batches"] else run.evaluate()}
            answer.update(peak=peak_memory(), peak_gpu=peak_gpu_memory(spec["device"]))
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    # libraries print to stdout too: the answers keep a descriptor of their own
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    serve(sys.stdin, answers)


if __name__ == "__main__":
    main()

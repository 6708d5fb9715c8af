"""A contestant of a benchmark: the script of a process of its own, driven over a pipe (driver.py), so that batches interleave.

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
import statistics
import sys
import time
import traceback
import types
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: cut-offs and metrics of all contestants that RecBole evaluates, those of properties/overall.yaml
EVALUATION = {"metrics": ["Recall", "Precision", "NDCG"], "topk": [10, 20], "valid_metric": "Recall@20"}
#: user-item pairs of a batch of plain RecBole's evaluation, those of our default, which is a default only where nobody sets it
PLAIN_PAIRS = 1 << 21
#: users that Cornac's evaluation is measured on; its figure is scaled to all
CORNAC_USERS = 500


def extrapolated(turns: list[dict], n_batches: int) -> float:
    """Seconds of an epoch of ``n_batches``, from turns of a few."""
    batches = [seconds for turn in turns for seconds in turn["batches"]]
    return statistics.median(turn["once"] for turn in turns) + statistics.median(batches) * n_batches


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

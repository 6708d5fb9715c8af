"""Where a model's epoch goes: seconds by part of a training batch and of an evaluation, then torch's operators by their own CPU time.

    python benchmarks/profile_model.py MODEL [--shape baby] [--batches 20] [--threads 1] [--data FOLDER]

Takes our models and RecBole's. The trainer runs as it is, with a clock around its parts; the epoch is extrapolated from the batches.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

from benchmarks import driver, shapes, workers

#: methods of our models that a phase's forward calls, none inside another; what it does besides is "losses and the rest"
PARTS = ("training_latents", "encode", "item_graph", "refine", "apply_item_graph")


class Clock:
    """Seconds by name. A name that runs inside another's is taken out of it, so that all of them add up."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self.running: list[str] = []
        self.since = 0.0
        self.phase = ""

    def _turn(self) -> None:
        now = time.perf_counter()
        if self.running:
            self.seconds[self.running[-1]] += now - self.since
        self.since = now

    @contextmanager
    def of(self, name: str):
        """Count the time of a block as ``name``'s."""
        self._turn()
        self.running.append(name)
        try:
            yield
        finally:
            self._turn()
            self.running.pop()

    def around(self, function, name):
        """A function whose time counts as ``name``; a callable is asked for the name at each call, and None counts as nothing's."""

        def timed(*args, **kwargs):
            chosen = name() if callable(name) else name
            if chosen is None:
                return function(*args, **kwargs)
            with self.of(chosen):
                return function(*args, **kwargs)

        return timed


@contextmanager
def training_clock(run: workers.RecBoleRun, clock: Clock):
    """Count the parts of the training batches within."""
    model, trainer, backward = run.model, run.trainer, torch.Tensor.backward

    def enter(name, loss):
        def entered(*args, **kwargs):
            clock.phase = name
            with clock.of(f"{name}: forward, losses and the rest"):
                return loss(*args, **kwargs)

        return entered

    if hasattr(trainer, "phases"):
        trainer.phases = [phase._replace(loss=enter(phase.name, phase.loss)) for phase in trainer.phases]
    else:  # RecBole's trainer has one step
        model.calculate_loss = enter("model", model.calculate_loss)

    def part(method):
        # outside a phase's forward (pre_epoch, a ranking) these belong to whoever calls them
        return lambda: f"{clock.phase}: forward, {method}" if any(": forward" in n for n in clock.running) else None

    for method in PARTS:
        if hasattr(model, method):
            setattr(model, method, clock.around(getattr(model, method), part(method)))
    if hasattr(model, "pre_epoch"):
        model.pre_epoch = clock.around(model.pre_epoch, "once an epoch: pre_epoch")
    torch.Tensor.backward = clock.around(backward, lambda: f"{clock.phase}: backward")
    optimizers = getattr(trainer, "optimizers", {"model": trainer.optimizer})
    for optimizer in {id(o): o for o in optimizers.values()}.values():
        optimizer.step = clock.around(optimizer.step, lambda: f"{clock.phase}: optimizer step")
    run.train_data.collate_fn = clock.around(run.train_data.collate_fn, "loader")
    try:
        with clock.of("trainer, shuffling and the rest"):
            yield
    finally:
        torch.Tensor.backward = backward


@contextmanager
def evaluation_clock(run: workers.RecBoleRun, clock: Clock):
    """Count the parts of an evaluation within."""
    trainer, model = run.trainer, run.model
    run.valid_data.collate_fn = clock.around(run.valid_data.collate_fn, "loader")
    model.full_sort_predict = clock.around(model.full_sort_predict, "scores")
    trainer._full_sort_batch_eval = clock.around(trainer._full_sort_batch_eval, "mask")
    trainer.eval_collector.eval_batch_collect = clock.around(trainer.eval_collector.eval_batch_collect, "top-k")
    trainer.evaluator.evaluate = clock.around(trainer.evaluator.evaluate, "metrics")
    with clock.of("the rest"):
        yield


def profile(run: workers.RecBoleRun, batches: int) -> tuple[dict[str, float], dict[str, float], str, int]:
    """Seconds by part of a turn of training batches, and of an evaluation; the operators' table of another turn; batches a turn."""
    run.train(batches)  # warms up
    run.evaluate()
    # before the clocks are there: they would be operators' callers too
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        run.train(batches)
    operators = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=20, max_name_column_width=50)
    training, evaluation = Clock(), Clock()
    with training_clock(run, training):
        run.train(batches)
    with evaluation_clock(run, evaluation):
        run.evaluate()
    return dict(training.seconds), dict(evaluation.seconds), operators, min(batches, run.n_batches)


def lines_of(seconds: dict[str, float], scale: float, unit: str) -> list[str]:
    """A line a part, the costliest first: milliseconds a batch (or in all), share."""
    total, width = sum(seconds.values()), max(map(len, seconds))
    lines = [f"{'part':<{width}} {unit:>12} {'share':>6}"]
    for name, value in sorted(seconds.items(), key=lambda pair: -pair[1]):
        lines.append(f"{name:<{width}} {1e3 * value / scale:>12.2f} {100 * value / total:>5.1f}%")
    return [*lines, f"{'all':<{width}} {1e3 * total / scale:>12.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--shape", default="baby")
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, default=shapes.DATA, help="where the data sets are kept")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    path = shapes.make(given.shape, given.data)
    spec = {**driver.options(path, given.shape, threads=given.threads), **driver.Contestant("", "ours", given.model)._asdict()}
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:  # RecBole writes its folders into the working directory
        os.chdir(folder)
        try:
            run = workers.RecBoleRun(spec)
            training, evaluation, operators, n = profile(run, given.batches)
        finally:
            os.chdir(here)
    print(f"{given.model} on {given.shape}, torch {torch.__version__}, {given.threads} thread(s)\n")
    print(f"Training, {n} of {run.n_batches} batches: {sum(training.values()) / n * run.n_batches:.1f} s an epoch at that rate")
    print("\n".join(lines_of(training, n, "ms a batch")))
    print("\nOne evaluation (all items for all validation users)")
    print("\n".join(lines_of(evaluation, 1, "ms")))
    print(f"\nThe 20 operators with the most CPU time of their own, {n} training batches\n{operators}")


if __name__ == "__main__":
    main()

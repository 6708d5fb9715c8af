"""Seconds of a training epoch with each bottleneck against the plain backbone, epochs interleaved in one process.

    python benchmarks/bottleneck_overhead.py [--backbones VBPR ...] [--dataset ml-100k] [--data_path DIR] [--repeats 5] [--threads 1]
        [--batches N] [--set KEY=VALUE ...]

Prints the median and the ratio to the backbone, in the process's own CPU time on one thread. Evaluation is not counted: a ranking costs
the same with fib and mrdib. --batches: of every epoch so many alone. --set: settings of all, such as hsic_items=0.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import statistics
import time

import torch
import yaml
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

from recbole_ib.config.config import Config
from recbole_ib.errors import ConfigurationError

BOTTLENECKS = (None, "fib", "gib", "fib,gib", "mrdib")


class Beginning:
    """The first batches of a loader's epochs."""

    def __init__(self, loader, batches: int):
        self.loader, self.batches = loader, batches

    def __len__(self):
        return min(self.batches, len(self.loader))

    def __iter__(self):
        return itertools.islice(iter(self.loader), self.batches)


def contestant(backbone: str, bottleneck: str | None, settings: dict, batches: int | None):
    """A function that trains one epoch, or None where the backbone lacks what the bottleneck needs."""
    config = Config(backbone, settings["dataset"], config_dict={**settings, "bottleneck": bottleneck})
    init_seed(config["seed"], True)
    train, _, _ = data_preparation(config, create_dataset(config))
    try:
        model = get_model(config["model"])(config, train._dataset).to(config["device"])
    except ConfigurationError:
        return None
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    epochs, epoch = itertools.count(), train if batches is None else Beginning(train, batches)
    return lambda: trainer._train_epoch(epoch, next(epochs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["VBPR", "VLightGCN", "LATTICE", "VLATTICE", "FREEDOM", "MGCN"])
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--data_path")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    logging.disable(logging.WARNING)
    settings = {"dataset": given.dataset, "show_progress": False, "state": "ERROR", "use_gpu": False}
    if given.data_path:
        settings["data_path"] = given.data_path
    settings |= {key: yaml.safe_load(value) for key, _, value in (word.partition("=") for word in given.set)}
    clock = time.process_time if given.threads == 1 else time.perf_counter
    print(
        f"torch {torch.__version__}, {given.threads} thread(s), {given.dataset}, median of {given.repeats} epochs after a warm-up"
    )
    print(f"{'backbone':<12} {'bottleneck':<10} {'s/epoch':>8} {'ratio':>6}")
    for backbone in given.backbones:
        made = {name: contestant(backbone, name, settings, given.batches) for name in BOTTLENECKS}
        made = {name: run for name, run in made.items() if run is not None}
        times: dict[str | None, list[float]] = {name: [] for name in made}
        for repeat in range(given.repeats + 1):
            for name, run in made.items():
                start = clock()
                run()
                if repeat:  # the first one warms up
                    times[name].append(clock() - start)
        plain = statistics.median(times[None])
        for name, taken in times.items():
            median = statistics.median(taken)
            print(f"{backbone:<12} {name or '-':<10} {median:>8.2f} {median / plain:>6.2f}", flush=True)


if __name__ == "__main__":
    main()

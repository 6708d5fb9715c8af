"""Seconds of a training epoch with each bottleneck against the plain backbone, epochs interleaved in one process.

    python benchmarks/bottleneck_overhead.py [--backbones VBPR ...] [--dataset ml-100k] [--data_path DIR] [--repeats 5] [--threads 1]

Prints the median and the ratio to the backbone. Evaluation is not counted: a ranking costs the same with fib and mrdib.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time

import torch
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

from recbole_ib.config.config import Config
from recbole_ib.errors import ConfigurationError

BOTTLENECKS = (None, "fib", "gib", "fib,gib", "mrdib")


def contestant(backbone: str, bottleneck: str | None, settings: dict):
    """A function that trains one epoch, or None where the backbone lacks what the bottleneck needs."""
    config = Config(backbone, settings["dataset"], config_dict={**settings, "bottleneck": bottleneck})
    init_seed(config["seed"], True)
    train, _, _ = data_preparation(config, create_dataset(config))
    try:
        model = get_model(config["model"])(config, train._dataset).to(config["device"])
    except ConfigurationError:
        return None
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    epochs = iter(range(1_000_000))
    return lambda: trainer._train_epoch(train, next(epochs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["VBPR", "VLightGCN", "LATTICE", "VLATTICE", "FREEDOM", "MGCN"])
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--data_path")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    logging.disable(logging.WARNING)
    settings = {"dataset": given.dataset, "show_progress": False, "state": "ERROR", "use_gpu": False}
    if given.data_path:
        settings["data_path"] = given.data_path
    print(
        f"torch {torch.__version__}, {given.threads} thread(s), {given.dataset}, median of {given.repeats} epochs after a warm-up"
    )
    print(f"{'backbone':<12} {'bottleneck':<10} {'s/epoch':>8} {'ratio':>6}")
    for backbone in given.backbones:
        made = {name: contestant(backbone, name, settings) for name in BOTTLENECKS}
        made = {name: run for name, run in made.items() if run is not None}
        times: dict[str | None, list[float]] = {name: [] for name in made}
        for repeat in range(given.repeats + 1):
            for name, run in made.items():
                start = time.perf_counter()
                run()
                if repeat:  # the first one warms up
                    times[name].append(time.perf_counter() - start)
        plain = statistics.median(times[None])
        for name, taken in times.items():
            median = statistics.median(taken)
            print(f"{backbone:<12} {name or '-':<10} {median:>8.2f} {median / plain:>6.2f}", flush=True)


if __name__ == "__main__":
    main()

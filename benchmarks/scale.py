"""How an epoch, an evaluation, the start-up and the peak memory grow with the catalog, from 10,000 to 1,000,000 items, with exponents.

    python benchmarks/scale.py [--sizes 10k 30k 100k 300k 1m] [--models BPR LightGCN FREEDOM IBMRec] [--batch 8192] [--threads 1]
        [--set KEY=VALUE MODEL:KEY=VALUE ...] [--environment NAME=VALUE MODEL:NAME=VALUE ...] [--turns 2] [--batches 3]
        [--evaluation-batches 3] [--budget-seconds 900] [--memory-gb GIB] [--device cpu|cuda] [--data FOLDER] [--out results/scale.md]

Users, interactions and batches an epoch grow in proportion to the items (shapes.py), so that an exponent of 1 means: the same cost an
interaction. Epochs and evaluations are extrapolated from a few batches (workers.py). One process at a time.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

from benchmarks import driver, shapes, speed
from benchmarks.driver import Contestant, Measured

#: what is fitted and drawn: attribute of :class:`benchmarks.driver.Measured` -> its title
COSTS = {
    "epoch": "seconds an epoch",
    "startup": "start-up seconds",
    "evaluation": "seconds an evaluation",
    "peak": "peak GiB",
}
COLUMNS = (
    "model", "items", "s an epoch", "CPU s", "batches an epoch", "s a batch", "start-up s", "data s", "model s",
    "s an evaluation", "peak GiB"
)  # fmt: skip


def exponent(items, costs) -> float | None:
    """The b of cost = a items^b, by least squares of the logarithms; None of fewer than two sizes."""
    if len(items) < 2:
        return None
    return float(np.polyfit(np.log(items), np.log(costs), 1)[0])


def points(measured: dict[str, dict[str, Measured]], model: str, cost: str) -> tuple[list[int], list[float]]:
    """The sizes that a model was measured at, and what it cost there."""
    found = [(shapes.shape_of(shape).items, getattr(rows[model], cost)) for shape, rows in measured.items() if model in rows]
    found = [(items, value) for items, value in found if value]
    return [items for items, _ in found], [value for _, value in found]


def table(measured: dict[str, dict[str, Measured]], models: list[str]) -> list[str]:
    """A row a model and size, then the exponents, then the errors; markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    failed = []
    for model in models:
        for shape, rows in measured.items():
            if model not in rows:
                continue
            found = rows[model]
            batch = found.epoch / found.n_batches if found.epoch else None
            size = shapes.shape_of(shape).items
            epoch = map(speed.number, (found.epoch, found.cpu_epoch))
            rest = map(speed.number, (batch, found.startup, found.data, found.model, found.evaluation, found.peak))
            cells = (model, f"{size:,}", *epoch, str(found.n_batches or "-"), *rest)
            lines.append(f"| {' | '.join(cells)} |")
            if found.error:
                failed.append(f"- {model} at {size:,} items: {found.error}")
    lines += [
        "",
        "Exponent of cost against items, least squares in log-log:",
        "",
        f"| model | {' | '.join(COSTS.values())} | sizes |",
    ]
    lines.append("|" + "---|" * (len(COSTS) + 2))
    for model in models:
        fits = [exponent(*points(measured, model, cost)) for cost in COSTS]
        sizes = len(points(measured, model, "epoch")[0])
        lines.append(f"| {model} | {' | '.join('-' if b is None else f'{b:.2f}' for b in fits)} | {sizes} |")
    return lines + (["", "Not measured, or not in full:", "", *failed] if failed else [])


def draw(path: Path, measured: dict[str, dict[str, Measured]], models: list[str]) -> None:
    """A panel a cost, a line a model, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = [cost for cost in COSTS if any(points(measured, model, cost)[0] for model in models)]
    figure, axes = plt.subplots(1, max(1, len(shown)), figsize=(5 * max(1, len(shown)), 4), squeeze=False)
    for axis, cost in zip(axes[0], shown, strict=False):
        for model in models:
            items, values = points(measured, model, cost)
            if not items:
                continue
            fit = exponent(items, values)
            axis.plot(items, values, marker="o", label=model + ("" if fit is None else f", exponent {fit:.2f}"))
        axis.set(xscale="log", yscale="log", xlabel="items", title=COSTS[cost])
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def report(given: argparse.Namespace, measured: dict[str, dict[str, Measured]]) -> str:
    """The result file."""
    lines = speed.heading("Scale", given.threads, given.device)
    own = "".join(f", `{setting}`" for setting in [*given.set, *given.environment])
    users = given.evaluation_batches
    evaluation = f"those of an evaluation from its first {users} batches of users" if users else "and there is no evaluation"
    lines += [
        f"Data sets of N items, N/2 users, 10 N interactions, two modalities of width 64; d 64; `train_batch_size: {given.batch}`{own}. "
        f"Seconds of an epoch are **extrapolated** from {given.turns} turns of {given.batches} batches after one that warms up, "
        f"{evaluation}. Start-up: data set, model (with its item graphs) and the first batch, without imports. Peak: of all of it. "
        f"A model has {given.budget_seconds:g} s a size. BPR and LightGCN are RecBole's, through our command.",
        "",
        *table(measured, given.models),
        "",
        f"![cost against items]({given.out.with_suffix('.png').name})",
        "",
    ]
    return "\n".join(lines)


def settings_of(model: str, words: list[str]) -> dict[str, str]:
    """What words such as ``KEY=VALUE`` and ``MODEL:KEY=VALUE`` set for a model; its own words win."""
    split = [split_setting(word) for word in words]
    return {key: value for wanted in ("", model) for name, key, value in split if name == wanted}


def split_setting(setting: str) -> tuple[str, str, str]:
    """``[MODEL:]KEY=VALUE`` as (model or "", key, value). Raises ValueError."""
    place, equals, value = setting.partition("=")
    name, _, key = place.rpartition(":")
    if not (equals and key):
        raise ValueError(f"a setting is KEY=VALUE or MODEL:KEY=VALUE, not {setting!r}")
    return name, key, value


def options(argv=None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["10k", "30k", "100k", "300k", "1m"])
    parser.add_argument("--models", nargs="+", default=["BPR", "LightGCN", "FREEDOM", "IBMRec"])
    # IBMRec compares the items of a batch with each other: 65,536 pairs would be matrices of many gigabytes
    parser.add_argument("--batch", type=int, default=8192, help="train_batch_size")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="[MODEL:]KEY=VALUE", help="settings of all runs, or of one model's"
    )
    parser.add_argument(
        "--environment", nargs="+", default=[], metavar="[MODEL:]NAME=VALUE", help="variables of all processes, or of one model's"
    )
    speed.add_options(parser, turns=2, batches=3, budget=900.0, out="results/scale.md")
    parser.add_argument(
        "--evaluation-batches", type=int, default=3, help="batches of users an evaluation is extrapolated from; 0: none"
    )
    parser.add_argument("--memory-gb", type=float, help="GiB that a model may take; default: nine tenths of what is free")
    given = parser.parse_args(argv)
    try:
        names = {split_setting(word)[0] for word in [*given.set, *given.environment]}
    except ValueError as error:
        parser.error(str(error))
    if absent := names - {"", *given.models}:
        parser.error(f"settings are given for {', '.join(sorted(absent))}, which --models lacks")
    return given


def main() -> None:
    given = options()
    measured: dict[str, dict[str, Measured]] = {}
    for size in given.sizes:
        shape = f"series-{size}"
        path = shapes.make(shape, given.data)
        memory = given.memory_gb or driver.memory_share(1)
        print(shape, flush=True)
        measured[shape] = {}
        for model in given.models:
            shared = driver.options(
                path,
                shape,
                threads=given.threads,
                device=given.device,
                budget=given.budget_seconds,
                memory_gb=memory,
                environment=settings_of(model, given.environment),
            )
            settings = {"train_batch_size": given.batch, **settings_of(model, given.set)}
            contestant = Contestant(model, "ours", model, settings=settings)
            evaluations = 1 if given.evaluation_batches else 0
            found = driver.run_group(
                [contestant], shared, given.turns, given.batches, evaluations, evaluation_batches=given.evaluation_batches
            )
            measured[shape].update(found)
            # written after every model: a long run that is stopped leaves what it has
            given.out.parent.mkdir(parents=True, exist_ok=True)
            given.out.write_text(report(given, measured), encoding="utf-8")
            draw(given.out.with_suffix(".png"), measured, given.models)
    print(given.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

"""How an epoch, the start-up and the peak memory grow with the catalogue, from 10,000 to 1,000,000 items, with fitted exponents.

    python benchmarks/scale.py [--sizes 10k 30k 100k 300k 1m] [--models BPR LightGCN FREEDOM IBMRec] [--batch 8192] [--threads 1]
        [--turns 2] [--batches 3] [--budget-seconds 900] [--device cpu|cuda] [--data FOLDER] [--out results/scale.md]

Users, interactions and batches an epoch grow in proportion to the items (shapes.py), so that an exponent of 1 means: the same cost an
interaction. Epochs are extrapolated from a few batches (workers.py). One process at a time; no evaluation.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

from benchmarks import shapes, speed, workers
from benchmarks.workers import Contestant, Measured

#: what is fitted and drawn: attribute of :class:`benchmarks.workers.Measured` -> its title
COSTS = {"epoch": "seconds an epoch", "startup": "start-up seconds", "peak": "peak GiB"}


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
    lines = [
        "| model | items | s an epoch | batches an epoch | s a batch | start-up s | peak GiB |",
        "|---|---|---|---|---|---|---|",
    ]
    failed = []
    for model in models:
        for shape, rows in measured.items():
            found = rows[model]
            batch = found.epoch / found.n_batches if found.epoch else None
            values = map(speed.number, (batch, found.startup, found.peak))
            epoch = speed.number(found.epoch)
            size = shapes.shape_of(shape).items
            lines.append(f"| {model} | {size:,} | {epoch} | {found.n_batches or '-'} | {' | '.join(values)} |")
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

    figure, axes = plt.subplots(1, len(COSTS), figsize=(5 * len(COSTS), 4))
    for axis, (cost, title) in zip(axes, COSTS.items(), strict=True):
        for model in models:
            items, values = points(measured, model, cost)
            fit = exponent(items, values)
            axis.plot(items, values, marker="o", label=model + ("" if fit is None else f", exponent {fit:.2f}"))
        axis.set(xscale="log", yscale="log", xlabel="items", title=title)
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def report(given: argparse.Namespace, measured: dict[str, dict[str, Measured]]) -> str:
    """The result file."""
    lines = speed.heading("Scale", given.threads, given.device)
    lines += [
        f"Data sets of N items, N/2 users, 10 N interactions, two modalities of width 64; `train_batch_size: {given.batch}`, d 64. "
        f"Seconds of an epoch are **extrapolated** from {given.turns} turns of {given.batches} batches after one that warms up. "
        "Start-up: data set, model (with its item graphs) and the first batch, without imports. "
        f"A model has {given.budget_seconds:g} s a size. BPR and LightGCN are RecBole's, through our command.",
        "",
        *table(measured, given.models),
        "",
        f"![cost against items]({given.out.with_suffix('.png').name})",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["10k", "30k", "100k", "300k", "1m"])
    parser.add_argument("--models", nargs="+", default=["BPR", "LightGCN", "FREEDOM", "IBMRec"])
    # IBMRec compares the items of a batch with each other: 65,536 pairs would be matrices of many gigabytes
    parser.add_argument("--batch", type=int, default=8192, help="train_batch_size")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--batches", type=int, default=3, help="training batches a turn")
    parser.add_argument("--budget-seconds", type=float, default=900.0, help="a model's, of a size")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--data", type=Path, default=shapes.DATA, help="where the data sets are kept")
    parser.add_argument("--out", type=Path, default=Path("results/scale.md"))
    given = parser.parse_args()
    measured: dict[str, dict[str, Measured]] = {}
    for size in given.sizes:
        shape = f"series-{size}"
        path = shapes.make(shape, given.data)
        shared = workers.options(
            path,
            shape,
            threads=given.threads,
            device=given.device,
            budget=given.budget_seconds,
            memory_gb=workers.memory_share(1),
        )
        print(shape, flush=True)
        measured[shape] = {}
        for model in given.models:
            contestant = Contestant(model, "ours", model, settings={"train_batch_size": given.batch})
            measured[shape].update(workers.run_group([contestant], shared, given.turns, given.batches, evaluations=0))
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(report(given, measured), encoding="utf-8")
        draw(given.out.with_suffix(".png"), measured, given.models)
    print(given.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

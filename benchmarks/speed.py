"""Seconds of a training epoch and of an evaluation, start-up and peak memory: our models, RecBole's, and other libraries'.

    python benchmarks/speed.py [--shapes baby sports clothing] [--models all|NAME ...] [--peers auto|none] [--threads 1] [--turns 5]
        [--batches 8] [--evaluations 2] [--amp] [--against CHECKOUT] [--budget-seconds 600] [--device cpu|cuda] [--data FOLDER]
        [--out results/speed.md] [--csv FILE]

Every contestant runs in a process of its own (workers.py says what is timed); a few processes live at a time, always with the reference
among them, and take turns of a few batches. Writes a markdown table, a csv file and a picture beside them.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.metadata
import importlib.util
import os
import platform
import shlex
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

from benchmarks import driver, shapes, workers
from benchmarks.driver import Contestant, Measured

PLAIN, OURS, AMP, AGAINST = " (RecBole, plain)", " (RecBole, our command)", " (amp)", " (other checkout)"
#: libraries that are measured where they are installed: name -> kind, model, module
LIBRARIES = {"VBPR (Cornac)": ("cornac", "VBPR", "cornac"), "BPR (implicit)": ("implicit", "BPR", "implicit")}
#: MMRec (commit e775373, unchanged) on Baby's shape in units of RecBole's own LightGCN, between two runs of this file on one machine
#: (AMD EPYC, one core, CPU seconds, torch 2.13.0): model -> of a training epoch, of an evaluation
MMREC = {
    "LightGCN": (1.12, 2.9), "VBPR": (1.78, 3.4), "FREEDOM": (5.7, 2.8), "BM3": (6.4, 2.9), "MGCN": (9.0, 3.7), "LATTICE": (15.0, 85.0),
}  # fmt: skip
YARDSTICK = "LightGCN (RecBole, plain)"
COLUMNS = (
    "contestant", "s an epoch", "CPU s", "turns", "ratio", "to its base", "s an evaluation", "start-up s", "peak GiB", "batches an epoch"
)  # fmt: skip


def contestants_of(
    models: list[str], peers: str, reference: str, amp: bool = False, against: Path | None = None
) -> tuple[list[Contestant], list[str]]:
    """The contestants, the reference first, and the libraries that are not installed.

    amp: our models once more with mixed precision, each beside its own float32 self. against: each model beside itself in another checkout.
    """
    backbones = driver.catalog()
    names = list(backbones) if models == ["all"] else models
    found, absent = [], []
    for name in dict.fromkeys([reference, *names]):
        partner = backbones.get(name) or (name.partition("+")[0] if "+" in name else None)
        if against is not None:
            partner = name + AGAINST
        found.append(Contestant(name, "ours", name, partner))
        if against is not None:
            found.append(Contestant(name + AGAINST, "ours", name, None, None, str(against.resolve())))
        if amp and name.partition("+")[0] in backbones:
            found.append(Contestant(name + AMP, "ours", name, name, {"enable_amp": True}))
    if peers == "none":
        return found, absent
    for model in ("BPR", "LightGCN"):
        found.append(Contestant(model + PLAIN, "plain", model))
        found.append(Contestant(model + OURS, "ours", model, model + PLAIN))
    for name, (kind, model, module) in LIBRARIES.items():
        if importlib.util.find_spec(module):
            found.append(Contestant(name, kind, model))
        else:
            absent.append(name)
    return found, absent


def groups(contestants: list[Contestant], alive: int) -> list[list[Contestant]]:
    """Groups of at most ``alive`` contestants (3 at least), the reference in each; what has a partner is with it in one group."""
    by_name = {contestant.name: contestant for contestant in contestants}
    reference = contestants[0]
    families: dict[str | None, list[Contestant]] = {}
    for contestant in contestants[1:]:
        families.setdefault(contestant.partner if contestant.partner in by_name else None, []).append(contestant)
    alone = families.pop(None, [])
    made = []
    for partner, members in families.items():
        anchors = [reference] if partner == reference.name else [reference, by_name[partner]]
        room = max(1, alive - len(anchors))
        for start in range(0, len(members), room):
            family = [*anchors, *members[start : start + room]]
            fits = next((group for group in made if len({c.name for c in (*group, *family)}) <= alive), None)
            if fits is None:
                made.append(family)
            else:
                fits += [contestant for contestant in family if contestant not in fits]
    seen = {contestant.name for group in made for contestant in group}
    alone = [contestant for contestant in alone if contestant.name not in seen]
    for group in made:  # room that is left is taken by those without a family
        while len(group) < alive and alone:
            group.append(alone.pop(0))
    room = max(1, alive - 1)
    made += [[reference, *alone[start : start + room]] for start in range(0, len(alone), room)]
    return made or [[reference]]


def merge(results: list[dict[str, Measured]], reference: str) -> dict[str, Measured]:
    """All groups' measurements by name, ratios taken within a group; of one in several groups the turns of all count."""
    merged: dict[str, Measured] = {}
    for group in results:
        for name, found in group.items():
            found.ratio = driver.ratio(found, group.get(reference))
            found.partner_ratio = driver.ratio(found, group.get(found.contestant.partner))
            if name not in merged:
                merged[name] = found
                continue
            first = merged[name]
            first.turns, first.evaluations = first.turns + found.turns, first.evaluations + found.evaluations
            first.error = first.error or found.error
            first.peak = max(filter(None, (first.peak, found.peak)), default=None)
            for key in ("startup", "data", "model", "imports", "n_batches", "peak_gpu", "ratio", "partner_ratio"):
                setattr(first, key, getattr(first, key) or getattr(found, key))
    return merged


def number(value: float | None) -> str:
    """Three digits that count, ``-`` for None."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")


def cells(found: Measured) -> list[str]:
    """A contestant's row of the table, as :data:`COLUMNS`."""
    each = found.turn_epochs
    turns = f"{number(min(each))} .. {number(max(each))}" if each else "-"
    values = [found.epoch, found.cpu_epoch, None, found.ratio, found.partner_ratio, found.evaluation, found.startup, found.peak]
    row = [found.contestant.name, *map(number, values), str(found.n_batches or "-")]
    row[3] = turns
    if found.peak_gpu:
        row[8] += f" + {number(found.peak_gpu)} GPU"
    return row


def table(measured: dict[str, Measured]) -> list[str]:
    """A markdown table with a row a contestant, and the errors of those that failed below it."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    for found in measured.values():
        lines.append(f"| {' | '.join(cells(found))} |")
    failed = [f"- {name}: {found.error.replace('|', '/')}" for name, found in measured.items() if found.error]
    return lines + (["", "Not measured, or not in full:", "", *failed] if failed else [])


def mmrec_table(measured: dict[str, Measured]) -> list[str]:
    """MMRec's seconds on this machine, by the yardstick, and how many times as fast ours are."""
    plain = measured.get(YARDSTICK)
    if plain is None or not plain.epoch or not plain.evaluation:
        return [f"{YARDSTICK} was not measured in this run, so there is no yardstick for MMRec's speed."]
    lines = [
        f"MMRec, estimated: its seconds in units of {YARDSTICK}, measured beside it on another machine, times that row of this run. "
        "Good to some 20 %.",
        "",
        "| model | MMRec s an epoch | s an evaluation | ours s an epoch | s an evaluation | epoch: times as fast | evaluation: times as fast |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, (epoch, evaluation) in MMREC.items():
        found = measured.get(model) or measured.get(model + OURS)
        theirs = (epoch * plain.epoch, evaluation * plain.evaluation)
        ours = (found.epoch, found.evaluation) if found else (None, None)
        ratios = [None if not mine else their / mine for mine, their in zip(ours, theirs, strict=True)]
        lines.append(f"| {model} | {' | '.join(map(number, [*theirs, *ours, *ratios]))} |")
    return lines


def machine() -> str:
    """The processor's model, the cores and the memory of this machine."""
    name, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        name = names[0] if names else name
    memory = ""
    if Path("/proc/meminfo").is_file():
        total = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
        memory = f", {total:.0f} GiB"
    return f"{name}, {os.cpu_count()} cores{memory}"


def versions() -> str:
    """The installed versions of what is measured."""
    found = [f"CPython {platform.python_version()}"]
    for name in ("torch", "numpy", "scipy", "recbole", "cornac", "implicit"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def heading(title: str, threads: int, device: str) -> list[str]:
    """Title, machine, versions, date and command of a result file."""
    command = shlex.join(["python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]])
    day = datetime.datetime.now(datetime.timezone.utc).date()
    return [
        f"# {title}", "", f"Machine: {machine()}; {device}, {threads} thread(s). {versions()}. {day}.", "",
        "```bash", command, "```", "",
    ]  # fmt: skip


def write_csv(path: Path, measured: dict[str, dict[str, Measured]]) -> None:
    """A line a shape and contestant, with the seconds of every turn's epoch and evaluation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        lines = None
        for shape, rows in measured.items():
            for name, m in rows.items():
                once = statistics.median(turn["once"] for turn in m.turns) if m.turns else None
                line = {
                    "shape": shape,
                    "contestant": name,
                    "kind": m.contestant.kind,
                    "epoch_seconds": m.epoch,
                    "epoch_cpu_seconds": m.cpu_epoch,
                    "once_seconds": once,
                    "batch_seconds": (m.epoch - once) / m.n_batches if m.turns else None,
                    "batches_an_epoch": m.n_batches,
                    "ratio": m.ratio,
                    "base": m.contestant.partner,
                    "base_ratio": m.partner_ratio,
                    "evaluation_seconds": m.evaluation,
                    "startup_seconds": m.startup,
                    "import_seconds": m.imports,
                    "peak_gib": m.peak,
                    "peak_gpu_gib": m.peak_gpu,
                    "turns": " ".join(f"{t:.4g}" for t in m.turn_epochs),
                    "evaluations": " ".join(f"{t:.4g}" for t in m.evaluations),
                    "error": m.error,
                }
                if lines is None:
                    lines = csv.DictWriter(file, list(line))
                    lines.writeheader()
                lines.writerow(line)


def draw(path: Path, measured: dict[str, dict[str, Measured]]) -> None:
    """Seconds an epoch as bars by contestant, a panel a shape; a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = {shape: {n: m.epoch for n, m in rows.items() if m.epoch} for shape, rows in measured.items()}
    tall = max(map(len, shown.values()), default=1)
    figure, axes = plt.subplots(1, len(shown), figsize=(5.5 * len(shown), 1.2 + 0.3 * max(tall, 3)), squeeze=False)
    for axis, (shape, rows) in zip(axes[0], shown.items(), strict=True):
        names = sorted(rows, key=rows.get, reverse=True)
        bars = axis.barh(names, [rows[name] for name in names], color="#4477aa")
        axis.bar_label(bars, [number(rows[name]) for name in names], padding=2, fontsize=8)
        axis.set(title=shape, xlabel="seconds a training epoch", xscale="log")
        axis.margins(x=0.15)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def report(given: argparse.Namespace, measured: dict[str, dict[str, Measured]], absent: list[str]) -> str:
    """The result file."""
    lines = heading("Speed", given.threads, given.device)
    lines += [
        f"Seconds of a training epoch are **extrapolated** from {given.turns} turns of {given.batches} batches (a shorter epoch is "
        "measured whole): the median batch (loader, forward, backward, step) x the batches an epoch + what happens once an epoch. "
        'Processes of a group take turns, after one that warms up. "turns": the epoch by the fastest and the slowest turn alone; '
        '"CPU s": the epoch in CPU time. '
        f'"ratio": epoch over {given.reference}\'s, "to its base": over that of the same model without bottlenecks (of RecBole\'s '
        "models by our command: over plain RecBole; of a model with mixed precision, (amp): over the same in float32), medians over turns "
        "side by side. An evaluation ranks all items for all validation "
        f"users; median of {given.evaluations}. Start-up: data set, model and the first batch, without imports. Peak: resident memory of "
        "the process (on a GPU, of tensors there too). The stages that InvRL runs before training are not in it.",
        "",
        "RecBole's models run with the metrics, cut-offs and batch sizes of ours, so that the code differs and no setting does; "
        '"plain" has of this package the repairs for today\'s numpy and torch alone. '
        "implicit has no batches: its epoch is measured whole. Cornac's "
        f"evaluation is that of {workers.CORNAC_USERS} users, scaled to all.",
        "",
    ]
    if absent:
        lines += [f"Not run, because not installed: {', '.join(absent)}.", ""]
    for shape, rows in measured.items():
        size = shapes.shape_of(shape)
        widths = ", ".join(f"{name} {width}" for name, width in size.modalities.items())
        lines += [
            f"## {shape}",
            "",
            f"{size.users:,} users x {size.items:,} items x {size.interactions:,} interactions; {widths}",
            "",
        ]
        lines += table(rows)
        lines += ["", *mmrec_table(rows)] if shape == "baby" else []
        lines.append("")
    return "\n".join([*lines, f"![seconds an epoch]({given.out.with_suffix('.png').name})", ""])


def add_options(parser: argparse.ArgumentParser, *, turns: int, batches: int, budget: float, out: str) -> None:
    """The options that scale.py has too, with the defaults that differ."""
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=turns)
    parser.add_argument("--batches", type=int, default=batches, help="training batches a turn")
    parser.add_argument("--budget-seconds", type=float, default=budget, help="a contestant's, of a group or a size")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--data", type=Path, default=shapes.DATA, help="where the data sets are kept")
    parser.add_argument("--out", type=Path, default=Path(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", default=["baby", "sports", "clothing"])
    parser.add_argument("--models", nargs="+", default=["all"], help="all, or names; NAME+fib+gib and RecBole's own work too")
    parser.add_argument("--peers", choices=("auto", "none"), default="auto", help="RecBole's BPR and LightGCN, Cornac, implicit")
    parser.add_argument("--reference", default="VBPR", help="the model of every group that the others are compared with")
    add_options(parser, turns=5, batches=8, budget=600.0, out="results/speed.md")
    parser.add_argument("--evaluations", type=int, default=2)
    parser.add_argument("--alive", type=int, default=5, help="processes at a time")
    parser.add_argument("--amp", action="store_true", help="our models with mixed precision too (enable_amp), beside themselves")
    parser.add_argument("--against", type=Path, help="another checkout, an older one: each model beside itself there")
    parser.add_argument("--csv", type=Path, help="default: beside --out")
    given = parser.parse_args()
    contestants, absent = contestants_of(given.models, given.peers, given.reference, given.amp, given.against)
    measured = {}
    for shape in given.shapes:
        path = shapes.make(shape, given.data)
        memory = driver.memory_share(given.alive)
        shared = driver.options(
            path, shape, threads=given.threads, device=given.device, budget=given.budget_seconds, memory_gb=memory
        )
        results = []
        for position, group in enumerate(groups(contestants, given.alive), start=1):
            print(f"{shape}, group {position}: {', '.join(c.name for c in group)}", flush=True)
            results.append(driver.run_group(group, shared, given.turns, given.batches, given.evaluations))
        measured[shape] = merge(results, given.reference)
        # written after every shape: a long run that is stopped leaves what it has
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(report(given, measured, absent), encoding="utf-8")
        write_csv(given.csv or given.out.with_suffix(".csv"), measured)
        draw(given.out.with_suffix(".png"), measured)
    print(given.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

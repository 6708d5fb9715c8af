"""The command line: ``recbole-ib``, ``python -m recbole_ib`` and ``python run_recbole_ib.py``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from recbole_ib.config.argv import split_arguments
from recbole_ib.distributed.launch import launched, rank
from recbole_ib.errors import ConfigurationError, RecBoleIBError

USAGE = """\
usage: recbole-ib [train] [--model=IBMRec] [--dataset=ml-100k] [--config_files "A.yaml B.yaml"] [--KEY=VALUE ...]
       recbole-ib models [--mmrec_path=DIR]
       recbole-ib check --dataset=NAME [--data_path=DIR] [--KEY=VALUE ...]
       recbole-ib convert mmrec DIR OUT [--name NAME] [--force]
       recbole-ib tune [--model IBMRec] [--dataset ml-100k] [--samples 20] [--out DIR] [--resume] [--KEY=VALUE ...]
       recbole-ib compare --models A B+fib ... --dataset=NAME [--seeds 5] [--tuned DIR] [--out DIR] [--KEY=VALUE ...]
       recbole-ib ablate --model=IBMRec --dataset=NAME [--seeds 5] [--tuned DIR] [--out DIR] [--KEY=VALUE ...]
       recbole-ib robustness --models=A,A+fib,... [--noise=planted] [--levels=0,0.5,0.9] [--seeds=0,1,2] --out=DIR [...]
       recbole-ib decompose CHECKPOINT [--metric=NAME@K] [--repeats=3] [--part=test] [--out=FILE.csv]
       recbole-ib recommend CHECKPOINT [--users=FILE] [--k=20] --out=FILE.parquet|FILE.csv [--keep-seen] [--data_path=DIR]
       recbole-ib similar CHECKPOINT ITEM ... [--k=10] [--data_path=DIR]
       recbole-ib export CHECKPOINT OUT [--faiss] [--force] [--data_path=DIR]
       recbole-ib plot-information FILE-diagnostics.csv ... [--out=DIR]

train             train and test a model (the default command); any yaml key is a setting, such as --learning_rate=0.001;
                  --bottleneck=fib,gib or mrdib puts information bottlenecks on the model
models            print the catalog, or the models of your checkout of MMRec (train with --model=mmrec:NAME --mmrec_path=DIR)
check             check a data set and its feature files; exit status 1 if training would refuse it
convert           turn another toolkit's data folder into RecBole's files with token-keyed features
tune              search for a model's settings by its validation score, on all cores or a Ray cluster (docs/tuning.md)
compare           train models over seeds where they are missing: tables, paired tests, slices, cost, report.html (docs/compare.md)
ablate            the same for a model without each of its bottlenecks and on each modality alone
robustness        train models on data with planted irrelevance or injected noise: table, curves, probe (docs/robustness.md)
decompose         what a trained model takes from each modality: unique, redundant, synergistic (docs/decompose.md)
recommend         write the best items of every user, or of those in a file (docs/recommend.md)
similar           print the items nearest to an item by a model's embeddings
export            write a model's user and item embeddings as arrays
plot-information  draw the information plane and the curves of runs with --diagnostics=True (docs/diagnostics.md)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (0: done, 1: refused, 2: no such command or form of it)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    command, rest = ("train", argv) if not argv or argv[0].startswith("-") else (argv[0], argv[1:])
    commands = {
        "train": _train,
        "models": _models,
        "check": _check,
        "convert": _convert,
        "tune": _tune,
        "compare": _compare,
        "ablate": _ablate,
        "robustness": _robustness,
        "decompose": _decompose,
        "recommend": _recommend,
        "similar": _similar,
        "export": _export,
        "plot-information": _plot_information,
    }
    if any(word in ("-h", "--help") for word in rest) and command in ("train", "models", "check"):
        print(USAGE, end="")
        return 0
    if command not in commands:
        from recbole_ib.errors import nearest

        print(f"recbole-ib: there is no command {command!r}.{nearest(command, commands)}\n{USAGE}", end="", file=sys.stderr)
        return 2
    try:
        _check_alone(command)
        return commands[command](rest)
    except RecBoleIBError as error:
        print(f"recbole-ib{_who()}: {error}", file=sys.stderr)
        return 1


def _check_alone(command: str) -> None:

    if command != "train" and launched():
        raise ConfigurationError(f"{command} runs in one process; torchrun is for training. Start it without torchrun")


def _who() -> str:
    """Which process speaks, where torchrun started several: any of them may be the one that found the error."""

    return f" (process {rank()} of {os.environ['WORLD_SIZE']})" if launched() else ""


def _train(argv: Sequence[str]) -> int:
    settings, files = split_arguments(argv)
    from recbole_ib.config.argv import parse_arguments
    from recbole_ib.training.run import format_result, run_recbole_ib

    given = parse_arguments(settings)
    # the bare command trains IBMRec on the bundled sample; a config file may name another model or data set
    defaults = {} if files else {"model": "IBMRec", "dataset": "ml-100k"}
    named = {key: given.get(key, defaults.get(key)) for key in ("model", "dataset")}
    result = run_recbole_ib(config_file_list=files, argv=settings, **named)
    if rank() == 0:
        print(format_result(result))
    return 0


def _models(argv: Sequence[str]) -> int:
    if len(argv) == 1 and argv[0].startswith("--mmrec_path="):
        from recbole_ib.bridge.mmrec import mmrec_models

        print("\n".join(mmrec_models(argv[0].partition("=")[2])))
        return 0
    if argv:
        print(f"recbole-ib models takes no argument but --mmrec_path=DIR, got {' '.join(argv)}", file=sys.stderr)
        return 2
    from recbole_ib.model.registry import CATALOG, recbole_models

    rows = [("model", "backbone", "bottlenecks", "paper")]
    rows += [(e.name, e.backbone, e.bottlenecks, e.paper) for e in CATALOG.values()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"\nRecBole's own models run too: {', '.join(recbole_models())}")
    return 0


def _check(argv: Sequence[str]) -> int:
    settings, files = split_arguments(argv)
    from recbole_ib.training.validate import check_dataset

    report = check_dataset(config_file_list=files, argv=settings)
    print(report.text())
    return 1 if report.errors else 0


def _convert(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="recbole-ib convert")
    parser.add_argument("layout", choices=["mmrec"], help="the toolkit whose layout is read")
    parser.add_argument("source", metavar="DIR", help="the folder with NAME.inter and *_feat.npy")
    parser.add_argument("out", metavar="OUT", help="the data path to write below; the data set goes to OUT/NAME")
    parser.add_argument("--name", help="the data set's name; default: that of the .inter file")
    parser.add_argument("--force", action="store_true", help="replace OUT/NAME if it is there")
    try:
        given = parser.parse_args(list(argv))
    except SystemExit as stop:
        return int(stop.code or 0)
    from recbole_ib.data.convert import convert_mmrec

    done = convert_mmrec(given.source, given.out, name=given.name, force=given.force)
    sizes = ", ".join(f"{split} {n}" for split, n in done.split_sizes.items())
    print(f"{done.folder}: {done.users} users, {done.items} items, interactions: {sizes}")
    for name, shape in done.modalities.items():
        print(f"  modality {name}: {shape[0]} x {shape[1]}{', with a ready item graph' if name in done.graphs else ''}")
    print(f"check it with: recbole-ib check --dataset={done.name} --data_path={given.out}")
    return 0


def _tune(argv: Sequence[str]) -> int:
    from recbole_ib.cli.tune import command

    return command(argv)


def _compare(argv: Sequence[str]) -> int:
    from recbole_ib.experiments.compare import command

    return _parsed(command, argv)


def _ablate(argv: Sequence[str]) -> int:
    from recbole_ib.experiments.ablate import command

    return _parsed(command, argv)


def _parsed(command: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    """A command whose words argparse reads: it leaves by SystemExit for --help and for a form that it does not know."""
    try:
        return command(list(argv))
    except SystemExit as stop:
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on with what is missing", file=sys.stderr)
        return 130


def _robustness(argv: Sequence[str]) -> int:
    from recbole_ib.experiments.robustness.command import command

    return command(argv)


def _decompose(argv: Sequence[str]) -> int:
    from recbole_ib.analysis.decompose import command

    return command(argv)


def _recommend(argv: Sequence[str]) -> int:
    from recbole_ib.cli.recommend import recommend

    return recommend(argv)


def _similar(argv: Sequence[str]) -> int:
    from recbole_ib.cli.recommend import similar

    return similar(argv)


def _export(argv: Sequence[str]) -> int:
    from recbole_ib.cli.recommend import export

    return export(argv)


def _plot_information(argv: Sequence[str]) -> int:
    from recbole_ib.analysis.information_plane import command

    return command(argv)


if __name__ == "__main__":
    sys.exit(main())

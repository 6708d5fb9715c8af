"""The words of ``compare``, ``ablate`` and ``robustness``."""

from __future__ import annotations

import argparse

from recbole_ib_cli.common import CONTINUES, Command, cluster, settings

MODELS = "NAME[+bottleneck][:key=value[;key=value]]"
#: one grammar of alternatives, of robustness alone
ALTERNATIVES = "key=a|b are alternatives, chosen on validation"


def _of_comparison(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True, metavar="NAME")
    parser.add_argument(
        "--seeds",
        nargs="+",
        default=["5"],
        metavar="N",
        help="how many (5: the seeds 0 to 4), or several: the seeds themselves",
    )
    parser.add_argument(
        "--tuned", metavar="DIR", help="where recbole-ib tune left MODEL/best.yaml of the models"
    )
    parser.add_argument("--out", metavar="DIR", help=f"default: {parser.prog.split()[-1]}/DATASET")
    parser.add_argument(
        "--metric", default="recall@20", help="what tests and charts are about (default %(default)s)"
    )
    parser.add_argument(
        "--baseline", metavar="NAME", help="the model that changes are measured against (default: the first)"
    )
    parser.add_argument(
        "--cpus-per-run",
        type=float,
        default=1,
        metavar="N",
        help="also a run's threads (default %(default)s)",
    )
    parser.add_argument("--gpus-per-run", type=float, default=0, metavar="N", help="default %(default)s")
    parser.add_argument("--keep-checkpoints", action="store_true", help="every run's, below OUT/runs")


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME", help=MODELS)
    _of_comparison(parser)


def _ablate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME",
        help="a model with bottlenecks, such as IBMRec or FREEDOM+fib+gib",
    )
    _of_comparison(parser)


def _robustness(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models", nargs="+", default=["VBPR", "VLATTICE", "IBMRec"], metavar="NAME",
        help=f"{MODELS}; {ALTERNATIVES} (default VBPR,VLATTICE,IBMRec)",
    )  # fmt: skip
    parser.add_argument(
        "--noise", default="planted", metavar="KIND",
        help="planted (default): data with known truth; features, rows, modality, edges: noise in --dataset",
    )  # fmt: skip
    parser.add_argument(
        "--levels", nargs="+", default=["0", "0.3", "0.6", "0.9"], metavar="X",
        help="shares of irrelevance (default 0,0.3,0.6,0.9); for modality: its width over the others'",
    )  # fmt: skip
    parser.add_argument(
        "--seeds",
        nargs="+",
        default=["0", "1", "2", "3", "4"],
        metavar="N",
        help="of data and training (default 0,1,2,3,4)",
    )
    parser.add_argument("--dataset", metavar="NAME", help="the data set that gets the noise")
    parser.add_argument(
        "--spec",
        metavar="MAPPING",
        help="of planted data, such as '{n_users: 400, synergistic: 0, unique: .5, redundant: .5}'",
    )
    parser.add_argument(
        "--out", default="robustness", metavar="DIR",
        help="of runs.csv, robustness.md and recall.png (default %(default)s); a finished run is kept",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", default="1", metavar="N", help="runs at a time, each in a process with one thread"
    )
    parser.add_argument(
        "--curves",
        nargs="?",
        const="true",
        default="true",
        metavar="BOOL",
        help="false: no recall.png",
    )
    parser.add_argument(
        "--fresh",
        nargs="?",
        const="true",
        default="false",
        metavar="BOOL",
        help="forget the runs in OUT and start over",
    )


COMMANDS = (
    Command(
        "compare",
        "train models over seeds where they are missing: tables, tests, report.html (docs/compare.md)",
        "recbole_ib.cli.compare:compare",
        _compare,
        (settings(), cluster()),
        takes_settings=True,
        interrupted=CONTINUES,
    ),
    Command(
        "ablate",
        "the same for a model without each of its bottlenecks and on each modality alone",
        "recbole_ib.cli.compare:ablate",
        _ablate,
        (settings(), cluster()),
        description="Train a model without each bottleneck and on each modality alone; report as compare.",
        takes_settings=True,
        interrupted=CONTINUES,
    ),
    Command(
        "robustness",
        "train models on data with planted irrelevance or injected noise: table, curves (docs/robustness.md)",
        "recbole_ib.cli.robustness:run",
        _robustness,
        (settings(),),
        takes_settings=True,
        interrupted=CONTINUES,
    ),
)  # fmt: skip

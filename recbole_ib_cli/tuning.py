"""The words of ``tune``."""

from __future__ import annotations

import argparse

from recbole_ib_cli.common import Command, cluster, settings


def _tune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="a name, such as IBMRec or FREEDOM+fib+gib")
    parser.add_argument("--dataset", help="a name")
    parser.add_argument(
        "--space", metavar="FILE.yaml", help="what is searched; default: the model's own space"
    )
    parser.add_argument(
        "--search", default="optuna", metavar="NAME", help="optuna, random, grid (default %(default)s)"
    )
    parser.add_argument(
        "--scheduler",
        default="asha",
        metavar="NAME",
        help="asha, none: asha stops trials that fall behind (default)",
    )
    parser.add_argument("--samples", type=int, metavar="N", help="trials of optuna and random (default 20)")
    parser.add_argument(
        "--grace", type=int, metavar="EPOCHS", help="asha stops no trial before this many epochs (default 10)"
    )
    parser.add_argument(
        "--reduction", type=float, default=3, metavar="R", help="asha lets one trial in R go on (default 3)"
    )
    parser.add_argument(
        "--cpus-per-trial", type=float, default=1, metavar="N", help="also a trial's threads (default 1)"
    )
    parser.add_argument("--gpus-per-trial", type=float, metavar="N", help="default .25 where Ray has a GPU")
    parser.add_argument(
        "--cpus", type=int, metavar="N", help="of this machine, for all trials together (default all)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the search in OUT")
    parser.add_argument("--fresh", action="store_true", help="delete the search in OUT and start over")
    parser.add_argument("--out", metavar="DIR", help="default tuned/DATASET/MODEL")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="of the search, and the setting seed of all trials"
    )
    parser.add_argument(
        "--keep-checkpoints", action="store_true", help="keep every trial's, not the best one's alone"
    )
    parser.add_argument(
        "--heatmap",
        action="append",
        default=[],
        metavar="KEY,KEY",
        help="one more heat map; may be given again",
    )


COMMANDS = (
    Command(
        "tune",
        "search for a model's settings by its validation score, here or on a Ray cluster (docs/tuning.md)",
        "recbole_ib.cli.tune:run",
        _tune,
        (settings(), cluster()),
        description="Search for a model's settings by its validation score, with Ray Tune; docs/tuning.md.",
        takes_settings=True,
    ),
)

"""The words of ``decompose``, ``recommend``, ``similar``, ``export`` and ``plot-information``."""

from __future__ import annotations

import argparse

from recbole_ib_cli.common import Command, checkpoint, places, positive_integer


def _decompose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--metric", help="what is split, such as Recall@20; default: the run's valid_metric")
    parser.add_argument(
        "--repeats", type=int, default=3, metavar="N", help="shuffles per modality (default %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the shuffles (default %(default)s)"
    )
    parser.add_argument(
        "--part", choices=("valid", "test"), default="test", help="which part is ranked (default %(default)s)"
    )
    parser.add_argument("--out", metavar="FILE.csv", help="write all numbers there too")


def _recommend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--users", metavar="FILE", help="users, one token a line; default: all users of the data set"
    )
    parser.add_argument(
        "--k", type=positive_integer, default=20, metavar="N", help="items per user (default %(default)s)"
    )
    parser.add_argument(
        "--out", metavar="FILE", required=True, help="FILE.parquet or FILE.csv, replaced if it is there"
    )
    parser.add_argument(
        "--keep-seen", action="store_true", help="rank the items of the user's own interactions too"
    )
    parser.add_argument(
        "--skip-unknown", action="store_true", help="leave out users of FILE who are not in the data set"
    )


def _similar(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("items", metavar="ITEM", nargs="+", help="an item's token")
    parser.add_argument(
        "--k", type=positive_integer, default=10, metavar="N", help="neighbors per item (default %(default)s)"
    )


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", help="the folder to write")
    parser.add_argument(
        "--faiss", action="store_true", help="also write items.faiss, an inner-product index of the items"
    )
    parser.add_argument("--force", action="store_true", help="replace an export that is there")


def _plot_information(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", metavar="FILE.csv", help="NAME-diagnostics.csv of a run with --diagnostics=True"
    )
    parser.add_argument(
        "--out", metavar="FOLDER", help="where the PNG files go; default: beside the first file"
    )


COMMANDS = (
    Command(
        "decompose",
        "what a trained model takes from each modality: unique, redundant, synergistic (docs/decompose.md)",
        "recbole_ib.cli.analyze:decompose",
        _decompose,
        (checkpoint(),),
        description="What a trained model reads in each modality: its performance with every modality alone, "
        "removed and shuffled, and the unique, redundant and synergistic shares.",
    ),
    Command(
        "recommend",
        "write the best items of every user, or of those in a file (docs/recommend.md)",
        "recbole_ib.cli.recommend:recommend",
        _recommend,
        (checkpoint(), places()),
        description="Write the items that a trained model scores highest for each user.",
    ),
    Command(
        "similar",
        "print the items nearest to an item by a model's embeddings",
        "recbole_ib.cli.recommend:similar",
        _similar,
        (checkpoint(), places()),
        description="Print the items nearest to an item by the cosine of a trained model's item embeddings.",
    ),
    Command(
        "export",
        "write a model's user and item embeddings as arrays",
        "recbole_ib.cli.recommend:export",
        _export,
        (checkpoint(), places()),
        description="Write a trained model's user and item embeddings: arrays, and tokens in their order.",
    ),
    Command(
        "plot-information",
        "draw the information plane and the curves of runs with --diagnostics=True (docs/diagnostics.md)",
        "recbole_ib.cli.analyze:plot_information",
        _plot_information,
    ),
)

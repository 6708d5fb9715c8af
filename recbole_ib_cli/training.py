"""The words of ``train``, ``models``, ``check`` and ``convert``."""

from __future__ import annotations

import argparse

from recbole_ib_cli.common import Command, add_settings, model_and_dataset, settings


def _train(parser: argparse.ArgumentParser) -> None:
    add_settings(
        parser,
        ("bottleneck", "LIST", "information bottlenecks on the model: fib,gib or mrdib"),
        ("seed", "N", "of the run (default 2020)"),
        ("epochs", "N", "at most"),
        ("learning_rate", "X", "of the optimizer"),
        ("use_modalities", "LIST", "these alone, such as [text]"),
        ("resume_checkpoint", "FILE", "go on from NAME-last.pth of an interrupted run, to the same numbers"),
        (
            "diagnostics",
            "BOOL",
            "measure what the latents keep of features and behavior (docs/diagnostics.md)",
        ),
        ("per_user", "BOOL", "write every user's test metrics"),
        ("show_progress", "BOOL", "false: no progress bars"),
        ("use_gpu", "BOOL", "false: train on the CPU"),
    )


def _models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mmrec_path", metavar="DIR", help="list the models of this checkout of MMRec instead"
    )


def _check(parser: argparse.ArgumentParser) -> None:
    add_settings(parser, ("use_modalities", "LIST", "these alone, such as [text]"))


def _convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("layout", choices=["mmrec"], help="the toolkit whose layout is read")
    parser.add_argument("source", metavar="DIR", help="the folder with NAME.inter and *_feat.npy")
    parser.add_argument(
        "out", metavar="OUT", help="the data path to write below; the data set goes to OUT/NAME"
    )
    parser.add_argument("--name", help="the data set's name; default: that of the .inter file")
    parser.add_argument("--force", action="store_true", help="replace OUT/NAME if it is there")


COMMANDS = (
    Command(
        "train",
        "train and test a model: the command without a name",
        "recbole_ib.cli.train:run",
        _train,
        (settings(), model_and_dataset()),
        description="Train a model and test its best epoch; IBMRec on ml-100k, if nothing is named.",
        takes_settings=True,
    ),
    Command(
        "models",
        "print the catalog and the presets, or the models of your checkout of MMRec (--mmrec_path=DIR)",
        "recbole_ib.cli.models:run",
        _models,
    ),
    Command(
        "check",
        "check a data set and its feature files; exit status 1 if training would refuse it",
        "recbole_ib.cli.data:check",
        _check,
        (settings(), model_and_dataset()),
        takes_settings=True,
    ),
    Command(
        "convert",
        "turn another toolkit's data folder into RecBole's files with token-keyed features",
        "recbole_ib.cli.data:convert",
        _convert,
    ),
)

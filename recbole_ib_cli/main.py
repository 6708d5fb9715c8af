"""The tree of all commands; ``recbole-ib``, ``python -m recbole_ib`` and ``run_recbole_ib.py`` start here."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from collections.abc import Sequence

from recbole_ib_cli import experiments, inference, training, tuning
from recbole_ib_cli.common import INTERRUPTED, Command, WordError, nearest, parse
from recbole_ib_cli.version import read_version

COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (*training.COMMANDS, *tuning.COMMANDS, *experiments.COMMANDS, *inference.COMMANDS)
}

DESCRIPTION = "Information-bottleneck recommenders (IBMRec, MRdIB) and multimodal baselines for RecBole."
EPILOG = """\
Without a command it trains: recbole-ib --model=IBMRec --dataset=ml-100k --learning_rate=0.001
A command's own words: recbole-ib COMMAND --help
Options are written --KEY=VALUE or --KEY VALUE, lists by blank or comma.
"""
SETTINGS = (
    "Every other --KEY=VALUE is a setting, as in a yaml file; --KEY VALUE too, where the value is one word."
)


def build_parser() -> argparse.ArgumentParser:
    """Return the tree of all commands."""
    parser = argparse.ArgumentParser(
        prog="recbole-ib",
        usage="recbole-ib [COMMAND] [--KEY=VALUE ...]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.add_argument(
        "--print-completion",
        choices=("bash", "zsh", "tcsh"),
        help="print the completion of a shell and exit (needs shtab)",
    )
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", prog="recbole-ib")
    for command in COMMANDS.values():
        own = commands.add_parser(
            command.name,
            help=command.help,
            description=command.description or f"{command.help[0].upper()}{command.help[1:]}.",
            epilog=SETTINGS if command.takes_settings else None,
            parents=command.parents,
            allow_abbrev=False,
        )
        command.arguments(own)
    return parser


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the commands' parsers of a tree."""
    trees = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(next(trees).choices)


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return a shell's completion of the tree, which shtab writes.

    Raises:
        WordError: shtab is not installed.
    """
    try:
        import shtab
    except ImportError:
        what = "completion is written by shtab, which is not installed"
        raise WordError(f"{what}. Run: pip install 'recbole-ib[completion]'") from None
    for one in (parser, *subparsers(parser).values()):
        for action in one._actions:
            kind = str(action.metavar).partition(".")[0]
            if kind in ("FILE", "CHECKPOINT"):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif kind in ("DIR", "FOLDER", "OUT"):
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell=shell))


def read_words(argv: Sequence[str]) -> argparse.Namespace:
    """Read a command and its words.

    Returns:
        The command's arguments, with ``command``, its name, and ``command_line``, the text that was typed.

    Raises:
        SystemExit: help, version or completion was printed (0), or there is no such command or form (2).
        WordError: among settings, a word that is none; completion without shtab.
    """
    argv, parser = list(argv), build_parser()
    if argv[:1] == ["help"]:
        argv = [*argv[1:2], "--help"]
    first = argv[0] if argv else ""
    if first.partition("=")[0] in ("-h", "--help", "--version", "--print-completion"):
        args = parser.parse_args(argv)
        print(f"recbole-ib {read_version()}" if args.version else completion(parser, args.print_completion))
        parser.exit()
    name, words = ("train", argv) if not first or first.startswith("-") else (first, argv[1:])
    if name not in COMMANDS:
        print(f"recbole-ib: there is no command {name!r}.{nearest(name, COMMANDS)}", file=sys.stderr)
        parser.print_help(sys.stderr)
        parser.exit(2)
    args = parse(COMMANDS[name], subparsers(parser)[name], words)
    args.command = name
    args.command_line = f"recbole-ib {shlex.join(argv)}".rstrip()
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0 done, 1 refused, 2 no such command or form of it, 130 ended by Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        args = read_words(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    except WordError as error:
        print(f"recbole-ib: {error}", file=sys.stderr)
        return 1
    command = COMMANDS[args.command]
    try:
        # from here on torch and RecBole are imported
        return int(importlib.import_module("recbole_ib.cli.dispatch").run_command(args, command.target))
    except KeyboardInterrupt:
        print(f"\n{command.interrupted}", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())

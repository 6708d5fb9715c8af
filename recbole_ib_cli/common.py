"""What the commands share: their description, settings among their words, and parents of their parsers."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

#: the exit status of a command that Ctrl-C ended, as shells have it
INTERRUPTED = 130
#: printed where Ctrl-C ends a command that keeps what is finished
CONTINUES = "Interrupted. The same command goes on with what is missing"


class WordError(Exception):
    """A word that no command can read: one line on stderr, and exit status 1."""


@dataclass(frozen=True)
class Command:
    """One command: its name, a line of help, the function that runs it, and its parser's arguments.

    Args:
        name: the word of the command line.
        help: the line in the list of commands.
        target: ``module:function``, imported when the command runs. The function takes a Namespace and
            returns the exit status.
        arguments: adds the command's own to its parser.
        parents: parsers whose arguments it takes too.
        description: the text of its own help; default: ``help``.
        takes_settings: every other ``--KEY=VALUE`` is a setting, in ``Namespace.settings``.
        interrupted: printed where Ctrl-C ends it, if the function itself does not return 130.
    """

    name: str
    help: str
    target: str
    arguments: Callable[[argparse.ArgumentParser], None]
    parents: tuple[argparse.ArgumentParser, ...] = ()
    description: str = ""
    takes_settings: bool = False
    interrupted: str = "Interrupted"


class Setting(argparse._StoreAction):
    """A setting that the help names: :func:`split_settings` reads it as every other ``--KEY=VALUE``."""


def add_settings(parser: argparse.ArgumentParser, *settings: tuple[str, str, str]) -> None:
    """Name settings in a parser's help, each as key, metavar and text."""
    title = "settings"
    group = next((group for group in parser._action_groups if group.title == title), None)
    if group is None:
        group = parser.add_argument_group(title, "any key of the yaml files, as --KEY=VALUE; among them:")
    for key, metavar, text in settings:
        group.add_argument(f"--{key}", action=Setting, metavar=metavar, help=text)


# -- parents -------------------------------------------------------------------------------------------------


def _parent() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(add_help=False, allow_abbrev=False)


@cache
def settings() -> argparse.ArgumentParser:
    """Return the parent with ``--config_files``, of every command that takes settings."""
    parent = _parent()
    parent.add_argument(
        "--config_files",
        nargs="*",
        action="extend",
        default=None,
        metavar="FILE.yaml",
        help="yaml files of settings, or presets by name, such as ibmrec-paper (`recbole-ib models` lists "
        "them); later ones win, and --KEY=VALUE wins over all of them",
    )
    return parent


@cache
def model_and_dataset() -> argparse.ArgumentParser:
    """Return the parent of the commands that run one model: where model and data are named, as settings."""
    parent = _parent()
    add_settings(
        parent,
        ("model", "NAME", "such as IBMRec, FREEDOM+fib+gib or RecBole's LightGCN"),
        ("dataset", "NAME", "ml-100k is bundled"),
        ("data_path", "DIR", "the folder with DATASET/ in it (default dataset)"),
    )
    return parent


@cache
def cluster() -> argparse.ArgumentParser:
    """Return the parent with ``--address``, of the commands that run through Ray."""
    parent = _parent()
    parent.add_argument(
        "--address",
        help="of a running Ray cluster, auto finds it; default: a Ray on this machine for this command",
    )
    return parent


@cache
def checkpoint() -> argparse.ArgumentParser:
    """Return the parent with the file of a trained model."""
    parent = _parent()
    parent.add_argument("checkpoint", metavar="CHECKPOINT", help="the .pth file of a training run")
    return parent


@cache
def places() -> argparse.ArgumentParser:
    """Return the parent with the places of a trained model's data and of a bridged model's code."""
    parent = _parent()
    parent.add_argument(
        "--data_path", metavar="DIR", help="where data sets lie now; default: where they lay at the run"
    )
    parent.add_argument(
        "--mmrec_path",
        metavar="DIR",
        help="of a model mmrec:NAME, your checkout of MMRec: a checkpoint never says which code is imported",
    )
    return parent


def positive_integer(text: str) -> int:
    """Return the number; argparse prints what else was given."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1 is needed, got {text!r}")
    return int(text)


# -- words ---------------------------------------------------------------------------------------------------


def parse(command: Command, parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Read a command's words.

    Returns:
        The parser's own arguments. With settings also ``settings``, a list of ``--key=value``, and
        ``config_files``, a list of names; a setting that the help names is an argument too, as text.

    Raises:
        SystemExit: as argparse does, for ``--help`` and for a form that it cannot read.
        WordError: among settings, a word that is none, or a setting given twice with different values.
    """
    if not command.takes_settings:
        args, extra = parser.parse_known_args(_lists_by_blank(parser, words))
        if extra:
            near = nearest(extra[0].partition("=")[0], own_options(parser))
            parser.error(f"unrecognized argument {extra[0]!r}.{near}")
        return args
    own, found = split_settings(parser, words)
    args, extra = parser.parse_known_args(own)
    if extra:
        raise WordError(cannot_read(parser, extra[0]))
    args.settings = found
    actions = own_actions(parser)
    by_name: dict[str, str] = {}
    for name, _, value in (word.partition("=") for word in found):
        if by_name.setdefault(name, value) != value:
            raise WordError(f"{name} is given twice, as {by_name[name]!r} and {value!r}")
        if name in actions:
            setattr(args, actions[name].dest, value)
    args.config_files = file_names(args.config_files or ())
    return args


def split_settings(parser: argparse.ArgumentParser, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the parser's own words from the settings among them, ``--KEY=VALUE`` or ``--KEY VALUE``.

    A setting's value is one word: ``--KEY`` before another ``--word``, or at the end, has none.

    Returns:
        The own words, and the settings as ``--KEY=VALUE``.

    Raises:
        WordError: a word that is neither.
    """
    options, words = own_actions(parser), list(words)
    own: list[str] = []
    found: list[str] = []
    # whether a bare word can be a value of one of the parser's own options: behind a setting it is nobody's
    within_own = False
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        following = next(iter(words), "--")
        action = options.get(name)
        if action is not None and not isinstance(action, Setting):
            own += [name, value] if equals and _is_list(action) else [word]
            within_own = True
        elif not re.fullmatch(r"--[A-Za-z_][\w.-]*", name):
            if not within_own:
                raise WordError(cannot_read(parser, word))
            own.append(word)
        elif "-" in name[2:] and nearest(name, own_options(parser)):
            # keys have no hyphen: an option of the command, misspelt
            raise WordError(cannot_read(parser, word))
        elif equals:
            found.append(word)
            within_own = False
        elif "-" not in name[2:] and not following.startswith("--"):
            found.append(f"{word}={words.pop(0)}")
            within_own = False
        else:
            raise WordError(cannot_read(parser, word))
    return own, found


def cannot_read(parser: argparse.ArgumentParser, word: str) -> str:
    """Return what is wrong with a word, with the nearest option and how settings are written."""
    name = word.partition("=")[0]
    near = nearest(name, [option for option in own_options(parser) if option != name])
    value = f": {word}=VALUE" if re.fullmatch(r"--[\w.]+", word) else ""
    return f"cannot read {word!r}.{near} Settings are given as --key=value{value}"


def own_actions(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return a parser's options by their words."""
    return {word: action for action in parser._actions for word in action.option_strings}


def own_options(parser: argparse.ArgumentParser) -> list[str]:
    """Return a parser's long options."""
    return [word for word in own_actions(parser) if word.startswith("--")]


def _is_list(action: argparse.Action) -> bool:
    return action.nargs in ("+", "*")


def _lists_by_blank(parser: argparse.ArgumentParser, words: Iterable[str]) -> list[str]:
    """Write ``--list=A B`` as ``--list A B``: argparse would take B for a word of its own."""
    options = own_actions(parser)
    spread: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        spread += [name, value] if equals and name in options and _is_list(options[name]) else [word]
    return spread


def file_names(words: Iterable[str]) -> list[str]:
    """Return file names given as ``A B``, ``"A B"`` or ``A,B``; a file that is there may have a comma."""
    names = [name for word in words for name in word.split()]
    return [part for name in names for part in ([name] if Path(name).is_file() else name.split(",")) if part]


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return `` Did you mean A or B?`` with the allowed names nearest to this one, or an empty text."""
    by_lower = {candidate.lower(): candidate for candidate in allowed}
    close = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(by_lower[word] for word in close)}?" if close else ""

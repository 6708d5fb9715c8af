"""Commands as functions of their words, whose errors a test can catch."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence

from recbole_ib_cli.main import COMMANDS, read_words


def arguments(name: str, words: Sequence[str]) -> argparse.Namespace:
    """What a command's function is called with for these words."""
    return read_words([name, *words])


def command(name: str) -> Callable[[Sequence[str]], int]:
    """A command by its name: from its words to its exit status, where ``main`` would print the errors that this raises."""
    module, _, function = COMMANDS[name].target.partition(":")

    def run(words: Sequence[str]) -> int:
        try:
            args = arguments(name, words)
        except SystemExit as stop:
            return int(stop.code or 0)
        return getattr(importlib.import_module(module), function)(args)

    return run

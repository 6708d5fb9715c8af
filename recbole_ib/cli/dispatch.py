"""What happens around every command.

Torchrun is for training alone, and an error of ours is one line on stderr.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
import tempfile
import traceback
from pathlib import Path

from recbole_ib.distributed.launch import launched, rank
from recbole_ib.errors import ConfigurationError, RecBoleIBError


def run_command(args: argparse.Namespace, target: str) -> int:
    """Run ``module:function`` on a command's arguments.

    Returns:
        The exit status: the function's own, or 1 where it raised an error of :mod:`recbole_ib.errors`.
    """
    module, _, function = target.partition(":")
    try:
        if args.command != "train" and launched():
            raise ConfigurationError(
                f"{args.command} runs in one process; torchrun is for training. Start it without torchrun"
            )
        return getattr(importlib.import_module(module), function)(args)
    except RecBoleIBError as error:
        return _refused(str(error))
    except OSError as error:
        return _refused(of_system(error)) if error.errno in SYSTEM else _bug(error, args)
    except Exception as error:
        return _refused(str(error)) if refused_by_recbole(error) else _bug(error, args)


ELSEWHERE = "take another place (checkpoint_dir, --out)"
#: what an operating system refuses, and what helps
SYSTEM = {
    errno.ENOSPC: f"free some space there, or {ELSEWHERE}",
    errno.EDQUOT: f"free some space there, or {ELSEWHERE}",
    errno.EACCES: f"give this user the right, or {ELSEWHERE}",
    errno.EPERM: f"give this user the right, or {ELSEWHERE}",
    errno.EROFS: ELSEWHERE,
    errno.ENOTDIR: f"a file lies where a folder is needed: move it, or {ELSEWHERE}",
    errno.EEXIST: f"a file lies where a folder is needed: move it, or {ELSEWHERE}",
    errno.EISDIR: "a folder lies where a file is needed: move it, or take another place",
    errno.ENAMETOOLONG: "take a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


def of_system(error: OSError) -> str:
    """Return what the operating system refused, where, and what helps."""
    where = error.filename2 or error.filename
    return f"{error.strerror}{f': {where}' if where else ''}; {SYSTEM[error.errno or 0]}"


def refused_by_recbole(error: Exception) -> bool:
    """Return whether RecBole itself refused something in words: a ``raise`` of its own code."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    raised = last is not None and (last.line or "").startswith("raise ")
    package = Path(importlib.import_module("recbole").__file__ or "").parent
    return raised and bool(str(error)) and package in Path(last.filename).parents if last else False


def _refused(text: str) -> int:
    print(f"recbole-ib{_process()}: {text}", file=sys.stderr)
    return 1


def _bug(error: Exception, args: argparse.Namespace) -> int:
    """Say that this is a bug, and keep the traceback in a file."""
    text = "".join(traceback.format_exception(error))
    kept = ""
    try:
        handle, name = tempfile.mkstemp(prefix="recbole-ib-error-", suffix=".txt", text=True)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"{args.command_line}\n\n{text}")
        kept = f", with {name}, which holds the traceback"
    except OSError:
        print(text, file=sys.stderr)
    last = str(error).splitlines()[0] if str(error) else ""
    what = f"{type(error).__name__}: {last[:200]}"
    return _refused(f"this is a bug, in recbole-ib or in what it calls: {what}. Please report it{kept}")


def _process() -> str:
    """Return which process speaks, where torchrun started several: any may have found the error."""
    return f" (process {rank()} of {os.environ['WORLD_SIZE']})" if launched() else ""

"""The commands ``recbole-ib recommend``, ``similar`` and ``export``."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_ib.errors import ConfigurationError, first_few
from recbole_ib.inference.embeddings import check_target, import_faiss
from recbole_ib.inference.recommender import FewerItemsWarning, Recommender, load
from recbole_ib.utils.files import atomic_write


def recommend(args: argparse.Namespace) -> int:
    """``recbole-ib recommend CHECKPOINT --out=FILE``; returns the exit status."""
    # all that can be known before the model is loaded
    write, users = _writer(args.out), None
    if args.skip_unknown and args.users is None:
        raise ConfigurationError(
            "--skip-unknown goes with --users=FILE; without it all users of the data set are answered"
        )
    lines = None if args.users is None else read_users(args.users)
    recommender = load(args.checkpoint, data_path=args.data_path, mmrec_path=args.mmrec_path)
    if lines is not None:
        users = known_users(recommender, lines, args.users, args.skip_unknown)
    frame = _warned(lambda: recommender.recommend(users, k=args.k, keep_seen=args.keep_seen))
    try:
        with atomic_write(args.out) as scratch:
            write(frame, scratch)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {args.out}: {error.strerror or error}. Name a file in a folder that exists"
        ) from None
    n_users = len(recommender.user_tokens) if users is None else len(set(users))
    print(f"{n_users} users, {len(frame)} rows: {args.out}")
    return 0


def similar(args: argparse.Namespace) -> int:
    """``recbole-ib similar CHECKPOINT ITEM ...``; returns the exit status."""
    recommender = load(args.checkpoint, data_path=args.data_path, mmrec_path=args.mmrec_path)
    print(_table(_warned(lambda: recommender.similar(args.items, k=args.k))))
    return 0


def export(args: argparse.Namespace) -> int:
    """``recbole-ib export CHECKPOINT OUT``; returns the exit status."""
    # before seconds of loading
    check_target(Path(args.out), args.force)
    if args.faiss:
        import_faiss()
    recommender = load(args.checkpoint, data_path=args.data_path, mmrec_path=args.mmrec_path)
    folder = recommender.export(args.out, faiss_index=args.faiss, force=args.force)
    # of what was written: the arrays themselves would be made a second time
    width = np.load(folder / "items.npy", mmap_mode="r").shape[1]
    print(
        f"{folder}: {len(recommender.user_tokens)} users, {len(recommender.item_tokens)} items, {width} "
        "numbers each"
    )
    return 0


# -- users in a file -----------------------------------------------------------------------------------------


def read_users(path: str | Path) -> list[tuple[int, str]]:
    """The tokens of a file, one a line, with their line numbers from 1; blank lines are left out.

    Raises:
        ConfigurationError: no such file, no UTF-8 text, or no token in it.
    """
    try:
        # split at newlines alone: splitlines() would also cut a token at the rarer Unicode line separators
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"--users: {path} is no UTF-8 text file ({error})") from None
    except OSError as error:
        raise ConfigurationError(f"--users: cannot read {path}: {error.strerror}") from None
    found = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise ConfigurationError(f"--users: {path} holds no user; write one token a line")
    return found


def known_users(
    recommender: Recommender, lines: Sequence[tuple[int, str]], path: str | Path, skip: bool
) -> list[str]:
    """Return the users of :func:`read_users` who are in the data set.

    The others are an error, or with ``skip`` left out with a message.

    Raises:
        ConfigurationError: an unknown user without ``skip``, or none that is known.
    """
    tokens = [token for _, token in lines]
    unknown = recommender.unknown(tokens, "user")
    if not unknown:
        return tokens
    where = first_few(f"line {lines[at][0]}: {tokens[at]!r}" for at in unknown)
    text = (
        f"{path}: {len(unknown)} of {len(tokens)} users are not in the data set "
        f"{recommender.config['dataset']!r} of the run ({where})"
    )
    if not skip:
        hint = recommender.hint(tokens[unknown[0]], "user")
        raise ConfigurationError(
            f"{text}.{hint} Its filtering may have left them out; --skip-unknown goes on without them"
        )
    if len(unknown) == len(tokens):
        raise ConfigurationError(f"{text}: no user is left to recommend to")
    print(f"recbole-ib: {text}; left out", file=sys.stderr)
    out = set(unknown)
    return [token for at, token in enumerate(tokens) if at not in out]


# -- shared --------------------------------------------------------------------------------------------------


def _writer(out: str) -> Callable[[pd.DataFrame, Path], None]:
    """How the file is written, by its ending."""
    path = Path(out)
    writers = {".parquet": _write_parquet, ".csv": _write_csv}
    if path.suffix not in writers:
        raise ConfigurationError(
            f"--out: {path} must end in {' or '.join(writers)}, which says how it is written"
        )
    if path.is_dir():
        raise ConfigurationError(f"--out: {path} is a folder; name a file")
    if not path.parent.is_dir():
        raise ConfigurationError(f"--out: there is no folder {path.parent}; make it first")
    return writers[path.suffix]


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    frame.to_parquet(path, engine="pyarrow", index=False)


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False)


def _warned(make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """What ``make`` returns; its warnings of short lists go to stderr as messages."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", FewerItemsWarning)
        frame = make()
    for warning in caught:
        print(f"recbole-ib: {warning.message}", file=sys.stderr)
    return frame


def _table(frame: pd.DataFrame) -> str:
    rows = [
        tuple(frame.columns),
        *((a, b, str(rank), f"{score:.4f}") for a, b, rank, score in frame.itertuples(index=False)),
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        f"{a:<{widths[0]}}  {b:<{widths[1]}}  {rank:>{widths[2]}}  {score:>{widths[3]}}"
        for a, b, rank, score in rows
    )

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


def recommend(argv: Sequence[str]) -> int:
    """``recbole-ib recommend CHECKPOINT --out=FILE``; returns the exit status."""
    parser = _parser("recommend", "write the items that a trained model scores highest for each user")
    parser.add_argument("--users", metavar="FILE", help="users, one token a line; default: all users of the data set")
    parser.add_argument("--k", type=_whole, default=20, help="items a user (default: %(default)s)")
    parser.add_argument("--out", metavar="FILE", required=True, help="FILE.parquet or FILE.csv, replaced if it is there")
    parser.add_argument("--keep-seen", action="store_true", help="rank the items of the user's own interactions too")
    parser.add_argument("--skip-unknown", action="store_true", help="leave out users of FILE who are not in the data set")
    given = _parse(parser, argv)
    if isinstance(given, int):
        return given
    # all that can be known before the model is loaded
    write, users = _writer(given.out), None
    if given.skip_unknown and given.users is None:
        raise ConfigurationError("--skip-unknown goes with --users=FILE; without it all users of the data set are answered")
    lines = None if given.users is None else read_users(given.users)
    recommender = load(given.checkpoint, data_path=given.data_path)
    if lines is not None:
        users = known_users(recommender, lines, given.users, given.skip_unknown)
    frame = _warned(lambda: recommender.recommend(users, k=given.k, keep_seen=given.keep_seen))
    try:
        with atomic_write(given.out) as scratch:
            write(frame, scratch)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {given.out}: {error.strerror or error}. Name a file in a folder that exists"
        ) from None
    n_users = len(recommender.user_tokens) if users is None else len(set(users))
    print(f"{n_users} users, {len(frame)} rows: {given.out}")
    return 0


def similar(argv: Sequence[str]) -> int:
    """``recbole-ib similar CHECKPOINT ITEM ...``; returns the exit status."""
    parser = _parser("similar", "print the items nearest to an item by the cosine of a trained model's item embeddings")
    parser.add_argument("items", metavar="ITEM", nargs="+", help="an item's token")
    parser.add_argument("--k", type=_whole, default=10, help="neighbors an item (default: %(default)s)")
    given = _parse(parser, argv)
    if isinstance(given, int):
        return given
    recommender = load(given.checkpoint, data_path=given.data_path)
    print(_table(_warned(lambda: recommender.similar(given.items, k=given.k))))
    return 0


def export(argv: Sequence[str]) -> int:
    """``recbole-ib export CHECKPOINT OUT``; returns the exit status."""
    parser = _parser("export", "write a trained model's user and item embeddings: arrays, and tokens in the order of their rows")
    parser.add_argument("out", metavar="OUT", help="the folder to write")
    parser.add_argument("--faiss", action="store_true", help="also write items.faiss, an inner-product index of the items")
    parser.add_argument("--force", action="store_true", help="replace an export that is there")
    given = _parse(parser, argv)
    if isinstance(given, int):
        return given
    # before seconds of loading
    check_target(Path(given.out), given.force)
    if given.faiss:
        import_faiss()
    recommender = load(given.checkpoint, data_path=given.data_path)
    folder = recommender.export(given.out, faiss_index=given.faiss, force=given.force)
    # of what was written: the arrays themselves would be made a second time
    width = np.load(folder / "items.npy", mmap_mode="r").shape[1]
    print(f"{folder}: {len(recommender.user_tokens)} users, {len(recommender.item_tokens)} items, {width} numbers each")
    return 0


# -- users in a file --------------------------------------------------------------------------------------------------


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


def known_users(recommender: Recommender, lines: Sequence[tuple[int, str]], path: str | Path, skip: bool) -> list[str]:
    """The users of :func:`read_users` who are in the data set; the others are an error, or with ``skip`` left out with a message.

    Raises:
        ConfigurationError: an unknown user without ``skip``, or none that is known.
    """
    tokens = [token for _, token in lines]
    unknown = recommender.unknown(tokens, "user")
    if not unknown:
        return tokens
    where = first_few(f"line {lines[at][0]}: {tokens[at]!r}" for at in unknown)
    text = f"{path}: {len(unknown)} of {len(tokens)} users are not in the data set {recommender.config['dataset']!r} of the run ({where})"
    if not skip:
        hint = recommender.hint(tokens[unknown[0]], "user")
        raise ConfigurationError(f"{text}.{hint} Its filtering may have left them out; --skip-unknown goes on without them")
    if len(unknown) == len(tokens):
        raise ConfigurationError(f"{text}: nobody is left to recommend to")
    print(f"recbole-ib: {text}; left out", file=sys.stderr)
    out = set(unknown)
    return [token for at, token in enumerate(tokens) if at not in out]


# -- shared -----------------------------------------------------------------------------------------------------------


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"recbole-ib {command}", description=description)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="the .pth file of a training run")
    parser.add_argument("--data_path", metavar="DIR", help="where data sets lie now; default: where they lay at the run")
    return parser


def _parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace | int:
    """The arguments, or the exit status where argparse has printed help or a refusal."""
    try:
        return parser.parse_args(list(argv))
    except SystemExit as stop:
        return int(stop.code or 0)


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1 is needed, got {text!r}")
    return int(text)


def _writer(out: str) -> Callable[[pd.DataFrame, Path], None]:
    """How the file is written, by its ending."""
    path = Path(out)
    writers = {".parquet": _write_parquet, ".csv": _write_csv}
    if path.suffix not in writers:
        raise ConfigurationError(f"--out: {path} must end in {' or '.join(writers)}, which says how it is written")
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
    rows = [tuple(frame.columns), *((a, b, str(rank), f"{score:.4f}") for a, b, rank, score in frame.itertuples(index=False))]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        f"{a:<{widths[0]}}  {b:<{widths[1]}}  {rank:>{widths[2]}}  {score:>{widths[3]}}" for a, b, rank, score in rows
    )

"""``recbole-ib tune``: the words of the command."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from recbole_ib.config.argv import parse_arguments, parse_words
from recbole_ib.errors import ConfigurationError
from recbole_ib.tuning.options import SCHEDULERS, SEARCHES

#: the exit status of a command that Ctrl-C ended, as shells have it
INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """The command's own words; every other ``--key=value`` is a setting of all trials."""
    made = argparse.ArgumentParser(
        prog="recbole-ib tune",
        allow_abbrev=False,
        description="Search for a model's settings by its validation score, with Ray Tune; docs/tuning.md.",
        epilog="Every other --key=value is a setting of all trials.",
    )
    made.add_argument("--model", help="a name, such as IBMRec or FREEDOM+fib+gib")
    made.add_argument("--dataset", help="a name")
    made.add_argument("--space", metavar="FILE.yaml", help="what is searched; default: the model's own space")
    made.add_argument("--search", default="optuna", help=f"{', '.join(SEARCHES)} (default optuna)")
    made.add_argument(
        "--scheduler", default="asha", help=f"{', '.join(SCHEDULERS)}: asha stops trials that fall behind (default)"
    )
    made.add_argument("--samples", type=int, metavar="N", help="trials of optuna and random (default 20)")
    made.add_argument("--grace", type=int, metavar="EPOCHS", help="asha stops no trial before this many epochs (default 10)")
    made.add_argument("--reduction", type=float, default=3, metavar="R", help="asha lets one trial in R go on (default 3)")
    made.add_argument("--cpus-per-trial", type=float, default=1, metavar="N", help="also a trial's threads (default 1)")
    made.add_argument("--gpus-per-trial", type=float, metavar="N", help="default .25 where Ray has a GPU")
    made.add_argument("--cpus", type=int, metavar="N", help="of this machine, for all trials together (default all)")
    made.add_argument("--address", help="of a running Ray cluster; auto finds it; default: a Ray for this search alone")
    made.add_argument("--resume", action="store_true", help="go on with the search in OUT")
    made.add_argument("--fresh", action="store_true", help="delete the search in OUT and start over")
    made.add_argument("--out", metavar="DIR", help="default tuned/DATASET/MODEL")
    made.add_argument("--seed", type=int, metavar="N", help="of the search, and the setting seed of all trials")
    made.add_argument("--keep-checkpoints", action="store_true", help="keep every trial's, not the best one's alone")
    made.add_argument("--heatmap", action="append", default=[], metavar="KEY,KEY", help="one more heat map; may be given again")
    made.add_argument("--config_files", nargs="+", default=[], metavar="FILE.yaml", help="settings of all trials")
    return made


def command(argv: Sequence[str]) -> int:
    """Run the search that the words ask for; 0, or 1 where it is refused."""
    try:
        given, rest = parse_words(parser(), list(argv))
    except SystemExit as stop:
        return int(stop.code or 0)
    _check_rest(rest)
    from recbole_ib.tuning.search import tune

    words = vars(given)
    files = [name for text in words.pop("config_files") for name in text.split()]
    words["heatmaps"] = tuple(words.pop("heatmap"))
    model, dataset, space, out = (words.pop(name) for name in ("model", "dataset", "space", "out"))
    if not files:
        model, dataset = model or "IBMRec", dataset or "ml-100k"
    text = "recbole-ib tune " + shlex.join(argv)
    try:
        found = tune(model, dataset, space, files, argv=rest, out=out, command=text.rstrip(), **words)
    except KeyboardInterrupt:
        return INTERRUPTED
    print(found.text)
    if (found.trials["status"] == "failed").any():
        count = int((found.trials["status"] == "failed").sum())
        print(f"WARNING: {count} of {len(found.trials)} trials failed; they are named above and in trials.csv", file=sys.stderr)
    return 0


def _check_rest(rest: Sequence[str]) -> None:
    """Words that are no settings: misspelt ones of the command, most likely."""
    from recbole_ib.errors import nearest

    own = [word for action in parser()._actions for word in action.option_strings if word.startswith("--")]
    for word in rest:
        name = word.partition("=")[0]
        if not word.startswith("--") or "=" not in word or "-" in name[2:]:
            raise ConfigurationError(f"recbole-ib tune: cannot read {word!r}.{nearest(name, own)} A setting is --key=value")
    parse_arguments(rest)

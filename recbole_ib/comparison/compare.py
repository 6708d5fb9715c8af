"""``recbole-ib compare``: models x seeds, trained where they are missing, in one report."""

from __future__ import annotations

import argparse
import csv
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recbole_ib.comparison.contestants import Contestant, parse_contestants
from recbole_ib.comparison.lineup import Entry, Lineup
from recbole_ib.comparison.plan import PATHS
from recbole_ib.comparison.summary import write_report
from recbole_ib.comparison.tasks import Task, data_identity, run_tasks
from recbole_ib.config import Config, _read_yaml, parse_arguments, quoted
from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.quick_start import split_seed
from recbole_ib.registry import MMREC_PREFIX

#: RecBole's own default seed splits the data where nothing else does: every seed of a comparison sees one split
SPLIT_SEED = 2020
#: settings that belong to the whole comparison, by the word that gives them
TAKEN = {
    "seed": "--seeds",
    "model": "--models",
    "per_user": "nothing, every run writes it",
    "resume_checkpoint": "nothing, a killed run is continued by itself",
    "checkpoint_dir": "--out",
}


@dataclass(frozen=True)
class Line:
    """One line of a comparison: its name, the model, the settings of all its seeds, how these were chosen, among how many."""

    text: str
    name: str
    settings: dict
    note: str = ""
    tried: int | None = None


@dataclass(frozen=True)
class Options:
    """The words that ``compare`` and ``ablate`` share, checked."""

    dataset: str
    seeds: list[int]
    out: Path
    tuned: Path | None
    metric: str
    baseline: str | None
    cpus: float
    gpus: float
    address: str | None
    keep_checkpoints: bool
    files: dict
    words: dict


def command(argv: Sequence[str]) -> int:
    """Train what is missing and write the report; 0, or 1 where a training failed."""
    parser = parser_of("compare", "train models over seeds where they are missing, and report")
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME", help="NAME[+bottleneck][:key=value[;key=value]]")
    given, options = read_options(parser, argv)
    contestants = parse_contestants(",".join(given.models))
    for contestant in contestants:
        if len(contestant.candidates) > 1:
            raise ConfigurationError(
                f"model {contestant.text!r} leaves a choice ('|'); a comparison takes chosen settings: recbole-ib tune finds them, and "
                "--tuned reads them"
            )
    lines = [line_of(contestant, options) for contestant in contestants]
    title = f"{len(lines)} models on {options.dataset}"
    return run(lines, options, title, "recbole-ib compare " + shlex.join(argv))


def parser_of(name: str, description: str) -> argparse.ArgumentParser:
    """The words that ``compare`` and ``ablate`` share."""
    parser = argparse.ArgumentParser(prog=f"recbole-ib {name}", description=description, allow_abbrev=False)
    parser.add_argument("--dataset", required=True, metavar="NAME")
    parser.add_argument(
        "--seeds", nargs="+", default=["5"], metavar="N", help="how many (5: the seeds 0 to 4), or several: the seeds themselves"
    )
    parser.add_argument("--tuned", type=Path, metavar="DIR", help="where recbole-ib tune left MODEL/best.yaml of the models")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"default: {name}/DATASET")
    parser.add_argument("--metric", default="recall@20", help="what tests and charts are about (default recall@20)")
    parser.add_argument("--baseline", metavar="NAME", help="the model that changes are measured against (default: the first)")
    parser.add_argument("--cpus-per-run", type=float, default=1, metavar="N")
    parser.add_argument("--gpus-per-run", type=float, default=0, metavar="N")
    parser.add_argument("--address", help="of a Ray cluster, such as auto; default: this machine alone")
    parser.add_argument("--keep-checkpoints", action="store_true", help="every run's, below OUT/runs")
    parser.epilog = "Any other --KEY=VALUE, and --config_files, are settings of all runs."
    return parser


def read_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[argparse.Namespace, Options]:
    """The words of a command, checked.

    Raises:
        ConfigurationError: a value that is none of those allowed.
    """
    from recbole_ib.cli import split_arguments

    words, files = split_arguments(argv)
    given, rest = parser.parse_known_args(words)
    of_files = {key: value for file in files for key, value in _read_yaml(Path(file)).items()}
    of_words = parse_arguments(rest)
    for key in (*of_files, *of_words):
        if key in TAKEN:
            raise ConfigurationError(f"{key} is not a setting of all runs; a comparison takes it from {TAKEN[key]}")
    for settings in (of_files, of_words):
        for key in PATHS:
            if isinstance(settings.get(key), str) and not settings[key].startswith("recbole_ib:"):
                settings[key] = str(Path(settings[key]).expanduser().resolve())
    if given.cpus_per_run <= 0 or given.gpus_per_run < 0:
        raise ConfigurationError("--cpus-per-run must be above 0 and --gpus-per-run not below it")
    out = given.out or Path(parser.prog.split()[-1]) / given.dataset
    options = Options(
        dataset=given.dataset,
        seeds=read_seeds(given.seeds),
        out=out.expanduser().resolve(),
        tuned=given.tuned and given.tuned.expanduser().resolve(),
        metric=given.metric.lower(),
        baseline=given.baseline,
        cpus=given.cpus_per_run,
        gpus=given.gpus_per_run,
        address=given.address,
        keep_checkpoints=given.keep_checkpoints,
        files=of_files,
        words=of_words,
    )
    return given, options


def read_seeds(words: Sequence[str]) -> list[int]:
    """``5``: the seeds 0 to 4; ``3 7`` or ``3,7``: these.

    Raises:
        ConfigurationError: no whole numbers from 0 on, or one twice.
    """
    parts = [part for word in words for part in word.split(",")]
    if not all(part.isdigit() for part in parts) or len(set(parts)) != len(parts) or parts == ["0"]:
        raise ConfigurationError(
            f"--seeds {' '.join(words)}: allowed are one number, how many (5: the seeds 0 to 4), or several different ones, such as 3 7 11"
        )
    if len(parts) == 1 and "," not in words[0]:
        return list(range(int(parts[0])))
    return [int(part) for part in parts]


def line_of(contestant: Contestant, options: Options, borrowed: str | None = None, text: str | None = None) -> Line:
    """A model with its settings: files < those tuned for it < the command's words < its own in its text.

    Args:
        contestant: with one candidate.
        options: of the command.
        borrowed: a model whose tuned settings are taken where this one has none of its own.
        text: the line's name, where it is not what the model was written as.
    """
    own, tuned, note, tried = contestant.candidates[0], {}, "", None
    if options.tuned is not None:
        tuned, note, tried = read_tuned(options, contestant.name, borrowed)
    settings = {**options.files, **tuned, **options.words, **own}
    for key in ("seed", "model", "dataset"):
        settings.pop(key, None)
    settings.setdefault("split_seed", SPLIT_SEED)
    return Line(text or contestant.text, contestant.name, settings, note, tried)


def read_tuned(options: Options, name: str, borrowed: str | None = None) -> tuple[dict, str, int | None]:
    """The settings that a search found for a model, how the report says so, and how many trials it had.

    Raises:
        ConfigurationError: no search of this model, or one on another data set.
    """
    for model in (name, borrowed):
        file = options.tuned / model / "best.yaml" if model else None
        if file is None or not file.is_file():
            continue
        settings = _read_yaml(file)
        if settings.get("dataset", options.dataset) != options.dataset:
            raise ConfigurationError(f"{file} was tuned on {settings['dataset']!r}, this comparison is on {options.dataset!r}")
        trials = file.with_name("trials.csv")
        count = None
        if trials.is_file():
            with trials.open(encoding="utf-8", newline="") as rows:
                count = sum(1 for _ in csv.DictReader(rows))
        of = "" if model == name else f" of {model}"
        return settings, f"settings{of} tuned{f', {count} trials' if count else ''}", count
    here = sorted(path.parent.name for path in options.tuned.glob("*/best.yaml"))
    raise ConfigurationError(
        f"{options.tuned} holds no {name}/best.yaml.{nearest(name, here)} There: {', '.join(here) or 'none'}. Tune it: recbole-ib tune "
        f"--model={name} --dataset={options.dataset} --out={options.tuned / name}"
    )


def run(
    lines: list[Line], options: Options, title: str, command_line: str, groups: Mapping[str, Sequence[str]] | None = None
) -> int:
    """Train every line's missing seeds, write the report, and say where it is; ``groups``: headings, and the lines below each."""
    baseline = options.baseline or lines[0].text
    if baseline not in [line.text for line in lines]:
        raise ConfigurationError(
            f"--baseline {baseline!r} is not compared.{nearest(baseline, [line.text for line in lines])} "
            f"Compared: {', '.join(line.text for line in lines)}"
        )
    known = check_lines(lines, options)
    tasks = {}
    for line in lines:
        name, data = known[line.text]
        for seed in options.seeds:
            settings = {**line.settings, "seed": seed}
            tasks[line.text, seed] = Task.of(name, options.dataset, settings, options.out / "runs", data)
    # two lines of the same settings are one training
    missing = list({task.folder: task for task in tasks.values() if task.manifest() is None}.values())
    print(f"{len(tasks)} runs, {len(missing)} of them to be trained; {options.out / 'runs'}", flush=True)
    count = 0

    def done(task: Task, seconds: float, error: str | None) -> None:
        nonlocal count
        count += 1
        what = f"FAILED: {error}" if error else "done"
        print(f"[{count}/{len(missing)}] {task.folder.name}: {what} ({seconds:.1f} s)", flush=True)

    run_tasks(missing, options.cpus, options.gpus, options.address, options.keep_checkpoints, done)
    failures = [f"{text}, seed {seed}: {task.error() or 'no result'}"
                for (text, seed), task in tasks.items() if task.manifest() is None]  # fmt: skip
    entries = []
    for line in lines:
        manifests = [tasks[line.text, seed].manifest() for seed in options.seeds]
        if any(manifests):
            entries.append(Entry(line.text, [m for m in manifests if m], note=line.note, trials=line.tried))
    for failure in failures:
        print(f"failed: {failure}", flush=True)
    if not entries:
        raise ConfigurationError("no training finished, so there is nothing to compare; the errors are above")
    if baseline not in [entry.name for entry in entries]:
        print(f"the baseline {baseline} has no finished run; changes are measured against {entries[0].name}", flush=True)
        baseline = entries[0].name
    lineup = Lineup(
        title=title,
        dataset=options.dataset,
        entries=entries,
        baseline=baseline,
        metric=options.metric,
        failures=failures,
        command=command_line,
        groups=groups,
    )
    report = write_report(lineup, options.out)
    print((options.out / "table.md").read_text(encoding="utf-8"))
    print(f"report: {report}")
    return 1 if failures else 0


def check_lines(lines: list[Line], options: Options) -> dict[str, tuple[str, str]]:
    """Refuse a wrong model, setting or metric before hours of training; for every line the model's one name and the data's identity.

    VLATTICE+fib+gib and IBMRec are one model: what was trained under one name is not trained again under the other.

    Raises:
        ConfigurationError: the line, and what its Config says; or splits that differ.
    """
    splits, known = {}, {}
    for line in lines:
        try:
            config = Config(line.name, options.dataset, None, quoted(line.settings))
            splits[line.text] = split_seed(config)
            # a model of a checkout is found by its whole name alone
            name = line.name if line.name.lower().startswith(MMREC_PREFIX) else config["model"]
            known[line.text] = name, data_identity(config)
        except ConfigurationError as error:
            raise ConfigurationError(f"model {line.text!r}: {error}") from error
        computed = [f"{metric}@{k}".lower() for metric in config["metrics"] for k in config["topk"]]
        if options.metric not in computed:
            raise ConfigurationError(
                f"--metric is {options.metric!r}, which {line.text} does not compute.{nearest(options.metric, computed)} "
                f"Computed: {', '.join(computed)}"
            )
    if len(set(splits.values())) > 1:
        named = ", ".join(f"{text}: {seed}" for text, seed in splits.items())
        raise ConfigurationError(
            f"the models would be compared on different splits of the data (split_seed of {named}); tune them on one split, or give "
            "--split_seed, knowing that a tuned model may then have seen test interactions in its search"
        )
    return known

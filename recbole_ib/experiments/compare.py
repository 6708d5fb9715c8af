"""``recbole-ib compare``: models x seeds, trained where they are missing, in one report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from recbole_ib.errors import ConfigurationError, first_few, nearest
from recbole_ib.experiments.jobs import Task, run_tasks
from recbole_ib.experiments.model_spec import parse_contestants
from recbole_ib.experiments.options import Line, Options, check_lines, line_of, parser_of, read_options
from recbole_ib.experiments.report.write import FILES, write_report
from recbole_ib.experiments.results import Entry, Lineup
from recbole_ib.utils.ray import own_folder


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
    task_of = check_lines(lines, options)
    foreign = [name for name in FILES if (options.out / name).exists()]
    if foreign and not (options.out / "runs").is_dir():
        raise ConfigurationError(
            f"{options.out} holds files that the report would replace ({first_few(foreign)}); give another --out"
        )
    tasks = {(line.text, seed): task_of[line.text](seed) for line in lines for seed in options.seeds}
    with own_folder(options.out):
        train_missing(list(tasks.values()), options)
        return report(lines, tasks, options, baseline, title, command_line, groups)


def train_missing(tasks: list[Task], options: Options) -> None:
    """Train what has no manifest, or with ``--keep-checkpoints`` no checkpoint any more."""
    # two lines of the same settings are one training
    missing = list({task.folder: task for task in tasks if not task.finished(options.keep_checkpoints)}.values())
    print(f"{len(tasks)} runs, {len(missing)} of them to be trained; {options.out / 'runs'}", flush=True)
    count = 0

    def done(task: Task, seconds: float, error: str | None) -> None:
        nonlocal count
        count += 1
        what = f"FAILED: {error}" if error else "done"
        print(f"[{count}/{len(missing)}] {task.folder.name}: {what} ({seconds:.1f} s)", flush=True)

    run_tasks(missing, options.cpus, options.gpus, options.address, options.keep_checkpoints, done)


def report(
    lines: list[Line], tasks: dict[tuple[str, int], Task], options: Options, baseline: str, title: str, command_line: str, groups
) -> int:
    """Write the report of the runs that finished and name the others; 0, or 1 where there are others."""
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
    page = write_report(lineup, options.out)
    print((options.out / "table.md").read_text(encoding="utf-8"))
    print(f"report: {page}")
    return 1 if failures else 0

"""Models x seeds, trained where they are missing, in one report: ``recbole-ib compare`` and ``ablate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from recbole_ib.errors import ConfigurationError, first_few, nearest
from recbole_ib.experiments.jobs import Job, Resources, run_missing
from recbole_ib.experiments.options import Options, plan_jobs
from recbole_ib.experiments.report.write import FILES, write_report
from recbole_ib.experiments.results import Comparison, Entry
from recbole_ib.utils.ray import lock_directory


def run(
    entries: list[Entry],
    options: Options,
    title: str,
    command_line: str,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> int:
    """Train every entry's missing seeds, write the report, and print where it is.

    Args:
        entries: the lines of the report.
        options: of the command.
        title: of the report.
        command_line: as the report quotes it.
        groups: headings, and the names of the entries below each.

    Returns:
        0, or 1 where a training failed.

    Raises:
        ConfigurationError: a baseline that is not compared, a wrong model or setting, or files of others in
            the way.
    """
    names = [entry.name for entry in entries]
    baseline = options.baseline or names[0]
    if baseline not in names:
        raise ConfigurationError(
            f"--baseline {baseline!r} is not compared.{nearest(baseline, names)} Compared: {', '.join(names)}"
        )
    jobs = plan_jobs(entries, options)
    foreign = [name for name in FILES if (options.out / name).exists()]
    if foreign and not (options.out / "runs").is_dir():
        raise ConfigurationError(
            f"{options.out} holds files that the report would replace ({first_few(foreign)}); give another "
            "--out"
        )
    resources = Resources(options.cpus, options.gpus, options.address)
    with lock_directory(options.out):
        run_missing(list(jobs.values()), options.out / "runs", resources, options.keep_checkpoints)
        return report(entries, jobs, options, baseline, title, command_line, groups)


def report(
    entries: list[Entry],
    jobs: Mapping[tuple[str, int], Job],
    options: Options,
    baseline: str,
    title: str,
    command_line: str,
    groups: Mapping[str, Sequence[str]] | None,
) -> int:
    """Write the report of the runs that finished and print the others.

    Returns 0, or 1 where there are others.
    """
    failures = [
        f"{name}, seed {seed}: {job.error() or 'no result'}"
        for (name, seed), job in jobs.items()
        if job.manifest() is None
    ]
    manifests = {
        entry.name: [jobs[entry.name, seed].manifest() for seed in options.seeds] for entry in entries
    }
    entries = [replace(entry, manifests=list(filter(None, manifests[entry.name]))) for entry in entries]
    entries = [entry for entry in entries if entry.manifests]
    for failure in failures:
        print(f"failed: {failure}", flush=True)
    if not entries:
        raise ConfigurationError("no training finished, so there is nothing to compare; the errors are above")
    if baseline not in [entry.name for entry in entries]:
        print(
            f"the baseline {baseline} has no finished run; changes are measured against {entries[0].name}",
            flush=True,
        )
        baseline = entries[0].name
    comparison = Comparison(
        title=title,
        dataset=options.dataset,
        entries=entries,
        baseline=baseline,
        metric=options.metric,
        failures=failures,
        command=command_line,
        groups=groups,
    )
    page = write_report(comparison, options.out)
    print((options.out / "table.md").read_text(encoding="utf-8"))
    print(f"report: {page}")
    return 1 if failures else 0

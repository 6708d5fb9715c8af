"""A search: Ray Tune over one model's space on one data set."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole.config import Config

from recbole_ib.errors import ConfigurationError, TrainingInterrupted
from recbole_ib.tuning import options as asked
from recbole_ib.tuning.options import Options
from recbole_ib.tuning.plots import pairs_of  # noqa: TID253  (matplotlib is imported when it draws)
from recbole_ib.tuning.ray_setup import (
    grace_epochs,
    ray_environment,
    scheduler,
    search_seed,
    searcher,
    total_trials,
)
from recbole_ib.tuning.report import TuneResult, write_outputs
from recbole_ib.tuning.shared_dataset import BaseSettings, SharedDataset, prepare, read_base_settings
from recbole_ib.tuning.space import (
    Space,
    check_grid,
    check_searched,
    decode,
    parse_space,
    read_space,
    shipped_space,
)
from recbole_ib.tuning.trial import Job, Record, read_record, run_in_worker, write_record
from recbole_ib.utils.ray import check_resources, lock_directory, ray_session

#: how often a trial whose worker was killed is started again
RESTARTS = 2


def tune(
    model: str | type | None = None,
    dataset: str | None = None,
    space: Mapping | str | Path | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: dict | None = None,
    argv: Sequence[str] = (),
    out: str | Path | None = None,
    command: str = "recbole_ib.tune",
    **options: Any,
) -> TuneResult:
    """Search for the settings of a model by its validation score, and test the best trial's best epoch once.

    Args:
        model: a name, or a model class.
        dataset: a name.
        space: what is searched, a mapping or a yaml file; default: the one that ships for the model.
        config_file_list: yaml files with settings of all trials, or names of presets; later ones win.
        config_dict: settings of all trials; they win over the files.
        argv: ``--key=value`` words; they win over everything.
        out: the folder for everything that the search writes; default ``tuned/DATASET/MODEL``.
        command: what was typed, for the files' headers.
        options: see :class:`recbole_ib.tuning.options.Options`.

    Raises:
        ConfigurationError: a wrong setting, space, option or folder, before anything is trained; no trial
            finished.
        TrainingInterrupted: a KeyboardInterrupt, which says how to go on.
    """
    how = Options(**options)
    changes = {} if how.seed is None else {"seed": how.seed}
    given = read_base_settings(model, dataset, config_file_list, config_dict, argv, changes)
    base = given.config()
    searched = _space(space, base)
    if how.search == "grid":
        check_grid(searched)
    check_searched(searched, given.config)
    for key in searched:
        if key in given.settings:
            print(
                f"{key} = {given.settings[key]!r} is given, and searched: trials take the space's values, "
                "not this one",
                flush=True,
            )
    if not 1 <= (base["eval_step"] or 0) <= base["epochs"]:
        raise ConfigurationError(
            f"a search decides by validation: eval_step must be between 1 and epochs ({base['epochs']}), got "
            f"{base['eval_step']}"
        )
    pairs_of(searched, how.heatmaps)
    folder = Path(out if out is not None else Path("tuned") / base.dataset / base["model"]).resolve()
    data = prepare(base)
    started = time.perf_counter()
    with lock_directory(folder):
        resumed = asked.claim(folder, _description(given, base, searched, how, data, command), how)
        try:
            with ray_environment(), ray_session(how.address, how.cpus):
                job = _job(given, base, data, searched, folder, how)
                records = _run(job, base, how, folder, resumed)
        except KeyboardInterrupt:
            goes_on = f"The same command with --resume goes on with the search in {folder}"
            raise TrainingInterrupted(goes_on) from None
        return write_outputs(job, base, how, records, folder, command, time.perf_counter() - started)


def _space(space: Any, base: Config) -> Space:
    if space is None:
        return shipped_space(base)
    return parse_space(space, "the space") if isinstance(space, Mapping) else read_space(space)


def _description(
    given: BaseSettings, base: Config, space: Space, how: Options, data: SharedDataset, command: str
) -> dict:
    """Return everything that decides a search, for search.json."""
    name = (
        f"{given.model.__module__}.{given.model.__qualname__}"
        if isinstance(given.model, type)
        else base["model"]
    )
    return {
        "format": asked.FORMAT,
        "command": command,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "model": name,
        "dataset": given.dataset,
        "settings": given.settings,
        "space": {key: domain.plain() for key, domain in space.items()},
        "search": how.search,
        "samples": None if how.search == "grid" else how.trials,
        "scheduler": how.scheduler,
        "grace": grace_epochs(how, base) if how.scheduler == "asha" else None,
        "reduction": how.reduction if how.scheduler == "asha" else None,
        "seed": search_seed(how, base),
        "epochs": base["epochs"],
        "valid_metric": base["valid_metric"],
        "data": data.digest(),
    }


def _job(
    given: BaseSettings, base: Config, data: SharedDataset, space: Space, folder: Path, how: Options
) -> Job:
    return Job(
        given, data, space, str(folder / "trials"), max(1, int(how.cpus_per_trial)), _gpus(how, base) > 0
    )


def _gpus(how: Options, base: Config) -> float:
    """Return the GPUs per trial: as asked, or a quarter where Ray has any."""
    import ray

    if how.gpus_per_trial is not None:
        return how.gpus_per_trial
    return 0.25 if base["use_gpu"] and ray.cluster_resources().get("GPU", 0) > 0 else 0


def trial_name(trial: Any) -> str:
    """Return the folder of a trial among Ray's own files."""
    return trial.trial_id


def _run(job: Job, base: Config, how: Options, folder: Path, resumed: bool) -> list[Record]:
    """Let Ray run the trials; return the records of all of them."""
    from ray import tune as ray_tune
    from ray.tune import FailureConfig, RunConfig, TuneConfig, Tuner

    from recbole_ib.tuning.progress import Progress

    resources = {"cpu": how.cpus_per_trial, "gpu": _gpus(how, base)}
    check_resources(resources["cpu"], resources["gpu"], "trial")
    trainable = ray_tune.with_resources(ray_tune.with_parameters(run_in_worker, job=job), resources)
    bigger, state = bool(base["valid_metric_bigger"]), folder / "ray"
    if resumed and Tuner.can_restore(str(state)):
        print(f"going on with the search in {folder}", flush=True)
        tuner = Tuner.restore(str(state), trainable=trainable, resume_unfinished=True)
    else:
        if resumed:
            print(
                f"the search in {folder} was ended before it had noted anything to go on with: it starts "
                "over",
                flush=True,
            )
            asked.clear(folder, ("ray", "trials"))
        total = total_trials(job.space, how)
        progress = Progress(job.folder, total, bigger, f"valid {base['valid_metric']}", how.keep_checkpoints)
        tuner = Tuner(
            trainable,
            param_space={key: domain.for_ray(how.search == "grid") for key, domain in job.space.items()},
            tune_config=TuneConfig(
                metric="best_score",
                mode="max" if bigger else "min",
                search_alg=searcher(job.space, how, base),
                scheduler=scheduler(how, base),
                num_samples=how.trials,
                trial_dirname_creator=trial_name,
            ),
            run_config=RunConfig(
                name="ray",
                storage_path=str(folder),
                failure_config=FailureConfig(max_failures=RESTARTS),
                callbacks=[progress],
                verbose=0,
            ),
        )
    with warnings.catch_warnings():
        # optuna hears the epochs of a trial that was started again a second time
        warnings.filterwarnings("ignore", message="The reported value is ignored")
        results = tuner.fit()
    return [_record(job, results[i]) for i in range(len(results))]


def _record(job: Job, result: Any) -> Record:
    """Return the record of one of Ray's results; what a killed worker could not note is added."""
    trial_id = Path(result.path).name
    folder = Path(job.folder) / trial_id
    record = read_record(folder)
    if record is None:
        record = Record(trial_id, decode(job.space, result.config or {}))
    if record.status == "running":
        record.status = "failed" if result.error is not None else "stopped"
        record.error = (
            "" if result.error is None else f"its worker ended: {str(result.error).strip().splitlines()[-1]}"
        )
        write_record(record, folder)
    return record

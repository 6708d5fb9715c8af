"""Searcher, scheduler, resources and Ray's own settings of a search."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from recbole.config import Config

from recbole_ib.errors import ConfigurationError
from recbole_ib.tuning.options import Options
from recbole_ib.tuning.space import Space, default_point

#: Ray's own settings while it searches: a killed command loses at most two seconds of bookkeeping, and Ray
#: prints and logs little
RAY_ENVIRONMENT = {
    "TUNE_GLOBAL_CHECKPOINT_S": "2",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Ray's own handler would return from an interrupted search as from a finished one
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}
DEFAULT_GRACE = 10


def total_trials(space: Space, how: Options) -> int:
    """Return the number of trials of a search."""
    count = how.trials
    for domain in space.values() if how.search == "grid" else ():
        count *= len(domain.values())
    return count


def searcher(space: Space, how: Options, base: Config) -> Any:
    """Return Ray's search algorithm."""
    from ray.tune.search.basic_variant import BasicVariantGenerator

    seed = search_seed(how, base)
    if how.search == "grid":
        return BasicVariantGenerator(random_state=seed)
    point, outside = default_point(space, base)
    if outside:
        listed = ", ".join(f"{key} = {base[key]!r}" for key in outside)
        print(f"the defaults are not tried first: the space leaves out {listed}", flush=True)
    points = None if outside else [point]
    import optuna

    from recbole_ib.tuning.distinct_search import DistinctSearch  # noqa: PLC0415  (it imports ray and optuna)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.RandomSampler(seed=seed) if how.search == "random" else None
    return DistinctSearch(space, sampler, points, seed)


def scheduler(how: Options, base: Config) -> Any:
    """Return Ray's scheduler."""
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

    if how.scheduler == "none":
        return FIFOScheduler()
    # a trial that reaches its last epoch ends by itself, and notes it
    grace = grace_epochs(how, base)
    return ASHAScheduler(
        time_attr="epoch",
        max_t=base["epochs"],
        grace_period=grace,
        reduction_factor=how.reduction,
        stop_last_trials=False,
    )


def search_seed(how: Options, base: Config) -> int:
    """Return the seed of the searcher: the search's own, or that of the runs."""
    return int(base["seed"] if how.seed is None else how.seed)


def grace_epochs(how: Options, base: Config) -> int:
    """Return the epochs that every trial trains before it may be stopped.

    Raises:
        ConfigurationError: more than a trial trains.
    """
    if how.grace is not None and how.grace > base["epochs"]:
        raise ConfigurationError(
            f"grace is {how.grace} epochs, and a trial trains at most {base['epochs']} (epochs)"
        )
    return min(DEFAULT_GRACE, base["epochs"]) if how.grace is None else how.grace


@contextmanager
def ray_environment() -> Iterator[None]:
    """Set Ray's own settings for the time of a search."""
    values = RAY_ENVIRONMENT
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value

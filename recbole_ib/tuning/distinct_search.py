"""Optuna's search through Ray that draws no settings twice while others are left."""

from __future__ import annotations

import json
from itertools import islice, product
from random import Random
from typing import Any

from optuna.samplers import BaseSampler  # noqa: TID253  (this module is imported when a search starts)
from optuna.trial import TrialState  # noqa: TID253  (as above)
from ray.tune.search.optuna import OptunaSearch  # noqa: TID253  (as above)

from recbole_ib.tuning.space import DISCRETE, Space

#: draws that are thrown away before one of the combinations that are left is taken by chance
TRIES = 20
#: combinations of a discrete space that are looked through for one that is left
MOST_LISTED = 1_000_000


class DistinctSearch(OptunaSearch):
    """Ray's ``OptunaSearch``, whose sampler knows nothing of the trials that are still running.

    So it draws what another trial has, or had: a trial for nothing.

    Args:
        space: of the search.
        sampler: optuna's; default: its TPE.
        points: settings that are tried first.
        seed: of the sampler.
    """

    def __init__(self, space: Space, sampler: BaseSampler | None, points: list[dict] | None, seed: int):
        super().__init__(points_to_evaluate=points, sampler=sampler, seed=None if sampler else seed)
        discrete = all(domain.kind in DISCRETE for domain in space.values())
        self._values = (
            {key: [domain.encode(v) for v in domain.values()] for key, domain in space.items()}
            if discrete
            else None
        )
        self._drawn: set[str] = set()
        self._chance = Random(seed)  # noqa: S311  (a draw of settings)

    def suggest(self, trial_id: str) -> dict | None:
        """Return the settings of a trial: others than those of every trial before, while there are any."""
        for attempt in range(TRIES + 1):
            settings = super().suggest(trial_id)
            text = json.dumps(settings, sort_keys=True, default=str)
            left = self._left()
            if text not in self._drawn or left == 0:
                self._drawn.add(text)
                return settings
            # the same trial asks again, and optuna counts this answer as one that nobody trained
            study: Any = self._ot_study
            study.tell(self._ot_trials.pop(trial_id), state=TrialState.PRUNED)
            if left is not None and attempt + 1 >= TRIES:
                study.enqueue_trial(self._untried())
        self._drawn.add(text)
        return settings

    def _left(self) -> int | None:
        """Return how many settings of a discrete space are left."""
        if self._values is None:
            return None
        total = 1
        for values in self._values.values():
            total *= len(values)
        return max(0, total - len(self._drawn))

    def _untried(self) -> dict[str, Any]:
        values = self._values or {}
        shuffled = {key: self._chance.sample(options, len(options)) for key, options in values.items()}
        for combination in islice(product(*shuffled.values()), MOST_LISTED):
            settings = dict(zip(shuffled, combination, strict=True))
            if json.dumps(settings, sort_keys=True, default=str) not in self._drawn:
                return settings
        return dict(zip(shuffled, combination, strict=True))

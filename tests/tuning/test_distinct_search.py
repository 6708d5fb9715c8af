"""A search draws no settings twice while others are left."""

import pytest
from optuna.samplers import RandomSampler

from recbole_ib.tuning.distinct_search import DistinctSearch
from recbole_ib.tuning.space import parse_space

SPACE = {"learning_rate": {"choice": [0.001, 0.01, 0.1]}, "n_layers": {"int": [1, 2]}}


def drawn(space, trials, sampler=None, points=None, seed=0):
    space = parse_space(space, "test")
    search = DistinctSearch(space, sampler, points, seed)
    search.set_search_properties("score", "max", {key: domain.for_ray() for key, domain in space.items()})
    return [tuple(sorted(search.suggest(str(trial)).items())) for trial in range(trials)]


@pytest.mark.parametrize("sampler", [None, RandomSampler(seed=1)])
@pytest.mark.parametrize("seed", range(3))
def test_every_setting_comes_once_before_one_comes_twice(sampler, seed):
    found = drawn(SPACE, 8, sampler, seed=seed)
    assert len(set(found[:6])) == 6
    assert set(found[6:]) <= set(found[:6])


def test_given_points_come_first():
    point = {"learning_rate": 0.1, "n_layers": 2}
    assert dict(drawn(SPACE, 6, points=[point])[0]) == point


def test_a_continuous_space_is_drawn_from_as_ever():
    assert len(set(drawn({"learning_rate": {"loguniform": [0.001, 0.1]}}, 5))) == 5

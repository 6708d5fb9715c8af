"""Shared by the tests of tuning: a small planted data set and settings that train on it in a second."""

from __future__ import annotations

import pytest

from recbole_ib.tuning.shared_dataset import prepare, read_base_settings
from recbole_ib.tuning.space import parse_space
from recbole_ib.tuning.trial import Job
from tests.support.tuning import SMALL, SPACE


@pytest.fixture
def settings(planted_path) -> dict:
    return {**SMALL, "data_path": str(planted_path)}


@pytest.fixture
def make_job(settings, tmp_path):
    """``make_job(model, space, **settings) -> (job, base config)``."""

    def make(model="VLATTICE", space=SPACE, **more):
        given = read_base_settings(model, "planted", config_dict={**settings, **more})
        base = given.config()
        job = Job(given, prepare(base), parse_space(space, "test"), str(tmp_path / "trials"), threads=1, gpu=False)
        return job, base

    return make

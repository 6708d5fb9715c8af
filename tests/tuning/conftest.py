"""Shared by the tests of tuning: a small planted data set and settings that train on it in a second."""

from __future__ import annotations

import pytest

from recbole_ib.tuning.shared_dataset import prepare, read_base_settings
from recbole_ib.tuning.space import parse_space
from recbole_ib.tuning.trial import Job

#: settings of every trial
SMALL = {"epochs": 3, "train_batch_size": 256, "use_gpu": False, "show_progress": False, "state": "ERROR", "seed": 7, "knn_k": 5}
SPACE = {"learning_rate": {"choice": [0.001, 0.01]}, "reg_weight": {"loguniform": [1e-5, 1e-2]}}


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

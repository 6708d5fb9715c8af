"""Shared by all tests: a working directory of its own, one torch thread, and small planted data sets."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import recbole_ib  # noqa: F401  (patches and registers before any test imports RecBole)
from tests.support.datasets import planted, write_dataset
from tests.support.processes import end_prepared


def pytest_unconfigure():
    end_prepared()


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """RecBole writes log/, saved/ and log_tensorboard/ into the working directory, and takes settings from the command line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    torch.set_num_threads(1)
    # RecBole's SINE switches this on for the whole process when it is imported: every backward pass would be checked
    torch.autograd.set_detect_anomaly(False)


@pytest.fixture(scope="session")
def planted_path(tmp_path_factory) -> Path:
    """A data path with the planted set ``planted``."""
    pairs, modalities, _, _ = planted()
    return write_dataset(tmp_path_factory.mktemp("planted"), "planted", pairs, modalities)


@pytest.fixture
def build(planted_path):
    """``build(model, **settings) -> (config, model, train, valid, test)`` on the planted data."""
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, init_seed

    from recbole_ib.config.config import Config

    def make(name: str, **settings):
        base = {
            "data_path": str(planted_path),
            "show_progress": False,
            "train_batch_size": 256,
            "knn_k": 5,
            "seed": 1,
            "use_gpu": False,
        }
        config = Config(name, settings.pop("dataset", "planted"), config_dict={**base, **settings})
        init_seed(config["seed"], True)
        train, valid, test = data_preparation(config, create_dataset(config))
        init_seed(config["seed"], True)
        return config, get_model(config["model"])(config, train._dataset), train, valid, test

    return make


@pytest.fixture
def small_pictures(monkeypatch):
    """Every chart of a report or a file is drawn into few pixels; for tests that look at other things."""
    figure = pytest.importorskip("matplotlib.figure")
    from recbole_ib.experiments.report import html
    from tests.support import pictures

    monkeypatch.setattr(html, "png_bytes", pictures.small_png)
    monkeypatch.setattr(figure.Figure, "savefig", pictures.save_small)

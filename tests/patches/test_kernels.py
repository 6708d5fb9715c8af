"""RecBole's own models by our kernels give RecBole's numbers, up to float32 rounding."""

import numpy as np
import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

from recbole_ib import run_recbole_ib
from recbole_ib.config.config import Config
from recbole_ib.patches.kernels import install_fast_kernels
from recbole_ib.training import run

SETTINGS = {"use_gpu": False, "show_progress": False, "seed": 3, "train_batch_size": 256, "learning_rate": 0.01, "state": "ERROR"}


@pytest.fixture
def prepared(planted_path):
    def make(name, **settings):
        config = Config(name, "planted", config_dict={**SETTINGS, "data_path": str(planted_path), **settings})
        init_seed(3, True)
        train, valid, _ = data_preparation(config, create_dataset(config))
        init_seed(3, True)
        model = get_model(name)(config, train._dataset)
        return config, model, get_trainer(config["MODEL_TYPE"], name)(config, model), train, valid

    return make


@pytest.mark.parametrize("layers", [1, 3])
def test_lightgcn_propagates_and_differentiates_as_recboles(prepared, layers):
    _, model, trainer, train, _ = prepared("LightGCN", n_layers=layers)
    batch = next(iter(train))
    found = []
    for _ in range(2):
        model.zero_grad()
        user, item = model()
        model.calculate_loss(batch).backward()
        found.append((user.detach(), item.detach(), *(p.grad.clone() for p in model.parameters())))
        install_fast_kernels(model, trainer)
    for plain, ours in zip(*found, strict=True):
        torch.testing.assert_close(plain, ours)
    assert "forward" in vars(model)


@pytest.mark.parametrize("learner", ["adam", "adamw", "sgd"])
def test_the_fused_optimizer_takes_the_same_steps(prepared, learner):
    weights = []
    for fast in (False, True):
        _, model, trainer, train, _ = prepared("BPR", learner=learner, weight_decay=0.01)
        if fast:
            install_fast_kernels(model, trainer)
            assert trainer.optimizer.defaults["fused"]
        for epoch in range(2):
            trainer._train_epoch(train, epoch)
        weights.append([p.detach().clone() for p in model.parameters()])
    for plain, ours in zip(*weights, strict=True):
        torch.testing.assert_close(plain, ours, rtol=1e-3, atol=1e-5)


def test_an_optimizer_without_a_fused_step_is_left_alone(prepared):
    _, model, trainer, _, _ = prepared("BPR", learner="adagrad")
    before = trainer.optimizer
    install_fast_kernels(model, trainer)
    assert trainer.optimizer is before


@pytest.mark.parametrize("name", ["BPR", "LightGCN"])
def test_a_run_gives_the_numbers_of_plain_kernels(name, planted_path, monkeypatch):
    settings = {**SETTINGS, "data_path": str(planted_path), "epochs": 5}
    used = []
    monkeypatch.setattr(run, "install_fast_kernels", lambda *args: used.append(1) or install_fast_kernels(*args))
    fast = run_recbole_ib(name, "planted", config_dict=settings)
    monkeypatch.setattr(run, "install_fast_kernels", lambda *args: None)
    plain = run_recbole_ib(name, "planted", config_dict=settings)
    assert used == [1]
    for metric, value in plain["test_result"].items():
        assert np.isclose(fast["test_result"][metric], value, atol=2e-3), metric


@pytest.mark.parametrize(("name", "settings"), [("BPR", {"defaults": "recbole"}), ("VBPR", {})])
def test_recboles_own_way_and_our_models_are_left_alone(name, settings, planted_path, monkeypatch):
    monkeypatch.setattr(run, "install_fast_kernels", lambda *args: pytest.fail("replaced"))
    shared = {**SETTINGS, "data_path": str(planted_path), "epochs": 1, "train_batch_size": 2048}
    run_recbole_ib(name, "planted", config_dict={**shared, **settings})

"""Shared by all tests: a working directory of its own, one torch thread, and small planted data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import recbole_ib  # noqa: F401  (patches and registers before any test imports RecBole)

#: the start of a script that loads compat alone (as ``module``), under a package that is empty otherwise; format it with the
#: folder of the package
COMPAT_ALONE = """
import importlib.util, json, sys, types
package = types.ModuleType("recbole_ib")
package.__path__ = [{package!r}]
sys.modules["recbole_ib"] = package
for name in ("errors", "patches.compat"):
    spec = importlib.util.spec_from_file_location("recbole_ib." + name, {package!r} + "/" + name.replace(".", "/") + ".py")
    module = sys.modules["recbole_ib." + name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """RecBole writes log/, saved/ and log_tensorboard/ into the working directory."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    # RecBole's SINE switches this on for the whole process when it is imported: every backward pass would be checked
    torch.autograd.set_detect_anomaly(False)


def write_dataset(folder: Path, name: str, pairs, modalities: dict[str, np.ndarray], **settings) -> Path:
    """Atomic files and features; items are the tokens ``i<number>``, users ``u<number>``. Returns the data path."""
    here = folder / name
    here.mkdir(parents=True)
    lines = ["user_id:token\titem_id:token", *(f"u{u}\ti{i}" for u, i in pairs)]
    (here / f"{name}.inter").write_text("\n".join(lines) + "\n")
    entries = {}
    for modality, values in modalities.items():
        np.save(here / f"{modality}.npy", values.astype(np.float32))
        (here / f"{modality}.tokens").write_text("".join(f"i{i}\n" for i in range(values.shape[0])))
        entries[modality] = {"file": f"{modality}.npy", "tokens": f"{modality}.tokens"}
    config = {"load_col": {"inter": ["user_id", "item_id"]}, "modalities": entries, **settings}
    (here / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return folder


def planted(n_users=80, n_items=60, groups=4, seed=0):
    """Users of a group take half of the group's items: ``text`` tells the group, ``visual`` is noise.

    Returns (pairs, modalities, group of every item, group of every user).
    """
    rng = np.random.default_rng(seed)
    item_group, user_group = np.arange(n_items) % groups, np.arange(n_users) % groups
    same = user_group[:, None] == item_group[None, :]
    taken = rng.random((n_users, n_items)) < np.where(same, 0.6, 0.01)
    text = np.eye(groups)[item_group] + 0.1 * rng.standard_normal((n_items, groups))
    visual = rng.standard_normal((n_items, 6))
    return list(zip(*np.nonzero(taken), strict=True)), {"text": text, "visual": visual}, item_group, user_group


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

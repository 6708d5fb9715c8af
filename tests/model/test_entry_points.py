"""RecBole's entry points run our models and a user's, in fresh processes."""

import json
import sys

import pytest
import torch
from recbole.quick_start import run_recboles
from recbole.utils import get_model

from recbole_ib.errors import ConfigurationError
from recbole_ib.model import registry
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.registry import CATALOG
from tests.support.processes import environment, fresh_python


def run_script(code, folder, as_file=False, cold=False):
    """Run code in a fresh interpreter inside ``folder``; the object that it writes to ``out.json``."""
    (folder / "script.py").write_text(code)
    words = [folder / "script.py"] if as_file else ["-c", code]
    done = fresh_python(*words, cwd=folder, env=environment(PYTHONWARNINGS="ignore"), cold=cold)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "out.json").read_text())


# -- RecBole's entry points in a fresh process ------------------------------------------------------------------------


ENTRY_POINTS = """
import json
import recbole_ib
from recbole.quick_start import objective_function, run, run_recbole

settings = {"epochs": 1, "show_progress": False, "state": "ERROR", "use_gpu": False, "train_batch_size": 16384, "gpu_id": "",
            "user_inter_num_interval": "[100,inf)"}
out = {}
out["run_recbole"] = run_recbole(model="IBMRec", dataset="ml-100k", config_dict=dict(settings), saved=False)
out["run"] = run("VBPR", "ml-100k", config_dict=dict(settings), saved=False)
out["objective_function"] = objective_function({**settings, "model": "VBPR", "dataset": "ml-100k"}, saved=False)
json.dump(out, open("out.json", "w"), default=float)
"""

TRAIN = """
import json
import torch
import recbole_ib
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

out = {}
for name in ("VBPR", "IBMRec"):
    settings = {"epochs": 2, "show_progress": False, "state": "ERROR", "use_gpu": False, "train_batch_size": 8192, "seed": 7,
                "gpu_id": "", "user_inter_num_interval": "[100,inf)"}
    config = Config(name, "ml-100k", config_dict=settings)
    init_seed(config["seed"], True)
    train, valid, test = data_preparation(config, create_dataset(config))
    model = get_model(name)(config, train._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
    trainer.fit(train, valid, saved=True, show_progress=False)
    result = trainer.evaluate(test, load_best_model=True, show_progress=False)
    model.eval()
    users = torch.arange(1, 50)
    torch.save(model.full_sort_predict({model.USER_ID: users}), f"{name}.scores")
    out[name] = {"file": trainer.saved_model_file, "result": dict(result), "n_items": model.n_items}
json.dump(out, open("out.json", "w"), default=float)
"""

LOAD = """
import json
import torch
import recbole_ib
from recbole.quick_start import load_data_and_model
from recbole.utils import get_trainer

out = {}
for name, trained in json.load(open("trained.json")).items():
    config, model, dataset, train, valid, test = load_data_and_model(trained["file"])
    model.eval()
    scores = model.full_sort_predict({model.USER_ID: torch.arange(1, 50)})
    result = get_trainer(config["MODEL_TYPE"], name)(config, model).evaluate(test, load_best_model=False, show_progress=False)
    out[name] = {"class": type(model).__module__ + "." + type(model).__name__, "config": type(config).__name__,
                 "equal": torch.equal(scores, torch.load(f"{name}.scores")), "result": dict(result), "seed": config["seed"],
                 "dataset": type(dataset).__name__, "modalities": list(train.dataset.modalities), "n_items": model.n_items}
json.dump(out, open("out.json", "w"), default=float)
"""


@pytest.fixture(scope="module")
def entry_points(tmp_path_factory):
    return run_script(ENTRY_POINTS, tmp_path_factory.mktemp("entry_points"))


@pytest.fixture(scope="module")
def trained_and_loaded(tmp_path_factory):
    """What one process trained and what another one loaded."""
    folder = tmp_path_factory.mktemp("trained")
    trained = run_script(TRAIN, folder)
    (folder / "trained.json").write_text(json.dumps(trained))
    return trained, run_script(LOAD, folder, cold=True)


@pytest.mark.parametrize("entry", ["run_recbole", "run", "objective_function"])
def test_entry_points_of_recbole_run_our_models(entry, entry_points):
    result = entry_points[entry]
    metrics = {f"{metric}@{k}" for metric in ("recall", "precision", "ndcg") for k in (10, 20)}
    assert set(result["test_result"]) == metrics
    assert set(result["best_valid_result"]) == metrics
    assert result["best_valid_score"] == result["best_valid_result"]["recall@20"]
    assert all(0 < value < 1 for value in result["test_result"].values())


def test_objective_function_and_run_give_the_same_numbers(entry_points):
    # run counts FLOPs on a copy of the model first, which draws no random number
    assert entry_points["objective_function"]["test_result"] == entry_points["run"]["test_result"]


@pytest.mark.parametrize("name", ["VBPR", "IBMRec"])
def test_load_data_and_model_of_recbole_gives_the_trained_model(name, trained_and_loaded):
    trained, loaded = (part[name] for part in trained_and_loaded)
    assert loaded["class"] == f"recbole_ib.model.{CATALOG[name].module}.{name}"
    assert (loaded["config"], loaded["dataset"], loaded["seed"]) == ("Config", "MultimodalDataset", 7)
    assert loaded["modalities"] == ["text", "visual"]
    assert loaded["n_items"] == trained["n_items"]
    assert loaded["equal"]
    assert loaded["result"] == trained["result"]


class ReachedProcessGroup(Exception):
    """Raised in place of joining the process group."""


def test_run_recboles_knows_our_models_up_to_the_process_group(monkeypatch):
    """``run_recboles`` is what RecBole's ``run(nproc=2)`` starts in every process; it hard-codes NCCL and cuda devices.

    It cannot train on a CPU, so only this much is tested: the name is resolved, with our yaml, before the group is joined. That
    our trainer refuses more than one process is left to the trainer's tests.
    """
    seen = {}

    def join(**group):
        seen.update(group)
        raise ReachedProcessGroup

    monkeypatch.setattr(torch.distributed, "init_process_group", join)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    group = {"world_size": 2, "nproc": 2, "offset": 0, "ip": "localhost", "port": "5678", "gpu_id": "0,1"}
    with pytest.raises(ReachedProcessGroup):
        run_recboles(1, "IBMRec", "ml-100k", None, {"config_dict": group})
    assert (seen["backend"], seen["rank"], seen["world_size"]) == ("nccl", 1, 2)


# -- a user's model in a fresh process --------------------------------------------------------------------------------


USER_MODEL = """
import json
from recbole.quick_start import run_recbole
from recbole.utils import get_model
from recbole_ib import register_model, run_recbole_ib
from recbole_ib.model.backbones.vbpr import VBPR


{decorator}
class UsersOwn(VBPR):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.scale = config["users_scale"]


if __name__ == "__main__":
    settings = {{"epochs": 1, "show_progress": False, "state": "ERROR", "use_gpu": False, "gpu_id": "", "users_scale": 2,
                 "train_batch_size": 16384, "user_inter_num_interval": "[100,inf)"}}
    result = {call}
    out = {{"test_result": result["test_result"], "same": get_model("UsersOwn") is UsersOwn}}
    json.dump(out, open("out.json", "w"), default=float)
"""


@pytest.mark.parametrize(
    ("decorator", "call"),
    [
        ("", 'run_recbole_ib(model=UsersOwn, dataset="ml-100k", config_dict=settings)'),
        ("@register_model", 'run_recbole(model="UsersOwn", dataset="ml-100k", config_dict=settings)'),
    ],
    ids=["class to run_recbole_ib", "registered name to run_recbole"],
)
def test_a_model_of_the_users_script_runs(decorator, call, tmp_path):
    out = run_script(USER_MODEL.format(decorator=decorator, call=call), tmp_path, as_file=True)
    assert out["same"]
    assert 0 < out["test_result"]["recall@20"] < 1


def test_a_class_that_bears_the_name_of_a_recbole_model_is_not_swapped_for_it(tmp_path):
    """``class LightGCN(RecBole's LightGCN)``: refused by name, never trained as RecBole's own."""

    class LightGCN(MultimodalRecommender):
        pass

    with pytest.raises(ConfigurationError, match="'LightGCN' is taken"):
        registry.ensure_known(LightGCN)
    registry.ensure_known(get_model("LightGCN"))

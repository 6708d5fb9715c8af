"""RecBole's own models give, under ``run_recbole_ib``, exactly the numbers of plain RecBole."""

import json
from pathlib import Path

import pytest

from tests.support.processes import COMPAT_ALONE, environment, fresh_python

ROOT = Path(__file__).resolve().parents[2]
#: a fifth of the users, for the models that every run of the tests trains
FEW = {"user_inter_num_interval": "[180,inf)"}
#: model -> its settings; the models of one key run in the same pair of processes
FAST = {
    "BPR": {"epochs": 2, **FEW},
    "LightGCN": {"epochs": 1, **FEW},
    "Pop": {"epochs": 1, **FEW},
    "ItemKNN": {"epochs": 1, **FEW},
}
SLOW = {
    "SGL": {"epochs": 1},
    "NeuMF": {"epochs": 1},
    "MultiVAE": {"epochs": 2, "train_neg_sample_args": None},
}
SHARED = {"show_progress": False, "state": "ERROR", "use_gpu": False, "gpu_id": "", "seed": 11, "dataset": "ml-100k"}

#: plain RecBole: of recbole_ib, only compat is loaded
PLAIN = (
    COMPAT_ALONE
    + """
module.apply()

from recbole.quick_start import run_recbole

def run(model, settings):
    result = run_recbole(model=model, config_dict=settings)
    assert "recbole_ib.config.config" not in sys.modules
    return result
"""
)

OURS = """
import json
import recbole_ib

def run(model, settings):
    return recbole_ib.run_recbole_ib(model=model, config_dict={**settings, "defaults": "recbole"})
"""

RUN_ALL = """
out = {}
for model, settings in json.load(open("models.json")).items():
    result = run(model, settings)
    names = ("best_valid_score", "valid_score_bigger", "best_valid_result", "test_result")
    out[model] = {name: result[name] for name in names}
json.dump(out, open("out.json", "w"), default=float)
"""


def run_all(start, models, folder, cold=False):
    """Train and test all models in one fresh interpreter; model -> result."""
    folder.mkdir()
    (folder / "models.json").write_text(json.dumps({name: {**SHARED, **settings} for name, settings in models.items()}))
    env = environment(PYTHONWARNINGS="ignore")
    done = fresh_python("-c", start + RUN_ALL, cwd=folder, env=env, timeout=900, cold=cold)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "out.json").read_text())


def compare(models, folder):
    plain = run_all(PLAIN.format(package=str(ROOT / "recbole_ib")), models, folder / "plain", cold=True)
    return plain, run_all(OURS, models, folder / "ours")


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    return compare(FAST, tmp_path_factory.mktemp("fast"))


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    return compare(SLOW, tmp_path_factory.mktemp("slow"))


def check(model, results):
    plain, ours = (part[model] for part in results)
    assert list(plain["test_result"]) == ["recall@10", "mrr@10", "ndcg@10", "hit@10", "precision@10"]
    assert plain["test_result"]["recall@10"] > 0
    assert ours["best_valid_result"] == plain["best_valid_result"]
    assert ours["test_result"] == plain["test_result"]
    assert ours["best_valid_score"] == plain["best_valid_score"] == plain["best_valid_result"]["mrr@10"]
    assert ours["valid_score_bigger"] is plain["valid_score_bigger"] is True


@pytest.mark.parametrize("model", FAST)
def test_numbers_are_those_of_plain_recbole(model, fast):
    check(model, fast)


@pytest.mark.slow
@pytest.mark.parametrize("model", SLOW)
def test_numbers_of_slower_models_are_those_of_plain_recbole(model, slow):
    check(model, slow)

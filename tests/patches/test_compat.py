"""Every patch of ``compat``: RecBole fails without it and works with it."""

import json
import re
import textwrap
from pathlib import Path

import pytest

from recbole_ib.patches import compat
from tests.support.plain_recbole import PRELUDE, installed_versions, run_python, write_tiny
from tests.support.processes import COMPAT_ALONE

ROOT = Path(__file__).resolve().parents[2]
PATCHES = {patch.name: patch for patch in compat.PATCHES}
NAMES = sorted(PATCHES)

#: loads compat alone and installs every patch that is needed but one
ALL_BUT_ONE = (
    COMPAT_ALONE
    + """
module.PATCHES = tuple(patch for patch in module.PATCHES if patch.name != {without!r})
module.apply()
"""
)

#: patch -> (what RecBole does, a part of the failure without the patch)
SCENARIOS = {
    "numpy aliases": (
        """
        from recbole.config import Config
        assert Config("BPR", "tiny", config_dict=settings)["model"] == "BPR"
        """,
        r"AttributeError: .*np\.float_",
    ),
    "dok_matrix._update": (
        """
        from recbole.config import Config
        from recbole.data import create_dataset
        from recbole.model.general_recommender import LightGCN
        config = Config("LightGCN", "tiny", config_dict=settings)
        dataset = create_dataset(config)
        adjacency = LightGCN(config, dataset).norm_adj_matrix.to_dense()
        assert bool((adjacency[1] > 0).sum() == (dataset.inter_feat["user_id"] == 1).sum())
        assert bool((adjacency == adjacency.T).all())
        """,
        "AttributeError: .*_update",
    ),
    "torch.load": (
        """
        from recbole.quick_start import run_recbole
        result = run_recbole(model="BPR", dataset="tiny", config_dict=settings, saved=True)
        assert list(result["test_result"]) == ["recall@2"]
        """,
        r"UnpicklingError: Weights only load failed",
    ),
    "Collector.get_data_struct": (
        """
        from recbole.quick_start import run_recbole
        metrics = ["Recall", "ItemCoverage", "GiniIndex", "AveragePopularity", "ShannonEntropy", "TailPercentage"]
        result = run_recbole(model="BPR", dataset="tiny", config_dict={**settings, "metrics": metrics}, saved=False)
        assert 0 < result["test_result"]["itemcoverage@2"] <= 1
        """,
        "AttributeError: .*has no attribute 'cpu'",
    ),
    "tune.report": (
        """
        from ray.train._internal import session
        from recbole.quick_start import objective_function
        reported = []
        class Session:  # a Ray trial's, without the trial
            world_rank = None
            def report(self, metrics, checkpoint=None):
                reported.append(metrics)
        session._session = Session()
        result = objective_function({**settings, "model": "Pop", "dataset": "tiny"}, saved=False)
        assert reported == [{"recall@2": float(result["test_result"]["recall@2"])}]
        assert type(reported[0]["recall@2"]) is float
        session._session = None
        """,
        r"TypeError: report\(\) got an unexpected keyword argument 'recall@2'",
    ),
    "hyperopt generators": (
        """
        from recbole.trainer import HyperTuning
        tried = []
        def objective(config_dict, files):
            tried.append(config_dict["a"])
            result = {"model": "BPR", "valid_score_bigger": True, "best_valid_result": {}, "test_result": {}}
            return {**result, "best_valid_score": config_dict["a"]}
        tuning = HyperTuning(objective, params_dict={"choice": {"a": [1, 2, 3]}}, algo="exhaustive")
        tuning.run()
        assert sorted(tried) == [1, 2, 3] and tuning.best_params == {"a": 3}
        """,
        "AttributeError: .*RandomState.* has no attribute 'integers'",
    ),
    "colorama.init": (
        """
        from recbole.config import Config
        from recbole.utils import init_logger
        config = Config("BPR", "tiny", config_dict=settings)
        for _ in range(400):
            init_logger(config)
        print("still here")
        """,
        "RecursionError",
    ),
    "ensure_dir": (
        """
        import os
        from recbole.data.utils import ensure_dir
        os.mkdir("shared")
        exists, os.path.exists = os.path.exists, lambda path: False  # another run makes the folder right after the look
        try:
            ensure_dir("shared")
        finally:
            os.path.exists = exists
        """,
        "FileExistsError",
    ),
    "amp warnings": (
        """
        import warnings
        from recbole.quick_start import run_recbole
        with warnings.catch_warnings(record=True) as seen:
            run_recbole(model="BPR", dataset="tiny", config_dict=settings, saved=False)
        about_amp = [str(w.message) for w in seen if "cuda.amp" in str(w.message) or "GradScaler" in str(w.message)]
        assert not about_amp, about_amp
        """,
        r"AssertionError: .*torch\.cuda\.amp",
    ),
    "pandas warnings": (
        """
        import warnings
        from recbole.config import Config
        from recbole.data import create_dataset
        with warnings.catch_warnings(record=True) as seen:
            create_dataset(Config("BPR", "tiny", config_dict=settings))
        about_pandas = [str(w.message) for w in seen if issubclass(w.category, FutureWarning)]
        assert not about_pandas, about_pandas
        """,
        "AssertionError: .*chained assignment",
    ),
}

#: runs every scenario after ``import recbole_ib``, prints patch -> traceback or null
WITH_ALL = """
import json, sys, traceback
import recbole_ib
scenarios = json.load(open("scenarios.json"))
outcomes = {"imported at once": [name for name in ("ray", "hyperopt") if name in sys.modules]}
for name, code in scenarios.items():
    try:
        exec(compile(code, name, "exec"), {"__name__": "scenario"})
        outcomes[name] = None
    except BaseException:
        outcomes[name] = traceback.format_exc()
json.dump(outcomes, open("outcomes.json", "w"))
"""


def scenario(name):
    """The code of a scenario, ready to run."""
    return PRELUDE + textwrap.dedent(SCENARIOS[name][0])


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What each scenario does after ``import recbole_ib``: patch -> ``None`` or a traceback."""
    folder = tmp_path_factory.mktemp("with_all")
    write_tiny(folder / "data")
    (folder / "scenarios.json").write_text(json.dumps({name: scenario(name) for name in SCENARIOS}))
    done = run_python(WITH_ALL, folder)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "outcomes.json").read_text())


def test_every_patch_has_a_scenario():
    assert set(SCENARIOS) == set(PATCHES)


@pytest.mark.parametrize("name", NAMES)
def test_recbole_fails_without_the_patch(name, tmp_path):
    if name not in compat._installed:
        pytest.skip(f"{name} is not needed by {installed_versions()}")
    write_tiny(tmp_path / "data")
    code = ALL_BUT_ONE.format(package=str(ROOT / "recbole_ib"), without=name) + scenario(name)
    done = run_python(code, tmp_path)
    assert done.returncode == 1
    assert re.search(SCENARIOS[name][1], done.stderr), done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_recbole_works_with_the_patch(name, outcomes):
    assert outcomes[name] is None, outcomes[name]


# -- which patches are installed --------------------------------------------------------------------------------------


def test_importing_the_package_imports_neither_ray_nor_hyperopt(outcomes):
    assert outcomes["imported at once"] == []

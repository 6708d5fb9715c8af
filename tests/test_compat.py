"""Every patch of ``compat``: RecBole fails without it and works with it; foreign pickles are refused."""

import importlib.util
import json
import os
import pickle
import re
import sys
import textwrap
import warnings
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.evaluator.collector import Collector, DataStruct
from recbole.model.general_recommender import BPR
from recbole.quick_start import load_data_and_model
from recbole.trainer import Trainer

from recbole_ib.config.config import Config
from recbole_ib.errors import CheckpointError
from recbole_ib.patches import compat
from tests.support import processes
from tests.support.processes import COMPAT_ALONE

ROOT = Path(__file__).resolve().parents[1]
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

SETTINGS = {
    "data_path": "data",
    "epochs": 1,
    "embedding_size": 4,
    "metrics": ["Recall"],
    "topk": [2],
    "valid_metric": "Recall@2",
    "use_gpu": False,
    "gpu_id": "",
    "state": "ERROR",
    "show_progress": False,
    "eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO", "group_by": "user", "mode": "full"},
}

#: what a scenario may use
PRELUDE = f"settings = {SETTINGS!r}\n"

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


def write_tiny(folder):
    """A data set of 12 users and 10 items, in which every user has five items."""
    (folder / "tiny").mkdir(parents=True)
    rows = [f"u{u}\ti{(u * 3 + k * k) % 10}\t{k}" for u in range(12) for k in range(5)]
    rows = sorted({row.rsplit("\t", 1)[0]: row for row in rows}.values())
    text = "\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows])
    (folder / "tiny" / "tiny.inter").write_text(text + "\n")


def run_python(code, folder, **more):
    """Run code in a fresh interpreter inside ``folder``."""
    env = processes.environment(RAY_AIR_NEW_OUTPUT="0", **more)
    env.pop(compat.TRUST_VARIABLE, None)
    return processes.fresh_python("-c", code, cwd=folder, env=env)


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


def installed_versions():
    """The versions that decide which patches are needed, for the reasons of skipped tests."""
    return ", ".join(f"{name} {version(name)}" for name in ("recbole", "numpy", "scipy", "torch", "ray", "hyperopt"))


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


@pytest.mark.parametrize("needed", [True, False])
def test_apply_installs_only_what_is_needed(needed, monkeypatch):
    calls = []
    patch = compat.Patch("fake", "cause", lambda: needed, lambda: calls.append("installed"), "never")
    monkeypatch.setattr(compat, "PATCHES", (patch,))
    monkeypatch.setattr(compat, "_installed", set())
    assert compat.apply() == (["fake"] if needed else [])
    assert calls == (["installed"] if needed else [])


@pytest.mark.parametrize("name", NAMES)
def test_a_real_patch_that_is_not_needed_is_not_installed(name, monkeypatch):
    def refuse():
        raise AssertionError(f"{name} was installed")

    patch = PATCHES[name]._replace(needed=lambda: False, install=refuse)
    monkeypatch.setattr(compat, "PATCHES", (patch,))
    monkeypatch.setattr(compat, "_installed", set())
    assert compat.apply() == []


def test_apply_installs_a_patch_once(monkeypatch):
    calls = []
    patch = compat.Patch("fake", "cause", lambda: True, lambda: calls.append(1), "never")
    monkeypatch.setattr(compat, "PATCHES", (patch,))
    monkeypatch.setattr(compat, "_installed", set())
    assert [compat.apply(), compat.apply()] == [["fake"], []]
    assert calls == [1]


def test_nothing_is_left_to_apply_after_import():
    assert compat.apply() == []


def test_aliases_that_numpy_has_are_kept(monkeypatch):
    monkeypatch.setattr(np, "float_", "numpy's own", raising=False)
    monkeypatch.delattr(np, "complex_", raising=False)
    assert PATCHES["numpy aliases"].needed()
    PATCHES["numpy aliases"].install()
    assert (np.float_, np.complex_) == ("numpy's own", np.complex128)
    assert not PATCHES["numpy aliases"].needed()


def test_dok_matrix_with_its_own_update_needs_no_patch(monkeypatch):
    from scipy.sparse import dok_matrix

    monkeypatch.setattr(dok_matrix, "_update", lambda self, data: None, raising=False)
    assert not PATCHES["dok_matrix._update"].needed()


def test_dok_update_enters_the_pairs():
    from scipy.sparse import dok_matrix

    matrix = dok_matrix((2, 3), dtype=np.float32)
    matrix._update({(0, 2): 1.0, (1, 0): 2.0})
    assert matrix.toarray().tolist() == [[0, 0, 1], [2, 0, 0]]


@pytest.mark.parametrize(
    ("name", "distribution", "installed", "needed"),
    [
        ("torch.load", "torch", "2.5.1+cu121", False),
        ("torch.load", "torch", "2.6.0", True),
        ("torch.load", "torch", "2.13.0+cpu", True),
        ("amp warnings", "torch", "2.3.1", False),
        ("amp warnings", "torch", "2.4.0", True),
        ("pandas warnings", "pandas", "2.1.4", False),
        ("pandas warnings", "pandas", "2.2.0", True),
        ("tune.report", "ray", "2.6.3", False),
        ("tune.report", "ray", "2.60.0", True),
        ("tune.report", "ray", None, False),
        ("hyperopt generators", "hyperopt", "0.2.5", False),
        ("hyperopt generators", "hyperopt", "0.2.6", True),
        ("hyperopt generators", "hyperopt", "0.2.7.post1", True),
        ("hyperopt generators", "hyperopt", None, False),
    ],
)
def test_a_patch_follows_the_installed_version(name, distribution, installed, needed, monkeypatch):
    def fake(asked):
        if asked != distribution:
            return version(asked)
        if installed is None:
            raise PackageNotFoundError(asked)
        return installed

    monkeypatch.setattr("importlib.metadata.version", fake)
    assert PATCHES[name].needed() is needed


def test_importing_the_package_imports_neither_ray_nor_hyperopt(outcomes):
    assert outcomes["imported at once"] == []


@pytest.fixture
def late_module(tmp_path, monkeypatch):
    """The name of a module that nobody has imported yet."""
    (tmp_path / "compat_test_late.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    importlib.invalidate_caches()
    yield "compat_test_late"
    sys.modules.pop("compat_test_late", None)


def test_a_module_is_patched_once_it_is_imported(late_module):
    values, finders = [], list(sys.meta_path)
    compat._when_imported(late_module, lambda: values.append(sys.modules[late_module].value))
    assert values == []
    assert late_module not in sys.modules
    importlib.import_module(late_module)
    importlib.import_module(late_module)
    assert values == [1]
    assert sys.meta_path == finders
    compat._when_imported(late_module, lambda: values.append("at once"))
    assert values == [1, "at once"]


def test_looking_for_a_module_does_not_lose_its_patch(late_module):
    values = []
    compat._when_imported(late_module, lambda: values.append(1))
    assert importlib.util.find_spec(late_module) is not None
    importlib.import_module(late_module)
    assert values == [1]


def test_tune_report_passes_plain_floats_in_one_dict(monkeypatch):
    from recbole.quick_start import quick_start

    if "tune.report" not in compat._installed:
        pytest.skip(f"tune.report is not patched with {installed_versions()}")
    reported = []
    monkeypatch.setattr("ray.tune.report", reported.append)
    quick_start.tune.report(**{"recall@10": np.float64(0.5)})
    assert reported == [{"recall@10": 0.5}]
    assert type(reported[0]["recall@10"]) is float


def test_only_recboles_tune_is_replaced():
    from ray import tune
    from recbole.quick_start import quick_start

    assert "recbole_ib" not in tune.report.__module__
    assert quick_start.tune.Tuner is tune.Tuner


def test_only_recboles_random_state_is_replaced():
    from recbole.trainer import hyper_tuning

    assert np.random.RandomState(1).randint(3, size=2).shape == (2,)
    assert hyper_tuning.np.random.rand is np.random.rand
    assert hyper_tuning.np.array is np.array


def test_other_warnings_are_still_shown():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        PATCHES["amp warnings"].install()
        PATCHES["pandas warnings"].install()
        warnings.warn("`torch.cuda.amp.GradScaler(args...)` is deprecated", FutureWarning, stacklevel=1)
        warnings.warn("something else is deprecated", FutureWarning, stacklevel=1)
    assert [str(w.message) for w in seen] == ["something else is deprecated"]


# -- the collector of RecBole 1.2.1 -----------------------------------------------------------------------------------


def get_data_struct_of_1_2_1(self):
    """RecBole 1.2.1's method: every entry is moved, whatever it is."""
    import copy

    for key in self.data_struct._data_dict:
        self.data_struct._data_dict[key] = self.data_struct._data_dict[key].cpu()
    returned_struct = copy.deepcopy(self.data_struct)
    for key in ["rec.topk", "rec.meanrank", "rec.score", "rec.items", "data.label"]:
        if key in self.data_struct:
            del self.data_struct[key]
    return returned_struct


def collector_with_numbers():
    collector = Collector.__new__(Collector)
    collector.data_struct = DataStruct()
    collector.data_struct.set("data.num_items", 7)
    collector.data_struct.set("data.count_items", Counter({1: 2}))
    collector.data_struct.set("rec.topk", torch.ones(2, 3))
    collector.data_struct.set("kept", torch.zeros(1))
    return collector


def test_collector_is_patched_for_recbole_1_2_1_alone(monkeypatch):
    assert ("Collector.get_data_struct" in compat._installed) is (version("recbole") == "1.2.1")
    monkeypatch.setattr(Collector, "get_data_struct", get_data_struct_of_1_2_1)
    assert PATCHES["Collector.get_data_struct"].needed()


def test_collector_of_1_2_1_crashes_on_numbers(monkeypatch):
    monkeypatch.setattr(Collector, "get_data_struct", get_data_struct_of_1_2_1)
    with pytest.raises(AttributeError, match="cpu"):
        collector_with_numbers().get_data_struct()


def test_fixed_collector_returns_numbers_and_tensors(monkeypatch):
    monkeypatch.setattr(Collector, "get_data_struct", get_data_struct_of_1_2_1)
    compat._fix_collector()
    collector = collector_with_numbers()
    returned = collector.get_data_struct()
    assert returned.get("data.num_items") == 7
    assert returned.get("data.count_items") == Counter({1: 2})
    assert torch.equal(returned.get("rec.topk"), torch.ones(2, 3))
    assert torch.equal(returned.get("kept"), torch.zeros(1))
    # what belongs to one evaluation is dropped, the rest stays for the next
    assert set(collector.data_struct._data_dict) == {"data.num_items", "data.count_items", "kept"}
    assert collector.get_data_struct().get("data.num_items") == 7


# -- torch.load -------------------------------------------------------------------------------------------------------

TRAIN_AND_SAVE = """
import recbole_ib
from recbole.quick_start import run_recbole
run_recbole(model="BPR", dataset="tiny", config_dict={**settings, "checkpoint_dir": "foreign"})
"""


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A folder with the data set ``tiny`` and a checkpoint of RecBole's that another process wrote."""
    folder = tmp_path_factory.mktemp("foreign")
    write_tiny(folder / "data")
    done = run_python(PRELUDE + TRAIN_AND_SAVE, folder)
    assert done.returncode == 0, done.stderr
    (checkpoint,) = (folder / "foreign").glob("*.pth")
    return folder, checkpoint


@pytest.fixture
def in_folder(foreign, monkeypatch):
    """Work beside the foreign checkpoint, trusting nothing; gives its path."""
    folder, checkpoint = foreign
    monkeypatch.chdir(folder)
    monkeypatch.delenv(compat.TRUST_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    return checkpoint


def save_here(name):
    """A BPR checkpoint that RecBole's Trainer writes in this process."""
    config = Config("BPR", "tiny", config_dict={**SETTINGS, "checkpoint_dir": "here"})
    dataset = create_dataset(config)
    train_data, _, _ = data_preparation(config, dataset)
    trainer = Trainer(config, BPR(config, train_data.dataset))
    trainer._save_checkpoint(0, verbose=False, saved_model_file=name)
    return trainer


def as_recbole(expression, **names):
    """Evaluate code as a module of RecBole would."""
    return eval(expression, {"__name__": "recbole.trainer.trainer", "torch": torch, **names})


@pytest.mark.parametrize("trust", [None, "0", "yes"])
def test_pickle_of_another_process_is_refused(trust, in_folder, monkeypatch):
    if trust is not None:
        monkeypatch.setenv(compat.TRUST_VARIABLE, trust)
    with pytest.raises(CheckpointError) as caught:
        load_data_and_model(str(in_folder))
    assert str(in_folder) in str(caught.value)
    assert "RECBOLE_IB_TRUST_CHECKPOINTS=1" in str(caught.value)


def test_pickle_of_another_process_is_not_resumed_by_recboles_trainer(in_folder):
    trainer = save_here("resume.pth")
    with pytest.raises(CheckpointError, match=re.escape(in_folder.name)):
        trainer.resume_checkpoint(str(in_folder))


def test_pickle_of_another_process_is_loaded_with_consent(in_folder, monkeypatch):
    monkeypatch.setenv(compat.TRUST_VARIABLE, "1")
    config, model, _, _, _, test_data = load_data_and_model(str(in_folder))
    assert (config["model"], type(model).__name__) == ("BPR", "BPR")
    saved = torch.load(in_folder, weights_only=False)["state_dict"]
    assert all(torch.equal(value, saved[key]) for key, value in model.state_dict().items())
    assert len(test_data) > 0


@pytest.mark.parametrize("name", ["own.pth", Path("own_path.pth")])
def test_pickle_of_this_process_is_loaded(name, in_folder):
    trainer = save_here(name)
    _, model, *_ = load_data_and_model(name)
    saved = trainer.model.state_dict()
    assert all(torch.equal(value, saved[key]) for key, value in model.state_dict().items())
    trainer.resume_checkpoint(Path(name).resolve())
    assert trainer.start_epoch == 1


def test_pickle_of_this_process_is_refused_after_it_was_replaced(in_folder):
    trainer = save_here("replaced.pth")
    Path("replaced.new").write_bytes(in_folder.read_bytes())
    os.replace("replaced.new", "replaced.pth")
    with pytest.raises(CheckpointError, match=re.escape("replaced.pth")):
        trainer.resume_checkpoint("replaced.pth")
    trainer._save_checkpoint(0, verbose=False, saved_model_file="replaced.pth")
    trainer.resume_checkpoint("replaced.pth")
    assert trainer.start_epoch == 1


def test_pickle_of_this_process_is_refused_after_it_was_overwritten_in_place(in_folder):
    trainer = save_here("overwritten.pth")
    with open("overwritten.pth", "r+b") as file:
        file.write(in_folder.read_bytes())
        file.truncate()
    stat = os.stat("overwritten.pth")
    os.utime("overwritten.pth", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    with pytest.raises(CheckpointError, match=re.escape("overwritten.pth")):
        trainer.resume_checkpoint("overwritten.pth")


def test_pickle_that_another_module_wrote_in_this_process_is_refused(in_folder):
    state = as_recbole("torch.load(f, weights_only=False)", f=in_folder)
    torch.save(state, "not_recboles.pth")
    with pytest.raises(CheckpointError, match=re.escape("not_recboles.pth")):
        load_data_and_model("not_recboles.pth")


class Malicious:
    """Unpickling it creates a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["zip", "pickle"])
def test_malicious_pickle_is_not_executed(form, in_folder, tmp_path):
    target = tmp_path / "executed"
    content = {"config": Malicious(target), "state_dict": {}}
    if form == "zip":
        torch.save(content, "malicious.pth")
    else:
        Path("malicious.pth").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(CheckpointError, match=re.escape("malicious.pth")):
        load_data_and_model("malicious.pth")
    assert not target.exists()
    # the file does what this test fears as soon as it is unpickled
    if form == "zip":
        torch.load("malicious.pth", weights_only=False)
    else:
        pickle.loads(Path("malicious.pth").read_bytes())
    assert target.is_dir()


def test_tensors_of_another_module_are_loaded_for_recbole(in_folder):
    torch.save({"state_dict": {"weight": torch.ones(2)}, "epoch": 3}, "plain.pth")
    loaded = as_recbole("torch.load('plain.pth', map_location='cpu')")
    assert loaded["epoch"] == 3
    assert torch.equal(loaded["state_dict"]["weight"], torch.ones(2))


@pytest.mark.parametrize("module", ["somewhere", "recbole_ib.training.checkpoint", "recbolex.trainer", "__main__"])
def test_torch_load_from_other_modules_is_untouched(module, in_folder):
    names = {"__name__": module, "torch": torch, "f": in_folder}
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        eval("torch.load(f)", dict(names))
    assert eval("torch.load(f, weights_only=False)", dict(names))["config"]["model"] == "BPR"


def test_consent_is_for_recboles_modules_alone(in_folder, monkeypatch):
    monkeypatch.setenv(compat.TRUST_VARIABLE, "1")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(in_folder)


def test_an_explicit_weights_only_of_recbole_is_respected(in_folder):
    with pytest.raises(pickle.UnpicklingError):
        as_recbole("torch.load(f, weights_only=True)", f=in_folder)
    assert as_recbole("torch.load(f, weights_only=False)", f=in_folder)["config"]["model"] == "BPR"


def test_a_missing_file_stays_a_missing_file(in_folder):
    with pytest.raises(FileNotFoundError):
        load_data_and_model("nowhere.pth")

"""Which patches of ``compat`` the installed versions need, when they are applied, and what they leave alone."""

import importlib.util
import sys
import warnings
from collections import Counter
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest
import torch
from recbole.evaluator.collector import Collector, DataStruct

from recbole_ib.patches import compat
from tests.support.plain_recbole import installed_versions

PATCHES = {patch.name: patch for patch in compat.PATCHES}
NAMES = sorted(PATCHES)


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

"""Import paths of 0.1.0 give the objects of today's paths, and say so."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path

import pytest

from recbole_ib import deprecated
from recbole_ib.cli import main as main_module
from tests.support.processes import fresh_python

ROOT = Path(__file__).resolve().parents[1]


def own_names(module) -> list[str]:
    """Public names that a module defines, not those that it imports."""
    return [name for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__]  # fmt: skip


@pytest.mark.parametrize("old", [old for old, new in deprecated.MODULES.items() if new])
def test_an_old_module_has_what_the_new_one_defines(old):
    new = importlib.import_module(f"recbole_ib.{deprecated.MODULES[old]}")
    module = importlib.import_module(f"recbole_ib.{old}")
    names = own_names(new)
    assert names
    for name in names:
        if f"{old}.{name}" in deprecated.NAMES:
            continue
        with pytest.warns(
            DeprecationWarning, match=rf"recbole_ib\.{old}\.{name} is recbole_ib\.{deprecated.MODULES[old]}\.{name} "
        ):
            assert getattr(module, name) is getattr(new, name)


@pytest.mark.parametrize(("old", "new"), deprecated.NAMES.items())
def test_a_moved_name_is_the_object_under_its_new_name(old, new):
    module, _, name = old.rpartition(".")
    folder, _, attribute = new.rpartition(".")
    expected = getattr(importlib.import_module(f"recbole_ib.{folder}"), attribute)
    with pytest.warns(DeprecationWarning, match=rf"recbole_ib\.{new} now") as caught:
        assert getattr(importlib.import_module(f"recbole_ib.{module}"), name) is expected
    assert {warning.filename for warning in caught} == {__file__}


def test_the_forms_of_import_that_users_hold():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import recbole_ib.quick_start
        from recbole_ib.checkpoint import read_checkpoint
        from recbole_ib.config import Config
        from recbole_ib.quick_start import run_recbole_ib
        from recbole_ib.recommend import load
        from recbole_ib.registry import list_models
        from recbole_ib.trainer import MultimodalTrainer
    for value, module in (
        (read_checkpoint, "training.checkpoint"), (Config, "config.config"), (run_recbole_ib, "training.run"),
        (load, "inference.recommender"), (list_models, "model.registry"), (MultimodalTrainer, "training.trainer"),
    ):  # fmt: skip
        assert value.__module__ == f"recbole_ib.{module}"
    assert {warning.filename for warning in caught} == {__file__}
    assert {warning.category for warning in caught} == {DeprecationWarning}
    with pytest.warns(DeprecationWarning, match=r"training\.run\.fit"):
        assert recbole_ib.quick_start.fit.__module__ == "recbole_ib.training.run"


def test_names_that_never_were_are_absent():
    with pytest.raises(ImportError, match="nothing_like_it"):
        from recbole_ib.quick_start import nothing_like_it
    with pytest.raises(ImportError, match="nothing_like_it"):
        from recbole_ib.config import nothing_like_it  # noqa: F401
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("recbole_ib.nothing_like_it")


def test_todays_paths_warn_of_nothing():
    script = "import warnings\nwarnings.filterwarnings('error', 'recbole_ib', DeprecationWarning)\n"
    script += "import recbole_ib, recbole_ib.cli.main, recbole_ib.cli.compare, recbole_ib.cli.tune, recbole_ib.cli.recommend\n"
    script += "from recbole_ib import load, run_recbole_ib, tune\nfrom recbole_ib.config.config import Config\n"
    script += "import sys; from recbole_ib.deprecated import MODULES\n"
    script += "print([name for name in MODULES if 'recbole_ib.' + name in sys.modules])"
    done = fresh_python("-c", script)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr[-2000:]


def test_a_command_that_was_installed_with_0_1_0_still_starts(capsys):
    with pytest.warns(DeprecationWarning, match="module now"):
        assert main_module(["--version"]) == 0
    assert capsys.readouterr().out.startswith("recbole-ib ")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main_module.main(["--version"]) == 0

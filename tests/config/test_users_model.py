"""Settings of a user's own model."""

import importlib

import pytest

from recbole_ib.config.config import Config
from recbole_ib.errors import ConfigurationError
from recbole_ib.model import registry
from recbole_ib.model.registry import register_model

OWN_MODEL = '''
from recbole_ib.model.backbones.vbpr import VBPR
from recbole_ib.model.settings import Override, Setting
from recbole_ib.utils.validate import Number


class {name}(VBPR):
    """A model with a key of its own."""

    {settings}

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.margin = config["hinge_margin"]
'''


DECLARED = (
    'settings = (Setting("hinge_margin", 0.1, "margin of the hinge", Number(above=0)), Override("reg_weight", default=0.5))'
)


def make_own_model(folder, monkeypatch, settings):
    """A registered subclass of VBPR in a module of its own."""
    name = "ConfigTestModel"
    (folder / "config_test_model.py").write_text(OWN_MODEL.format(name=name, settings=settings))
    monkeypatch.syspath_prepend(folder)
    importlib.invalidate_caches()
    return register_model(getattr(importlib.import_module("config_test_model"), name))


@pytest.fixture
def own_model(tmp_path, monkeypatch):
    """One that declares what it reads."""
    model_class = make_own_model(tmp_path, monkeypatch, DECLARED)
    yield model_class
    forget(model_class)


@pytest.fixture
def silent_model(tmp_path, monkeypatch):
    """One that declares nothing."""
    model_class = make_own_model(tmp_path, monkeypatch, "")
    yield model_class
    forget(model_class)


def forget(model_class):
    """Undo ``register_model``."""
    import sys

    name = model_class.__name__
    registry._registered.pop(name, None)
    sys.modules.pop(model_class.__module__, None)
    sys.modules.pop(f"recbole.model.general_recommender.{name.lower()}", None)
    for module, attribute in (
        ("recbole.model.general_recommender", name.lower()),
        ("recbole.data.dataset", f"{name}Dataset"),
        ("recbole.trainer", f"{name}Trainer"),
    ):
        if hasattr(sys.modules[module], attribute):
            delattr(sys.modules[module], attribute)


@pytest.mark.parametrize("by", ["class", "name"])
def test_own_model_may_read_a_key_of_its_own(by, own_model):
    config = Config(own_model if by == "class" else own_model.__name__, "ml-100k", argv=["--hinge_margin=0.2"])
    assert (config["hinge_margin"], config["model"], config.model_class) == (0.2, "ConfigTestModel", own_model)


def test_own_model_has_the_settings_of_its_base(silent_model):
    config, base = Config(silent_model, "ml-100k"), Config("VBPR", "ml-100k")
    assert {**config.final_config_dict, "model": "VBPR"} == base.final_config_dict


def test_own_model_adds_and_changes_settings(own_model):
    config, base = Config(own_model, "ml-100k"), Config("VBPR", "ml-100k")
    own = {"model": "ConfigTestModel", "hinge_margin": 0.1, "reg_weight": 0.5}
    assert config.final_config_dict == {**base.final_config_dict, **own}
    with pytest.raises(ConfigurationError, match=r"hinge_margin is -1; it takes a number above 0\. Its default is 0\.1: margin"):
        Config(own_model, "ml-100k", argv=["--hinge_margin=-1"])


def test_a_model_that_declares_nothing_may_read_any_key(silent_model):
    with pytest.warns(UserWarning, match=r"unknown setting 'hinge_margin'.*\n.*ConfigTestModel declares no settings"):
        config = Config(silent_model, "ml-100k", argv=["--hinge_margin=0.2"])
    assert config["hinge_margin"] == 0.2
    # a wrong value of a key that its base declares is wrong still
    with pytest.raises(ConfigurationError, match="reg_weight is -1; it takes a number, 0 or more"):
        Config(silent_model, "ml-100k", argv=["--reg_weight=-1"])


def test_own_models_key_is_unknown_to_other_models_and_misspelt(own_model):
    with pytest.raises(ConfigurationError, match="unknown setting 'hinge_margin'"):
        Config("VBPR", "ml-100k", argv=["--hinge_margin=0.2"])
    with pytest.raises(ConfigurationError, match=r"unknown setting 'hinge_marign'.*Did you mean hinge_margin"):
        Config(own_model, "ml-100k", argv=["--hinge_marign=0.2"])

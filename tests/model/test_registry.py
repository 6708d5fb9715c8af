"""RecBole finds the models of the catalog and of a user, and keeps its own."""

import importlib
import inspect
import sys

import pytest
import recbole.data.dataset
import recbole.model.context_aware_recommender
import recbole.model.general_recommender
import recbole.model.knowledge_aware_recommender
import recbole.model.sequential_recommender
import recbole.trainer
import torch
from recbole.model.general_recommender import BPR
from recbole.utils import get_model, get_trainer

from recbole_ib.data.dataset import MultimodalDataset
from recbole_ib.errors import ConfigurationError
from recbole_ib.model import registry
from recbole_ib.model.backbones.vbpr import VBPR
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.registry import CATALOG, check_model_name, is_multimodal, list_models, recbole_models, register_model
from recbole_ib.patches.install import register_all
from recbole_ib.training.invrl_trainer import InvRLTrainer
from recbole_ib.training.trainer import MultimodalTrainer

RECBOLE_PACKAGES = [
    recbole.model.general_recommender,
    recbole.model.context_aware_recommender,
    recbole.model.sequential_recommender,
    recbole.model.knowledge_aware_recommender,
]
RECBOLE_CLASSES = {
    name: cls
    for package in RECBOLE_PACKAGES
    for name, cls in inspect.getmembers(package, inspect.isclass)
    if cls.__module__.startswith(package.__name__)
}


# -- the catalog ----------------------------------------------------------------------------------------------------


def test_list_models():
    """Every system that the IBMRec and MRdIB papers name, beside RecBole's own BPR, LightGCN and SGL."""
    baselines = [
        "VBPR",
        "VLightGCN",
        "LATTICE",
        "VLATTICE",
        "MMGCN",
        "GRCN",
        "DualGNN",
        "SLMRec",
        "MICRO",
        "BM3",
        "FREEDOM",
        "MGCN",
        "SOIL",
    ]
    plugins = ["InvRL", "SGFD"]
    ibmrec = ["IBMRec", "IBMRecWoFIB", "IBMRecWoGIB", "IBMRecVBPR", "IBMRecVLightGCN", "IBMRecLATTICE"]
    mrdib = ["MRdIBVBPR", "MRdIBMMGCN", "MRdIBDualGNN", "MRdIBLATTICE", "MRdIBFREEDOM", "MRdIBMGCN", "MRdIBSOIL"]
    assert list_models() == [*baselines, *plugins, *ibmrec, *mrdib]


def test_list_models_is_the_callers_own():
    list_models().clear()
    assert list_models() == list(CATALOG)


@pytest.mark.parametrize("name", list_models())
def test_get_model_finds_the_class_of_our_module(name):
    ours = getattr(importlib.import_module(f"recbole_ib.model.{CATALOG[name].module}"), name)
    assert get_model(name) is ours
    assert ours.__module__ == f"recbole_ib.model.{CATALOG[name].module}"
    assert issubclass(ours, MultimodalRecommender)


@pytest.mark.parametrize("name", list_models())
def test_recbole_finds_our_trainer_and_data_set(name):
    trainer = get_trainer(get_model(name).type, name)
    assert trainer is (InvRLTrainer if name == "InvRL" else MultimodalTrainer)
    assert getattr(recbole.data.dataset, f"{name}Dataset") is MultimodalDataset


@pytest.mark.parametrize("name", list_models())
def test_a_catalog_entry_says_what_the_model_is(name):
    entry = CATALOG[name]
    assert entry.name == name
    assert all([entry.paper, entry.backbone, entry.bottlenecks])
    assert ("FIB" in entry.bottlenecks or "GIB" in entry.bottlenecks) is name.startswith("IBMRec")


def test_register_all_may_run_again():
    before = dict(registry._registered)
    register_all()
    assert registry._registered == before
    from recbole.utils.argument_list import dataset_arguments

    assert dataset_arguments.count("modalities") == 1


# -- RecBole's own models ---------------------------------------------------------------------------------------------


def test_recboles_models_are_all_seen():
    assert len(RECBOLE_CLASSES) > 70
    assert set(RECBOLE_CLASSES) - set(recbole_models()) == set()


@pytest.mark.parametrize("name", RECBOLE_CLASSES)
def test_recboles_models_are_not_shadowed(name):
    found = get_model(name)
    assert found is RECBOLE_CLASSES[name]
    assert found.__module__.split(".")[:2] == ["recbole", "model"]
    assert found.__module__.split(".")[-1] == name.lower()
    assert not is_multimodal(found)
    trainer = get_trainer(found.type, name)
    assert trainer.__module__.startswith("recbole.")


def test_the_files_names_tell_all_names_that_are_taken():
    stems = {path.stem for path in registry._recbole_sources()}
    assert {name.lower() for name in {*recbole_models(), *RECBOLE_CLASSES}} == stems - {"__init__"}


def test_no_name_of_the_catalog_is_recboles():
    lower = {name.lower() for name in recbole_models()}
    assert not lower & {name.lower() for name in list_models()}


@pytest.mark.parametrize("name", ["IBMRec", "BPR", "GRU4Rec", "Random"])
def test_known_names_are_accepted(name):
    assert check_model_name(name) is None


def test_unknown_name_is_refused():
    with pytest.raises(ConfigurationError, match="Did you mean LATTICE or VLATTICE"):
        check_model_name("LATICE")


@pytest.mark.parametrize(
    ("cls", "ours"), [(VBPR, True), (MultimodalRecommender, True), (BPR, False), (str, False), ("VBPR", False)]
)
def test_is_ours(cls, ours):
    assert is_multimodal(cls) is ours


# -- register_model ---------------------------------------------------------------------------------------------------


@pytest.fixture
def define(tmp_path, monkeypatch):
    """``define(name, base)`` -> a class of this name at the top level of a new module; forgotten after the test."""
    made, before = [], dict(registry._registered)
    aliases = {key: value for key, value in sys.modules.items() if key.startswith("recbole.model.")}

    def make(name, base="recbole_ib.model.backbones.vbpr.VBPR"):
        module = f"registry_test_{len(made)}_{name.lower()}"
        package = base.rsplit(".", 1)[0]
        (tmp_path / f"{module}.py").write_text(f"import {package}\n\n\nclass {name}({base}):\n    pass\n")
        importlib.invalidate_caches()
        made.append((name, module))
        return getattr(importlib.import_module(module), name)

    monkeypatch.syspath_prepend(tmp_path)
    yield make
    registry._registered.clear()
    registry._registered.update(before)
    for name, module in made:
        sys.modules.pop(module, None)
        alias = f"recbole.model.general_recommender.{name.lower()}"
        sys.modules.pop(alias, None)
        if hasattr(recbole.model.general_recommender, name.lower()):
            delattr(recbole.model.general_recommender, name.lower())
        if alias in aliases:
            sys.modules[alias] = aliases[alias]
            setattr(recbole.model.general_recommender, name.lower(), aliases[alias])
        if name not in before:
            for holder, attribute in ((recbole.data.dataset, f"{name}Dataset"), (recbole.trainer, f"{name}Trainer")):
                if hasattr(holder, attribute):
                    delattr(holder, attribute)


def test_a_users_model_is_found(define):
    cls = define("RegistryTestA")
    assert register_model(cls) is cls
    assert get_model("RegistryTestA") is cls
    assert get_trainer(cls.type, "RegistryTestA") is MultimodalTrainer
    assert recbole.data.dataset.RegistryTestADataset is MultimodalDataset
    assert check_model_name("RegistryTestA") is None
    assert "RegistryTestA" not in list_models()


def test_a_users_model_on_recboles_base_keeps_recboles_trainer(define):
    cls = register_model(define("RegistryTestB", "recbole.model.general_recommender.bpr.BPR"))
    assert get_model("RegistryTestB") is cls
    assert get_trainer(cls.type, "RegistryTestB") is recbole.trainer.Trainer
    assert not hasattr(recbole.data.dataset, "RegistryTestBDataset")


def test_a_model_may_be_registered_twice(define):
    cls = define("RegistryTestC")
    assert register_model(register_model(cls)) is cls
    assert get_model("RegistryTestC") is cls


def test_a_class_that_was_defined_again_replaces_the_old_one(define):
    """A notebook cell that is run again defines the class again."""
    old = register_model(define("RegistryTestD"))
    new = register_model(importlib.reload(sys.modules[old.__module__]).RegistryTestD)
    assert old is not new
    assert get_model("RegistryTestD") is new


def test_a_class_of_the_same_name_in_another_module_is_refused(define):
    first = register_model(define("RegistryTestF"))
    with pytest.raises(ConfigurationError, match="the name 'RegistryTestF' is taken"):
        register_model(define("RegistryTestF"))
    assert get_model("RegistryTestF") is first


@pytest.mark.parametrize("name", ["BPR", "LightGCN", "SASRec", "Random", "IBMRec", "VBPR"])
def test_taken_names_are_refused(name, define):
    holder = get_model(name)
    with pytest.raises(ConfigurationError, match=f"name '{name}' is taken"):
        register_model(define(name))
    assert get_model(name) is holder


@pytest.mark.parametrize(("name", "holder"), [("Bpr", "BPR"), ("Sasrec", "SASRec"), ("IBMREC", "IBMRec"), ("Vbpr", "VBPR")])
def test_a_name_that_differs_only_in_case_is_refused(name, holder, define):
    """RecBole imports a module by the model's name in lower case: two such models cannot both be found."""
    expected = get_model(holder)
    with pytest.raises(ConfigurationError, match=f"'{name}'.* is taken"):
        register_model(define(name))
    assert get_model(holder) is expected


def test_two_models_of_a_user_that_differ_only_in_case_do_not_mix(define):
    first = register_model(define("RegistryTestE"))
    with pytest.raises(ConfigurationError, match="taken"):
        register_model(define("RegistryTeste"))
    assert get_model("RegistryTestE") is first


@pytest.mark.parametrize("thing", [3, "VBPR", None, dict, torch.nn.Linear, print], ids=str)
def test_what_is_no_model_is_refused(thing):
    with pytest.raises(ConfigurationError, match="a model is a subclass of RecBole's AbstractRecommender, got"):
        register_model(thing)


def test_a_class_inside_a_function_is_refused():
    class Hidden(VBPR):
        pass

    with pytest.raises(ConfigurationError, match="Hidden must stand at the top level of its module"):
        register_model(Hidden)
    assert "Hidden" not in registry._registered

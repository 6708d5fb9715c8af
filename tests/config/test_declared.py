"""Declared settings: how declarations compose, and that models read what they declare."""

from __future__ import annotations

import pytest
from recbole.config import Config as RecBoleConfig
from recbole.utils import get_model, get_trainer

from recbole_ib.config import declared, generate
from recbole_ib.config.declared import (
    bottleneck_settings,
    general_settings,
    model_defaults,
    model_settings,
    model_space,
    run_settings,
)
from recbole_ib.config.layers import our_yaml
from recbole_ib.config.recbole_keys import recbole_keys
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.backbones.mgcn import MGCN
from recbole_ib.model.backbones.vbpr import VBPR
from recbole_ib.model.bottleneck import BOTTLENECKS
from recbole_ib.model.registry import list_models
from recbole_ib.model.settings import Dropped, Override, Search, Setting, compose, declared_by, space_of
from recbole_ib.utils.validate import (
    Integer,
    Number,
)
from tests.support.mrdib import PAPER_MRDIB
from tests.support.processes import fresh_python

MODELS = list_models()


# -- composition ------------------------------------------------------------------------------------------------------


WIDTH = Setting("width", 4, "a width", Integer(1), search=Search.choice(4, 8), symbol="$w$")


def test_a_later_declaration_lies_above_an_earlier_one():
    composed = compose(
        [("Base", (WIDTH, Setting("depth", 1, "a depth"))), ("Sub", (Override("width", default=8), Dropped("depth")))]
    )
    assert composed == {"width": WIDTH.but(default=8)}
    assert (composed["width"].search, composed["width"].symbol) == (WIDTH.search, "$w$")


def test_a_general_setting_becomes_the_models_with_a_default_of_its_own():
    general = (Setting("rate", 0.1, "a rate", Number(), general=True),)
    searched = compose([("Model", (Override("rate", search=Search.uniform(0.0, 1.0)),))], general)
    assert declared.defaults(searched) == {}
    assert space_of(searched) == {"rate": Search("uniform", (0.0, 1.0))}
    assert declared.defaults(compose([("Model", (Override("rate", default=0.2),))], general)) == {"rate": 0.2}


@pytest.mark.parametrize(
    ("declarations", "message"),
    [
        (
            (Override("widht", default=3),),
            "Sub changes the setting 'widht', which no class below it declares. Did you mean width",
        ),
        ((Dropped("height"),), "Sub changes the setting 'height'"),
        ((WIDTH, WIDTH), "Sub declares the setting width twice"),
        ((Override("width", default=0),), "outside its own bounds: width is 0; it takes a whole number, 1 or more"),
    ],
)
def test_declarations_that_do_not_fit_are_refused(declarations, message):
    with pytest.raises(ConfigurationError, match=message):
        compose([("Base", (WIDTH,)), ("Sub", declarations)])


def test_settings_that_hold_something_else():
    class Wrong:
        settings = (WIDTH, "width")

    class Other:
        settings = frozenset({"width"})

    with pytest.raises(ConfigurationError, match=r"Wrong\.settings holds Setting, Override and Dropped .*got 'width'"):
        declared_by(Wrong)
    assert declared_by(Other) == ()


def test_the_order_of_a_search():
    settings = compose([("Model", (WIDTH, Setting("a", 1, "a", search=Search.integers(1, 3)), Setting("b", 2, "b")))])
    assert list(space_of(settings)) == ["width", "a"]
    assert list(space_of(settings, order=("a", "none"))) == ["a", "width"]


def test_backbone_below_bottlenecks_below_the_named_combination():
    combined, backbone = (model_settings(get_model(name)) for name in ("MRdIBMMGCN", "MMGCN"))
    mrdib = bottleneck_settings("mrdib")
    assert list(combined) == [*backbone, *mrdib]
    changed = {key for key, setting in combined.items() if setting != {**backbone, **mrdib}[key]}
    assert changed == {"project_above"}
    assert (combined["project_above"].default, backbone["project_above"].default) == (0, 512)


def test_a_users_bottleneck_declares_its_own(monkeypatch):
    class OwnBottleneck:
        settings = (Setting("own_weight", 2.0, "of the own term", Number(least=0), search=Search.loguniform(0.1, 10.0)),)

    monkeypatch.setitem(BOTTLENECKS, "own", OwnBottleneck)
    assert bottleneck_settings("own") == {"own_weight": OwnBottleneck.settings[0]}
    assert "own_weight" in declared.declared_keys()
    composed = model_settings(VBPR, ("fib", "own"))
    assert {"fib_weight", "own_weight"} <= set(composed)
    assert list(composed).index("own_weight") > list(composed).index("fib_weight")
    # nothing of a user's is written into the package
    assert not any("own" in path for path in generate.generated_files())


def test_a_user_class_inherits_changes_and_drops():
    class OwnMGCN(MGCN):
        settings = (Override("cl_weight", default=0.5, search=None), Dropped("knn_k"))

    own, base = model_settings(OwnMGCN), model_settings(MGCN)
    assert list(own) == [key for key in base if key != "knn_k"]
    assert set(model_space(OwnMGCN)) == set(model_space(MGCN)) - {"knn_k", "cl_weight"}
    assert declared.undeclared_classes(OwnMGCN) == []


def test_the_class_of_the_page_works(tmp_path):
    """docs/settings.md: its model's settings are read, checked and searched."""
    page = (generate.ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    (tmp_path / "mine.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    (tmp_path / "run.py").write_text(
        "from mine import HingeVBPR\n"
        "from recbole_ib.config.config import Config\n"
        "from recbole_ib.tuning.space import shipped_space\n"
        "config = Config('HingeVBPR', 'ml-100k', argv=['--hinge=squared'])\n"
        "print([config[key] for key in ('hinge_margin', 'hinge', 'reg_weight', 'embedding_size')])\n"
        "print({key: domain.args for key, domain in shipped_space(config).items()})\n"
        "Config(HingeVBPR, 'ml-100k', argv=['--hinge=cubed'])\n"
    )
    run = fresh_python("run.py", cwd=tmp_path)
    values, space = run.stdout.splitlines()
    assert values == "[0.2, 'squared', 0.1, 64]"
    assert "'hinge_margin': (0.01, 1.0)" in space
    assert "'learning_rate': (0.0001, 0.001)" in space
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].endswith(
        "hinge is 'cubed'; allowed: plain, squared. Its default is 'plain': plain, or its square"
    )


# -- what models read -------------------------------------------------------------------------------------------------


#: read by the trainer, the loaders or RecBole, in every run
ELSEWHERE = {"learning_rate", "learning_rate_decay", "stopping_step", "stopping_batches", "train_neg_sample_args", "weight_decay"}
#: settings with which a branch reads more, by model
BRANCHES = {
    "VLATTICE": {"item_graph": "learned"},
    "IBMRec": {"item_graph": "learned"},
    "IBMRecWoFIB": {"item_graph": "learned"},
    "IBMRecWoGIB": {"item_graph": "learned"},
    **{name: PAPER_MRDIB for name in MODELS if name.startswith("MRdIB")},
    "InvRL": {
        "epochs": 1, "pretrain_epochs": 1, "invrl_rounds": 1, "n_environments": 2, "environment_epochs": 1, "environment_repeats": 1,
        "mask_epochs": 1,
    },
}  # fmt: skip
#: read where the labels are a field of the items, which the planted data have not; tests/model/wrappers/test_sgfd.py
UNREACHED = {"label_position"}
#: refused with feature_encoder: mlp, which mixes what mrdib draws one by one
MIXED = {"MRdIBVBPR": {"encoder_hidden_size"}}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_reads_what_it_declares_and_nothing_else(name, build, monkeypatch):
    reads = set()
    original = RecBoleConfig.__getitem__

    def record(self, key):
        reads.add(key)
        return original(self, key)

    branch = dict(BRANCHES.get(name, {}))
    if name not in MIXED and "feature_encoder" in run_settings(get_model(name), build(name)[0]):
        branch["feature_encoder"] = "mlp"
    for settings in ({}, branch) if branch else ({},):
        config, _, train, valid, _ = build(name, **settings)
        with monkeypatch.context() as patched:
            patched.setattr(RecBoleConfig, "__getitem__", record)
            model = get_model(name)(config, train._dataset)
            if name == "InvRL" and settings:
                get_trainer(config["MODEL_TYPE"], name)(config, model).fit(train, valid, saved=False, verbose=False)
    own = set(run_settings(get_model(name), config))
    assert own - reads - ELSEWHERE - UNREACHED - MIXED.get(name, set()) == set(), "declared, and not read"
    known = {*general_settings(), *our_yaml("overall"), *recbole_keys()} - declared_by_models()
    # the base takes a penalty's weight of 0 where a model has none; errors look at item_graph, and InvRL's at normalize_features
    refused = {"normalize_features"} if name == "InvRL" else set()
    assert reads - own - known <= {"reg_weight", "item_graph", *refused}, "read, and not declared"


def declared_by_models():
    """Keys of models alone, though RecBole's models have some of the same name: reg_weight, n_layers."""
    return set().union(*(model_defaults(get_model(name)) for name in MODELS)) - set(general_settings())

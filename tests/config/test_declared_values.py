"""Values of declared settings: what every kind allows, and the error that says so."""

from __future__ import annotations

import math

import pytest
from recbole.config import Config as RecBoleConfig
from recbole.utils import get_model

from recbole_ib.config import generate
from recbole_ib.config.config import Config
from recbole_ib.config.declared import (
    check_values,
    general_settings,
    model_defaults,
    model_settings,
)
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.registry import is_wrapper, list_models
from recbole_ib.utils.validate import (
    AnyOf,
    Anything,
    Bool,
    FilePath,
    Integer,
    MappingOf,
    Number,
    OneOf,
    Text,
    Unset,
    refusal,
)

MODELS = list_models()


CANDIDATES = [
    "banana",
    "",
    None,
    True,
    -1,
    0,
    1,
    1.5,
    -1e9,
    1e9,
    math.nan,
    math.inf,
    [],
    {},
    {"text": "x"},
    [1],
    (1, 2),
    object(),
    10**400,
]


def wrong_values(setting):
    return [value for value in CANDIDATES if refusal(setting.key, value, setting.kind) is not None]


def settings_with_bounds():
    """A model, a setting of its own: every declared key of every kind once."""
    seen = {}
    for name in MODELS:
        for setting in model_settings(get_model(name)).values():
            if not isinstance(setting.kind, Anything):
                seen.setdefault((setting.key, setting.kind.short), (name, setting))
    for setting in general_settings().values():
        if setting.key != "defaults" and not isinstance(setting.kind, Anything):
            seen.setdefault((setting.key, setting.kind.short), ("VBPR", setting))
    return list(seen.values())


BOUNDED = settings_with_bounds()


@pytest.mark.parametrize(("name", "setting"), BOUNDED, ids=lambda part: getattr(part, "key", part))
def test_every_wrong_value_is_refused(name, setting):
    """``banana`` or ``[]`` for a number, -1 for a width, 2 for a part of 1, None, not a number: one error that names the key."""
    wrong = wrong_values(setting)
    assert len(wrong) >= 4
    settings = {key: general.default for key, general in general_settings().items()}
    settings.update(model_defaults(get_model(name)), model=name)
    if is_wrapper(get_model(name)):
        settings = {**model_defaults(get_model(settings["backbone"])), **settings}
    check_values(get_model(name), settings)
    for value in wrong:
        with pytest.raises(ConfigurationError) as error:
            check_values(get_model(name), {**settings, setting.key: value})
        lines = str(error.value).splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith(f"{setting.key} is {value!r}; ")
        assert f" Its default is {setting.default!r}: {setting.doc}" in lines[0]


@pytest.mark.parametrize(("name", "setting"), BOUNDED, ids=lambda part: getattr(part, "key", part))
def test_a_wrong_value_is_refused_before_the_data_are_read(name, setting, tmp_path):
    """By Config itself; the data set is an empty folder, which nothing could read."""
    (tmp_path / "data" / "empty").mkdir(parents=True)
    value = next(value for value in wrong_values(setting) if not isinstance(value, str))
    with pytest.raises(ConfigurationError, match=rf"^{setting.key} is "):
        Config(name, "empty", config_dict={"data_path": "data", setting.key: value})


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (
            "IBMRec",
            {"sigma2": 0},
            "sigma2 is 0; it takes a number above 0, or median. Its default is 'median': sigma^2 of the FIB kernel",
        ),
        ("FREEDOM", {"image_weight": 1.5}, "image_weight is 1.5; it takes a number from 0 to 1. Its default is 0.1"),
        ("SGFD", {"backbone": "FREEDOM", "edge_dropout": 1}, "edge_dropout is 1; it takes a number below 1"),
        ("FREEDOM+fib", {"fib_weight": -2}, "fib_weight is -2; it takes a number, 0 or more"),
        ("VLATTICE", {"item_graph": "frosen"}, "item_graph is 'frosen'; allowed: learned, frozen. Did you mean frozen?"),
        ("VLATTICE", {"modality_weights": [1, 2]}, "modality_weights is [1, 2]; allowed: learned, equal, or a weight per"),
        ("MRdIBVBPR", {"prior_scale": "start"}, "prior_scale is 'start'; it takes a number above 0, or initial"),
        ("BPR", {"per_user": "often"}, "per_user is 'often'; allowed: True, False"),
        ("BPR", {"save_last": 3}, "save_last is 3; allowed: True, False"),
    ],
)
def test_the_error_says_what_is_allowed(model, settings, message):
    with pytest.raises(ConfigurationError) as error:
        Config(model, "ml-100k", config_dict=settings)
    assert str(error.value).startswith(message)


def test_all_wrong_values_are_in_one_error():
    with pytest.raises(ConfigurationError) as error:
        Config("IBMRec", "ml-100k", config_dict={"sigma2": -1, "gate_start": 1, "n_layers": 1.5})
    assert [line.split()[0] for line in str(error.value).splitlines()] == ["n_layers", "sigma2", "gate_start"]


def test_recboles_own_config_checks_the_values_of_our_models():
    with pytest.raises(
        ConfigurationError, match=r"^sigma2 is -1; it takes a number above 0, or median\. Its default is 'median'"
    ):
        RecBoleConfig(model="IBMRec", dataset="ml-100k", config_dict={"sigma2": -1})
    assert RecBoleConfig(model="BPR", dataset="ml-100k", config_dict={"embedding_size": -1})["embedding_size"] == -1


def test_values_within_the_bounds_are_kept_as_they_were_given():
    given = {"n_layers": 3.0, "reg_weight": 0, "normalize_features": 1, "modality_weights": {"text": 1, "visual": 0}}
    config = Config("VLATTICE", "ml-100k", config_dict=given)
    assert {key: config[key] for key in given} == given


@pytest.mark.parametrize(
    ("kind", "inside", "outside", "what"),
    [
        (Integer(), [0, 3, 2.0], [-1, 1.5, True, "3"], "it takes a whole number, 0 or more"),
        (Integer(None), [-5], [0.5], "it takes a whole number"),
        (Number(), [-1.5, 0], [math.nan, math.inf, "1", False], "it takes a number"),
        (Number(least=0, below=1), [0, 0.99], [1, -0.1], "it takes a number from 0 to below 1"),
        (Number(least=0, most=1), [0, 1], [1.01], "it takes a number from 0 to 1"),
        (Number(above=0, below=1), [0.5], [0, 1], "it takes a number above 0 and below 1"),
        (Number(below=1), [-3, 0.9], [1], "it takes a number below 1"),
        (OneOf("a", "b"), ["a"], ["c", 1, None, ["a"]], "allowed: a, b"),
        (Bool(), [True, False, 0, 1], ["yes", 2, 0.0, None], "allowed: True, False"),
        (Text("a name"), ["x"], ["", 1, None], "it takes a name"),
        (FilePath(), ["a/b", generate.ROOT], ["", 3], "it takes a path"),
        (Unset(), [None], [0, ""], "it takes none"),
        (MappingOf(Number(least=0), "{a: 1}"), [{"x": 2}], [{}, {"x": -1}, [1]], "it takes a mapping such as {a: 1}"),
        (AnyOf(Number(above=0), OneOf("initial")), [1, "initial"], [0, "x"], "it takes a number above 0, or initial"),
        (Anything(), [None, object()], [], "it takes any value"),
    ],
)
def test_kinds_of_values(kind, inside, outside, what):
    assert [value for value in inside if not kind.contains(value)] == []
    assert [value for value in outside if kind.contains(value)] == []
    assert kind.what == what
    assert kind.short

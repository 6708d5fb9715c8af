"""Values of yaml keys, checked while a model is built."""

import pytest

from recbole_ib.errors import ConfigurationError
from recbole_ib.utils.validate import fraction, integer, non_negative, one_of, positive


def test_right_values_are_returned_as_they_are():
    config = {"word": "a", "n": 3, "whole": 2.0, "t": 0.5, "p": 0}
    assert one_of(config, "word", ("a", "b")) == "a"
    assert (integer(config, "n"), integer(config, "whole", least=2)) == (3, 2)
    assert (positive(config, "t"), fraction(config, "p")) == (0.5, 0.0)


@pytest.mark.parametrize("value", [-1, 0, 1.5, "2", None, True])
def test_integer_names_key_value_and_limit(value):
    with pytest.raises(ConfigurationError, match=r"^n is .*; it takes a whole number, 1 or more"):
        integer({"n": value}, "n", least=1)


@pytest.mark.parametrize("value", [0, -0.1, "x", None, float("nan"), float("inf")])
def test_positive(value):
    with pytest.raises(ConfigurationError, match=r"^t is .*; it takes a number"):
        positive({"t": value}, "t")


@pytest.mark.parametrize("value", [-1e-9, "x", None, True, float("nan")])
def test_non_negative(value):
    assert non_negative({"w": 0}, "w") == 0.0
    with pytest.raises(ConfigurationError, match=r"^w is .*; it takes a number"):
        non_negative({"w": value}, "w")


@pytest.mark.parametrize("value", [1.0, -0.1, "x", None, True])
def test_fraction(value):
    with pytest.raises(ConfigurationError, match=r"^p is .*; it takes a number"):
        fraction({"p": value}, "p")


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("FREEDOM", {"n_layers": -1}),
        ("FREEDOM", {"n_item_layers": -1}),
        ("GRCN", {"n_layers": -1}),
        ("MGCN", {"cl_temperature": 0}),
        ("SOIL", {"cl_temperature": -1}),
        ("MICRO", {"cl_temperature": 0}),
        ("BM3", {"target_dropout": 1.0}),
        ("SLMRec", {"ssl_dropout": 2}),
        ("DualGNN", {"user_knn": 0}),
        ("LATTICE", {"knn_k": 0}),
    ],
)
def test_models_refuse_wrong_values_when_they_are_built(build, model, settings):
    key = next(iter(settings))
    with pytest.raises(ConfigurationError, match=f"^{key} is .*; it takes a"):
        build(model, **settings)

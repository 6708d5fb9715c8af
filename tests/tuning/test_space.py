"""recbole_ib.tuning.space: kinds, wrong input, values and back."""

from __future__ import annotations

import math

import pytest

from recbole_ib.errors import ConfigurationError
from recbole_ib.tuning.space import Domain, check_grid, decode, default_point, parse_space, read_space


def test_a_space_file_is_read_with_numbers_as_recbole_writes_them(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text("fib_weight: {loguniform: [1e-1, 5]}\nsigma2: {choice: [.1, .2]}\nknn_k: {int: [5, 20]}\n")
    space = read_space(file)
    assert space["fib_weight"] == Domain("fib_weight", "loguniform", (0.1, 5.0))
    assert space["sigma2"].args == (0.1, 0.2)
    assert space["knn_k"].values() == list(range(5, 21))


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ({}, "a space maps settings"),
        ([1], "a space maps settings"),
        ({"a": 3}, "a must be one kind"),
        ({"a": {"uniform": [0, 1], "int": [0, 1]}}, "one kind"),
        ({"a": {"loguniforn": [1, 2]}}, "no kind 'loguniforn'. Did you mean loguniform"),
        ({"a": {"choice": []}}, "choice takes"),
        ({"a": {"choice": 3}}, "choice takes"),
        ({"a": {"choice": [1, 2, 1]}}, "names a value twice"),
        ({"a": {"uniform": [1]}}, "the 2 numbers"),
        ({"a": {"uniform": [1, "2"]}}, "the 2 numbers"),
        ({"a": {"uniform": [0, math.nan]}}, "the 2 numbers"),
        ({"a": {"uniform": [0, math.inf]}}, "the 2 numbers"),
        ({"a": {"uniform": [False, True]}}, "the 2 numbers"),
        ({"a": {"uniform": [2, 1]}}, "from low to high"),
        ({"a": {"uniform": [2, 2]}}, r"one value alone is \{choice: \[2\]\}"),
        ({"a": {"loguniform": [0, 1]}}, "needs low > 0"),
        ({"a": {"int": [1, 2.5]}}, "whole numbers"),
        ({"a": {"quniform": [0, 1]}}, "the 3 numbers"),
        ({"a": {"quniform": [0, 1, 0]}}, "a step > 0"),
        ({"a": {"quniform": [0, 1, 0.3]}}, "multiples"),
    ],
)
def test_wrong_entries_are_named(entries, text):
    with pytest.raises(ConfigurationError, match=text) as found:
        parse_space(entries, "FILE")
    assert str(found.value).startswith("FILE")


def test_a_missing_file_is_named_with_the_nearest(tmp_path):
    (tmp_path / "space.yaml").write_text("a: {int: [1, 2]}")
    with pytest.raises(ConfigurationError, match=r"there is no config file .*spase\.yaml\. Did you mean space\.yaml"):
        read_space(tmp_path / "spase.yaml")


@pytest.mark.parametrize(
    ("entry", "inside", "outside"),
    [
        ({"uniform": [0.5, 1]}, [0.5, 0.7, 1], [0.4, 1.1, None, True, "1"]),
        ({"int": [2, 4]}, [2, 3, 4, 3.0], [1, 5, 2.5]),
        ({"quniform": [0.0, 1.0, 0.1]}, [0.3, 1.0], [0.35, 1.1]),
        ({"choice": [1, None, "mean", [1, 2]]}, [1, 1.0, None, "mean", [1, 2]], [True, "Mean", [2, 1], 2]),
    ],
)
def test_contains(entry, inside, outside):
    domain = parse_space({"a": entry}, "x")["a"]
    assert all(domain.contains(v) for v in inside)
    assert not any(domain.contains(v) for v in outside)


def test_lists_and_mappings_come_back_from_their_text():
    values = [{"text": 0.9, "visual": 0.1}, "learned", None, [1, 2]]
    space = parse_space({"modality_weights": {"choice": values}}, "x")
    coded = [space["modality_weights"].encode(v) for v in values]
    assert all(isinstance(c, str) for c in coded)
    assert [decode(space, {"modality_weights": c})["modality_weights"] for c in coded] == values


def test_ray_samples_inside_of_every_domain_and_reaches_both_ends_of_an_int():
    entries = {
        "u": {"uniform": [0.5, 1]}, "l": {"loguniform": [1e-4, 1e-1]}, "q": {"quniform": [0.0, 1.0, 0.25]}, "i": {"int": [1, 3]},
        "c": {"choice": ["a", None]},
    }  # fmt: skip
    for domain in parse_space(entries, "x").values():
        made = domain.for_ray()
        found = [domain.decode(made.sample()) for _ in range(200)]
        assert all(domain.contains(v) for v in found)
        if domain.kind == "int":
            assert set(found) == {1, 2, 3}


def test_a_grid_refuses_ranges_and_says_what_to_write():
    check_grid(parse_space({"a": {"int": [1, 3]}, "b": {"choice": [1]}}, "x"))
    with pytest.raises(ConfigurationError, match=r"b: a grid .* b: \{choice: \[0\.1, 5\]\}"):
        check_grid(parse_space({"a": {"int": [1, 3]}, "b": {"loguniform": [0.1, 5]}}, "x"))


def test_the_defaults_are_a_point_where_they_lie_inside():
    space = parse_space({"a": {"uniform": [0, 1]}, "b": {"choice": [1, 2]}}, "x")
    assert default_point(space, {"a": 0.5, "b": 2}) == ({"a": 0.5, "b": 2}, [])
    assert default_point(space, {"a": 0.5, "b": 3})[1] == ["b"]


@pytest.mark.parametrize(
    ("entry", "log"),
    [
        ({"loguniform": [0.1, 5]}, True),
        ({"uniform": [0.1, 5]}, False),
        ({"choice": [1e-4, 1e-3, 5e-2]}, True),
        ({"choice": [0.0, 1e-3]}, False),
        ({"choice": [5, 10, 20]}, False),
    ],
)
def test_logarithmic_axes(entry, log):
    assert parse_space({"a": entry}, "x")["a"].log is log

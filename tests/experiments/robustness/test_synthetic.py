"""Planted data: the features tell what they are meant to tell, at every level, and the interactions stay the same."""

from dataclasses import replace

import numpy as np
import pytest

from recbole_ib.cli.main import main
from recbole_ib.errors import ConfigurationError
from recbole_ib.experiments.robustness.linear_probe import heldout_r2
from recbole_ib.experiments.robustness.synthetic import (
    CORE,
    IRRELEVANT,
    MODALITIES,
    RELEVANT,
    PlantedSpec,
    _choices,
    generate,
    read_truth,
    spec_from,
    write_planted,
)

SMALL = PlantedSpec(n_users=200, n_items=120, width=64, factors=2)


@pytest.fixture(scope="module")
def clean():
    return generate(PlantedSpec(), 0)


@pytest.fixture(scope="module")
def noisy():
    return generate(PlantedSpec(irrelevance=0.9), 0)


#: part -> R^2 that visual alone, text alone and both together should reach: (low, high) each
TOLD = {
    "unique_visual": ((0.98, 1), (0, 0.05), (0.98, 1)),
    "unique_text": ((0, 0.05), (0.98, 1), (0.98, 1)),
    "redundant": ((0.98, 1), (0.98, 1), (0.98, 1)),
    "synergistic": ((0, 0.2), (0, 0.2), (0.9, 1)),
}


@pytest.mark.parametrize("part", RELEVANT)
@pytest.mark.parametrize("level", ["clean", "noisy"])
def test_each_part_is_told_by_the_modalities_it_is_planted_in(part, level, request):
    data = request.getfixturevalue(level)
    both = np.hstack([data.features[m] for m in MODALITIES])
    for (low, high), features in zip(TOLD[part], (*(data.features[m] for m in MODALITIES), both), strict=True):
        # few noisy columns blur what only their difference tells
        least = 0.8 if part == "synergistic" and low and level == "noisy" else low
        assert least <= heldout_r2(features, data.factors[part]) <= high


def test_one_modality_tells_of_the_synergistic_factors_what_the_nuisance_leaves(clean):
    # R^2 = var(s) / var(s + n) = 1 / (1 + 9)
    assert heldout_r2(clean.features["visual"], clean.factors["synergistic"]) == pytest.approx(0.1, abs=0.05)


def test_irrelevant_factors_are_in_the_features_only_above_level_zero(clean, noisy):
    for modality in MODALITIES:
        part = f"irrelevant_{modality}"
        assert heldout_r2(clean.features[modality], clean.factors[part]) < 0.05
        assert heldout_r2(noisy.features[modality], noisy.factors[part]) > 0.98


def test_interactions_depend_on_relevant_factors_and_on_no_irrelevant_ones(clean):
    """The variance of users' mean factors, over what it is if users take items whatever their factors are, is 1."""
    users, items = clean.pairs.T
    counts = np.bincount(users)
    for part in (*RELEVANT, *IRRELEVANT):
        taken = clean.factors[part][items]
        taken = (taken - taken.mean(axis=0)) / taken.std(axis=0)
        means = np.stack([np.bincount(users, weights=column) / counts for column in taken.T], axis=1)
        ratio = (counts[:, None] * means**2).mean()
        assert (ratio > 1.8) if part in RELEVANT else (0.85 < ratio < 1.15), part


def test_users_choose_by_softmax_of_the_score_over_the_temperature():
    spec = replace(SMALL, n_users=4000, n_items=20, interactions_per_user=5, temperature=0.5)
    scores = np.linspace(-0.5, 0.5, 20)
    pairs = _choices(spec, np.tile(scores, (4000, 1)), seed=0)
    first = pairs[np.r_[True, pairs[1:, 0] != pairs[:-1, 0]], 1]
    expected = np.exp(scores / 0.5) / np.exp(scores / 0.5).sum()
    np.testing.assert_allclose(np.bincount(first, minlength=20) / 4000, expected, atol=4 * np.sqrt(0.12 / 4000))


@pytest.mark.parametrize("level", [0.3, 0.7])
def test_levels_share_interactions_factors_and_relevant_columns(level):
    spec = replace(SMALL, rotate=False)
    zero, other = generate(spec, 3), generate(replace(spec, irrelevance=level), 3)
    assert zero.users == other.users
    assert zero.items == other.items
    np.testing.assert_array_equal(zero.pairs, other.pairs)
    for part, values in zero.factors.items():
        np.testing.assert_array_equal(values, other.factors[part])
    columns = replace(spec, irrelevance=level).columns()
    assert columns["irrelevant"] == round(level * spec.width)
    assert sum(columns.values()) == spec.width
    start = {"unique": 0, "redundant": columns["unique"]}
    clean = {"unique": 0, "redundant": spec.columns()["unique"]}
    for part, at in start.items():
        for m in MODALITIES:
            n = columns[part]
            np.testing.assert_array_equal(other.features[m][:, at : at + n], zero.features[m][:, clean[part] : clean[part] + n])


def test_columns_have_one_variance_and_the_rotation_keeps_all_distances():
    plain = generate(replace(SMALL, rotate=False, irrelevance=0.5), 1)
    turned = generate(replace(SMALL, irrelevance=0.5), 1)
    for m in MODALITIES:
        # standardized before the items without enough interactions were dropped
        assert plain.features[m].std(axis=0).min() > 0.7
        assert not np.allclose(plain.features[m], turned.features[m])
        np.testing.assert_allclose(plain.features[m] @ plain.features[m].T, turned.features[m] @ turned.features[m].T, atol=1e-3)


def test_every_user_and_item_keeps_enough_interactions(clean):
    for column, names in zip(clean.pairs.T, (clean.users, clean.items), strict=True):
        assert np.bincount(column, minlength=len(names)).min() >= CORE
    assert len(np.unique(clean.pairs, axis=0)) == len(clean.pairs)


def test_written_files_are_the_same_for_one_seed_and_others_for_another(tmp_path):
    first, again = (write_planted(tmp_path / d, SMALL, 1, "x") for d in "ab")
    other = write_planted(tmp_path / "c", SMALL, 2, "x")
    for file in ("x.inter", "visual.npy", "text.npy", "text.tokens", "x.yaml"):
        assert (first / file).read_bytes() == (again / file).read_bytes()
    assert (first / "x.inter").read_text() != (other / "x.inter").read_text()
    assert write_planted(tmp_path, SMALL, 1).name != write_planted(tmp_path, replace(SMALL, width=32), 1).name


def test_the_data_set_passes_check_and_truth_belongs_to_its_tokens(tmp_path, capsys):
    folder = write_planted(tmp_path, replace(SMALL, irrelevance=0.5), 1, "mine")
    assert main(["check", "--dataset=mine", f"--data_path={tmp_path}"]) == 0
    out = capsys.readouterr().out
    tokens, truth = read_truth(folder)
    assert f"items {len(tokens)}," in out
    assert "cold items" in out
    assert (folder / "visual.tokens").read_text().split() == tokens
    assert heldout_r2(np.load(folder / "visual.npy"), truth["unique_visual"]) > 0.95


def test_a_part_of_share_zero_has_no_factors():
    data = generate(replace(SMALL, synergistic=0.0, unique=0.5, redundant=0.5), 0)
    assert data.factors["synergistic"].shape[1] == data.factors["nuisance"].shape[1] == 0
    assert data.features["text"].shape[1] == SMALL.width
    assert data.preferences.shape[1] == 3 * SMALL.factors


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"unique": 0.9}, "must sum to 1"),
        ({"irrelevance": 1.0}, "irrelevance.*below 1"),
        ({"irrelevance": -0.1}, "irrelevance"),
        ({"irrelevance": 0.95, "width": 32}, "larger width"),
        ({"factors": 0}, "factors.*from 1"),
        ({"n_items": 10}, "n_items.*from 20"),
        ({"n_users": 80.5}, "n_users.*whole number"),
        ({"temperature": 0}, "temperature.*above 0"),
        ({"temperature": float("nan")}, "temperature"),
        ({"interactions_per_user": 400}, "half the items"),
        ({"widht": 3}, "widht.*Did you mean width"),
    ],
)
def test_specs_that_make_no_sense_are_refused(changes, words):
    with pytest.raises(ConfigurationError, match=words):
        spec_from(changes)


def test_a_spec_that_leaves_nothing_and_a_bad_name_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="no user and item keep"):
        write_planted(tmp_path, PlantedSpec(n_users=10, n_items=2000, interactions_per_user=5, width=64), 0)
    with pytest.raises(ConfigurationError, match="name"):
        write_planted(tmp_path, SMALL, 0, "../up")
    assert not list(tmp_path.iterdir())

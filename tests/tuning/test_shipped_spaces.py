"""The spaces that ship: one for every model, of keys that the model reads, around its defaults."""

from __future__ import annotations

import random

import pytest

from recbole_ib.config.layers import properties_folder
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.registry import CATALOG
from recbole_ib.tuning.shared_dataset import read_base_settings
from recbole_ib.tuning.space import check_searched, decode, default_point, parse_space, shipped_space

MODELS = [*CATALOG, "BPR", "LightGCN", "SGL", "FREEDOM+fib+gib", "BM3+mrdib", "SOIL+gib"]


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_a_space_of_settings_that_it_reads(model, planted_path):
    given = read_base_settings(model, "planted", config_dict={"data_path": str(planted_path), "use_gpu": False})
    base = given.config()
    space = shipped_space(base)
    check_searched(space, given.config)
    point, outside = default_point(space, base)
    assert not outside, "a search tries the model's own settings first"
    assert decode(space, point) == {key: base[key] for key in space}
    random.seed(0)
    sampled = {key: domain.decode(domain.for_ray().sample()) for key, domain in space.items()}
    config = given.config(sampled)
    assert {key: config[key] for key in space} == sampled


def test_bottlenecks_add_theirs_to_the_backbones(planted_path):
    def keys(model, **more):
        given = read_base_settings(model, "planted", config_dict={"data_path": str(planted_path), **more})
        return set(shipped_space(given.config()))

    fib, gib = {"fib_weight", "sigma2", "contrastive_temperature"}, {"gib_weight", "gib_sigma2"}
    assert keys("FREEDOM+fib+gib") == keys("FREEDOM") | fib | gib
    assert keys("FREEDOM", bottleneck="gib") == keys("FREEDOM") | gib
    assert keys("IBMRecWoFIB") == keys("VLATTICE") | gib
    assert keys("SGFD", backbone="BM3") == keys("BM3") | {"ce_weight", "kd_weight", "sgfd_temperature"}
    assert keys("IBMRec") >= fib | gib | {"knn_k", "reg_weight", "learning_rate"}


def test_the_ranges_of_the_papers_figures(planted_path):
    space = shipped_space(read_base_settings("IBMRec", "planted", config_dict={"data_path": str(planted_path)}).config())
    assert (space["fib_weight"].args, space["gib_weight"].args) == ((0.1, 5.0), (0.1, 20.0))
    assert space["sigma2"].args == (0.1, 0.15, 0.2, 0.25, 0.3)
    weights = shipped_space(read_base_settings("MRdIBMGCN", "planted", config_dict={"data_path": str(planted_path)}).config())
    for key in ("kl_weight", "redundancy_weight", "unique_weight"):
        assert weights[key].args == (1e-4, 1e-3, 5e-3, 1e-2, 5e-2)


def test_every_file_states_its_source():
    files = list((properties_folder() / "tune").rglob("*.yaml"))
    assert len(files) >= 21
    assert all(file.read_text(encoding="utf-8").startswith("# ") for file in files)


def test_a_model_without_a_space_is_told_how_to_give_one(planted_path):
    given = read_base_settings("NeuMF", "planted", config_dict={"data_path": str(planted_path)})
    with pytest.raises(ConfigurationError, match=r"no search space ships for NeuMF: give one with --space=FILE\.yaml"):
        shipped_space(given.config())


@pytest.mark.parametrize(
    ("model", "key", "text"),
    [
        ("IBMRec", "fib_wieght", "unknown setting 'fib_wieght'. Did you mean fib_weight"),
        ("VLATTICE", "fib_weight", "'fib_weight', which VLATTICE does not read"),
        ("BPR", "n_layers", "'n_layers', which BPR does not read"),
        ("IBMRec", "use_modalities", "which the data set is made from"),
        ("IBMRec", "val_interval", "which the data set is made from"),
        ("IBMRec", "feature_dtype", "which the data set is made from"),
        ("IBMRec", "eval_args", "the same in all trials"),
        ("IBMRec", "seed", "the same in all trials"),
        ("IBMRec", "epochs", "the same in all trials"),
        ("IBMRec", "bottleneck", "the same in all trials"),
    ],
)
def test_keys_that_cannot_be_searched_are_refused(model, key, text, planted_path):
    given = read_base_settings(model, "planted", config_dict={"data_path": str(planted_path)})
    space = parse_space({"learning_rate": {"choice": [0.1]}, key: {"choice": [1, 2]}}, "x")
    with pytest.raises(ConfigurationError, match=text):
        check_searched(space, given.config)

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

    fib, gib = {"fib_weight", "sigma2", "contrastive_temperature"}, {"gib_weight", "gib_sigma2", "gate_bias"}
    assert keys("FREEDOM+fib+gib") == keys("FREEDOM") | fib | gib
    assert keys("FREEDOM", bottleneck="gib") == keys("FREEDOM") | gib
    assert keys("IBMRecWoFIB") == keys("VLATTICE") | gib
    assert keys("SGFD", backbone="BM3") == keys("BM3") | {"ce_weight", "kd_weight", "sgfd_temperature"}
    assert keys("IBMRec") >= fib | gib | {"knn_k", "reg_weight", "learning_rate"}


def test_ranges_of_the_bottlenecks_hold_their_defaults(planted_path):
    """GIB's are the paper's figure; those of FIB and MRdIB, whose estimates are others now, lie around the defaults."""
    given = read_base_settings("IBMRec", "planted", config_dict={"data_path": str(planted_path)}).config()
    space = shipped_space(given)
    assert space["gib_weight"].args == (0.1, 20.0)
    assert given["sigma2"] in space["sigma2"].args
    assert space["sigma2"].args[1:] == (0.15, 0.3, 1.0)
    given = read_base_settings("MRdIBMGCN", "planted", config_dict={"data_path": str(planted_path)}).config()
    weights = shipped_space(given)
    for key in ("kl_weight", "unique_weight"):
        low, high = weights[key].args[:2]
        assert low < given[key] < high
    assert weights["redundancy_weight"].args == (0.0, 1e-3, 1e-2, 0.1)


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

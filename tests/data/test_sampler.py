"""The sampler and the loader that stand in for RecBole's: the same numbers from the same seed, for every user."""

import numpy as np
import pytest
import torch
from recbole.config import Config as RecBoleConfig
from recbole.data import create_dataset, data_preparation
from recbole.data.dataloader.general_dataloader import FullSortEvalDataLoader
from recbole.sampler import Sampler
from recbole.utils import init_seed

from recbole_ib.config import layers
from recbole_ib.config.config import Config
from recbole_ib.config.layers import our_yaml
from recbole_ib.data.eval_loader import FullRankingLoader, is_overall_default
from recbole_ib.data.sampler import FastSampler, InteractionIndex
from tests.support.datasets import write_dataset

PHASES = ["train", "valid", "test"]


@pytest.fixture
def prepared(planted_path):
    config = Config("VBPR", "planted", config_dict={"data_path": str(planted_path), "use_gpu": False, "show_progress": False})
    init_seed(1, True)
    return config, data_preparation(config, create_dataset(config))


@pytest.fixture
def datasets(prepared):
    return [loader._dataset for loader in prepared[1]]


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
@pytest.mark.parametrize("phase", PHASES)
def test_the_same_seed_draws_recboles_items(datasets, distribution, phase):
    users = datasets[0].inter_feat["user_id"].numpy()[:200]
    drawn = []
    for sampler in (Sampler, FastSampler):
        made = sampler(PHASES, datasets, distribution, 0.75).set_phase(phase)
        np.random.seed(5)
        rounds = [made.sample_by_user_ids(users, None, count) for count in (1, 3)]
        # one user alone takes another path in RecBole
        rounds.append(made.sample_by_user_ids(users[:1].repeat(50), None, 2))
        drawn.append((rounds, np.random.random()))
    assert drawn[0][1] == drawn[1][1]
    for expected, got in zip(drawn[0][0], drawn[1][0], strict=True):
        assert expected.dtype == got.dtype
        assert torch.equal(expected, got)


def test_no_draw_is_an_item_of_the_user(datasets):
    sampler = FastSampler(PHASES, datasets).set_phase("test")
    users = np.repeat(np.arange(1, datasets[0].user_num), 40)
    drawn = sampler.sample_by_user_ids(users, None, 1).numpy()
    assert drawn.min() > 0
    assert not any(item in sampler.used_ids[user] for user, item in zip(users, drawn, strict=True))


def test_draws_are_uniform_over_the_other_items(datasets):
    """Chi-square of 40,000 draws of one user over the items he has not taken; 99.9 % of right samplers pass."""
    from scipy import stats

    sampler = FastSampler(PHASES, datasets).set_phase("train")
    np.random.seed(0)
    drawn = sampler.sample_by_user_ids(np.full(40_000, 3), None, 1).numpy()
    counts = np.bincount(drawn, minlength=datasets[0].item_num)
    free = [i for i in range(1, datasets[0].item_num) if i not in sampler.used_ids[3]]
    assert counts.sum() == counts[free].sum()
    assert stats.chisquare(counts[free]).pvalue > 0.001


def test_used_items_read_like_recboles_sets(datasets):
    theirs = Sampler(PHASES, datasets).used_ids
    ours = FastSampler(PHASES, datasets).used_ids
    for phase in PHASES:
        assert len(ours[phase]) == len(theirs[phase])
        assert [ours[phase][u] for u in range(len(theirs[phase]))] == list(theirs[phase])
        assert list(ours[phase][np.array([3, 1])]) == [theirs[phase][3], theirs[phase][1]]
    user = torch.tensor(-1)
    assert ours["test"][user] == theirs["test"][-1]
    assert int(user) == -1


def test_a_user_who_is_not_there_is_an_error(datasets):
    sampler = FastSampler(PHASES, datasets).set_phase("train")
    for wrong in (-1, datasets[0].user_num):
        with pytest.raises(ValueError, match="not exist"):
            sampler.sample_by_user_ids(np.array([1, wrong]), None, 1)
    with pytest.raises(IndexError):
        sampler.used_ids[datasets[0].user_num]


def test_a_user_with_every_item_is_named(tmp_path):
    pairs = [(u, i) for u in range(6) for i in range(12) if u == 0 or (u + i) % 3]
    path = write_dataset(tmp_path / "data", "full", pairs, {"text": np.random.rand(12, 3)})
    config = Config("VBPR", "full", config_dict={"data_path": str(path), "use_gpu": False})
    with pytest.raises(ValueError, match=r"1 users have interacted with all 12 items.*'u0'.*user_inter_num_interval"):
        data_preparation(config, create_dataset(config))


def test_no_interaction_is_in_an_empty_set():
    empty = InteractionIndex(np.zeros(0, dtype=np.int64), 4, 5)
    assert not empty.contains(np.array([1, 2]), np.array([3, 4])).any()
    assert empty[2] == set()


@pytest.mark.parametrize("which", [1, 2])
def test_batches_are_those_of_recboles_loader(prepared, which):
    config, loaders = prepared
    ours = loaders[which]
    assert type(ours) is FullRankingLoader
    theirs = FullSortEvalDataLoader(config, ours._dataset, ours._sampler)
    assert torch.equal(theirs.uid_list, ours.uid_list)
    assert np.array_equal(theirs.uid2items_num, ours.uid2items_num)
    assert len(theirs) == len(ours)
    for (user, history, pos_u, pos_i), (user2, history2, pos_u2, pos_i2) in zip(theirs, ours, strict=True):
        assert torch.equal(user["user_id"], user2["user_id"])
        assert pairs(*history) == pairs(*history2)
        assert pairs(pos_u, pos_i) == pairs(pos_u2, pos_i2)
        assert len(pairs(*history)) == history[0].numel() > 0
    users = ours.uid_list[:4].tolist()
    assert [set(x.tolist()) for x in ours.uid2history_item[users]] == [set(x.tolist()) for x in theirs.uid2history_item[users]]


@pytest.fixture
def small_default(monkeypatch):
    """Our overall.yaml with an eval_batch_size of four planted users, so that a small catalog is a large one to it."""
    small = {**our_yaml("overall"), "eval_batch_size": 300}
    original = our_yaml
    monkeypatch.setattr(layers, "our_yaml", lambda name: small if name == "overall" else original(name))


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        ("VBPR", {}, 64),
        ("BPR", {}, 64),
        ("VBPR", {"eval_batch_size": 300}, 4),  # our very value, but the user's
        ("VBPR", {"eval_batch_size": 200}, 3),
    ],
)
@pytest.mark.usefixtures("small_default")
def test_a_large_catalog_is_ranked_for_many_users_at_once_unless_told_otherwise(planted_path, model, given, expected):
    config = Config(model, "planted", config_dict={"data_path": str(planted_path), "use_gpu": False, **given})
    assert users_a_batch(config) == expected
    assert config["eval_batch_size"] == given.get("eval_batch_size", 300)


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        ("VBPR", {}, 64),
        ("VBPR", {"eval_batch_size": 300}, 4),
        ("BPR", {}, 4096 // 61),  # of its models RecBole's Config holds RecBole's default
    ],
)
@pytest.mark.usefixtures("small_default")
def test_recboles_own_config_knows_whose_default_it_holds(planted_path, model, given, expected):
    config = RecBoleConfig(model, "planted", config_dict={"data_path": str(planted_path), "use_gpu": False, **given})
    assert users_a_batch(config) == expected
    assert is_overall_default(config, "eval_batch_size") == (expected == 64)


@pytest.mark.parametrize("changed", [200, 300])
@pytest.mark.usefixtures("small_default")
def test_a_setting_that_was_changed_afterwards_is_no_default(planted_path, changed):
    config = Config("VBPR", "planted", config_dict={"data_path": str(planted_path)})
    config["eval_batch_size"] = changed
    assert is_overall_default(config, "eval_batch_size") == (changed == 300)


def users_a_batch(config) -> int:
    return data_preparation(config, create_dataset(config))[1].step


def pairs(rows, items):
    assert rows.dtype == items.dtype == torch.int64
    return set(zip(rows.tolist(), items.tolist(), strict=True))


def test_a_data_sets_own_batch_and_recboles_defaults_are_kept(tmp_path):
    pairs_ = [(u, i) for u in range(30) for i in range(40) if (u * 7 + i) % 3]
    path = write_dataset(tmp_path / "data", "own", pairs_, {"text": np.random.rand(40, 3)}, eval_batch_size=100)
    for name, settings, expected in (("VBPR", {}, 2), ("BPR", {"defaults": "recbole"}, 2)):
        config = Config(name, "own", config_dict={"data_path": str(path), "use_gpu": False, **settings})
        assert users_a_batch(config) == expected


@pytest.mark.usefixtures("small_default")
def test_a_data_set_that_names_our_value_keeps_it(tmp_path):
    pairs_ = [(u, i) for u in range(70) for i in range(40) if (u * 7 + i) % 3]
    path = write_dataset(tmp_path / "data", "own", pairs_, {"text": np.random.rand(40, 3)}, eval_batch_size=300)
    for kind in (Config, RecBoleConfig):
        assert users_a_batch(kind("VBPR", "own", config_dict={"data_path": str(path), "use_gpu": False})) == 7

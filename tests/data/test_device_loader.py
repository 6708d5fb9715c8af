"""Batches made on the training device: RecBole's distribution, fields and epochs, from a generator that resumes exactly."""

import random

import numpy as np
import pytest
import torch
from recbole.config import Config as RecBoleConfig
from recbole.data import create_dataset, data_preparation
from recbole.data.dataloader.general_dataloader import TrainDataLoader
from recbole.sampler import Sampler
from recbole.utils import get_trainer
from scipy import stats

from recbole_ib.config.config import Config
from recbole_ib.data.sampler import InteractionIndex
from recbole_ib.data.train_loader import DeviceTrainLoader, FreeItems
from recbole_ib.errors import CheckpointError, ConfigurationError
from recbole_ib.training.checkpoint import last_path, random_state, restore_random_state
from recbole_ib.training.run import run_recbole_ib
from recbole_ib.training.trainer import MultimodalTrainer
from tests.support.datasets import planted, write_dataset
from tests.support.training import STAGES

CPU = torch.device("cpu")
FIELDS = ("user_id", "item_id", "neg_item_id")


@pytest.fixture
def on_device(build):
    return lambda name="VBPR", **settings: build(name, sampling="device", **settings)


@pytest.fixture
def train(on_device):
    return on_device()[2]


def epoch(loader):
    """All rows of an epoch, ``[n, 3]``: user, item, negative."""
    return torch.cat([torch.stack([batch[field] for field in FIELDS], dim=1) for batch in loader])


def draws(taken, user, number, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return FreeItems(taken, CPU).draw(torch.full((number,), user), generator).numpy()


# -- negatives --------------------------------------------------------------------------------------------------------


def test_draws_are_uniform_over_the_items_that_a_user_has_not_taken(train):
    """Chi-square of 40,000 draws for one user; 99.9 % of right samplers pass."""
    taken = train._sampler.used_ids
    counts = np.bincount(draws(taken, 3, 40_000), minlength=taken.n_items)
    free = [i for i in range(1, taken.n_items) if i not in taken[3]]
    assert counts.sum() == counts[free].sum()
    assert stats.chisquare(counts[free]).pvalue > 0.001


@pytest.mark.parametrize("items", [[], [1], [7], [1, 2, 3], [5, 6, 7], [2, 4, 6], [1, 2, 3, 4, 6, 7]])
def test_every_free_item_is_drawn_and_no_other(items):
    """Gaps at either end and in the middle, between two users who have taken other items."""
    keys = np.array([8 + 1, 8 + 7, *(16 + i for i in items), 24 + 1, 24 + 4], dtype=np.int64)
    assert set(draws(InteractionIndex(keys, 4, 8), 2, 500)) == set(range(1, 8)) - set(items)


def test_one_free_item_among_a_million_is_found_at_once():
    n_items = 1_000_001
    keys = n_items + np.delete(np.arange(1, n_items), 765_431)
    assert set(draws(InteractionIndex(keys, 2, n_items), 1, 1000)) == {765_432}


def test_no_negative_of_an_epoch_is_a_training_item_of_its_user(train):
    rows = torch.cat([epoch(train) for _ in range(20)]).numpy()
    assert rows[:, 2].min() >= 1
    assert rows[:, 2].max() == train._dataset.item_num - 1
    assert not train._sampler.used_ids.contains(rows[:, 0], rows[:, 2]).any()
    # an item of validation or test may be drawn, as RecBole's may: training does not know of it
    assert train._sampler.phase == "train"


# -- epochs -----------------------------------------------------------------------------------------------------------


def test_an_epoch_holds_every_interaction_once_in_another_order_each_time(train):
    pairs = torch.stack([train._dataset.inter_feat[field] for field in FIELDS[:2]], dim=1)
    first, second = epoch(train), epoch(train)
    for rows in (first, second):
        assert sorted(rows[:, :2].tolist()) == sorted(pairs.tolist())
    assert not torch.equal(first[:, :2], second[:, :2])
    sizes = [len(batch) for batch in train]
    assert len(sizes) == len(train)
    assert sizes[:-1] == [train.step] * (len(sizes) - 1)
    assert 0 < sizes[-1] < train.step


def test_unshuffled_epochs_keep_the_order_and_their_batches_are_copies(on_device):
    train = on_device(shuffle=False)[2]
    pairs = torch.stack([train._dataset.inter_feat[field] for field in FIELDS[:2]], dim=1)
    assert torch.equal(epoch(train)[:, :2], pairs)
    for batch in train:
        batch["item_id"].zero_()
    assert torch.equal(epoch(train)[:, :2], pairs)


def test_the_seed_alone_decides_and_no_other_generator_moves(train):
    def state():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    loaders = []
    for seed in (1, 1, 2):
        # the data stay: their split depends on the seed of their own run
        train.config["seed"] = seed
        loaders.append(DeviceTrainLoader(train.config, train._dataset, train._sampler, shuffle=True))
    before = state()
    first, same, other = ([epoch(loader), epoch(loader)] for loader in loaders)
    assert state() == before
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not torch.equal(first[0], other[0])


# -- fields -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def rich(tmp_path):
    """A set with columns of the interactions, users and items."""
    pairs, modalities, _, _ = planted(n_users=20, n_items=20)
    load = {
        "inter": ["user_id", "item_id", "rating"],
        "user": ["user_id", "age"],
        "item": ["item_id", "price", "kind", "words"],
    }
    path = write_dataset(tmp_path / "data", "rich", pairs, modalities, load_col=load)
    tables = {
        "inter": ["user_id:token\titem_id:token\trating:float", *(f"u{u}\ti{i}\t{(u + i) % 5}" for u, i in pairs)],
        "user": ["user_id:token\tage:float", *(f"u{u}\t{20 + u}" for u in range(20))],
        "item": [
            "item_id:token\tprice:float\tkind:token\twords:token_seq",
            *(f"i{i}\t{i / 2}\tk{i % 3}\tw{i % 4} w{i % 5}" for i in range(20)),
        ],
    }
    for name, lines in tables.items():
        (path / "rich" / f"rich.{name}").write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.mark.parametrize("name", ["VBPR", "BM3"])
def test_batches_have_recboles_fields_types_and_columns(build, rich, name):
    """Unshuffled, all but the negatives are equal; BM3 trains without negatives."""
    loaders = [build(name, dataset="rich", data_path=rich, shuffle=False, sampling=s)[2] for s in ("recbole", "device")]
    assert [type(loader) for loader in loaders] == [TrainDataLoader, DeviceTrainLoader]
    dataset = loaders[1]._dataset
    for theirs, ours in zip(*loaders, strict=True):
        assert list(ours) == list(theirs)
        for field in theirs:
            assert (ours[field].dtype, ours[field].shape) == (theirs[field].dtype, theirs[field].shape)
            if not field.startswith("neg_"):
                assert torch.equal(ours[field], theirs[field])
        for field in ("price", "kind", "words") if name == "VBPR" else ():
            assert torch.equal(ours[f"neg_{field}"], dataset.item_feat[field][ours["neg_item_id"]])
    assert ("neg_price" in ours) is (name == "VBPR")


def test_a_batch_is_not_copied_to_its_device(train):
    for batch in train:
        moved = batch.to(CPU)
        assert all(moved[field].data_ptr() == batch[field].data_ptr() for field in FIELDS)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_no_batch_is_on_the_host_and_none_waits(on_device):
    train = on_device(use_gpu=True, gpu_id="0")[2]
    batches = iter(train)
    next(batches)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches:
            moved = batch.to(train.config["device"])
            assert all(batch[field].is_cuda and moved[field].data_ptr() == batch[field].data_ptr() for field in FIELDS)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    state, first = random_state(train.generator), epoch(train)
    restore_random_state(state, train.generator)
    assert torch.equal(epoch(train), first)


# -- runs -------------------------------------------------------------------------------------------------------------


def run(build, epochs, resume=None, **settings):
    config, model, train, valid, test = build("VBPR", epochs=epochs, **{"sampling": "device", **settings})
    trainer = MultimodalTrainer(config, model)
    if resume:
        trainer.resume_checkpoint(resume)
    trainer.fit(train, valid, verbose=False)
    return trainer, trainer.evaluate(test), {k: v.clone() for k, v in model.state_dict().items()}


def test_a_model_learns_the_planted_data_as_from_recboles_batches(build):
    recall = {}
    for sampling in ("recbole", "device"):
        _, result, _ = run(build, 30, sampling=sampling, learning_rate=0.01)
        recall[sampling] = result["recall@10"]
    _, untrained, _ = run(build, 1, learning_rate=1e-30)
    assert recall["device"] > 2 * untrained["recall@10"]
    assert recall["device"] == pytest.approx(recall["recbole"], rel=0.15)


def test_a_resumed_run_gives_the_numbers_of_an_uninterrupted_one(build):
    whole, expected, weights = run(build, 6)
    first, _, _ = run(build, 3)
    resumed, got, again = run(build, 6, resume=last_path(first.saved_model_file))
    assert got == expected
    assert resumed.train_loss_dict == whole.train_loss_dict
    assert all(torch.equal(weights[k], again[k]) for k in weights)
    with pytest.raises(CheckpointError, match="sampling: 'device' then, 'recbole' now"):
        run(build, 6, resume=first.saved_model_file, sampling="recbole")


def test_a_state_of_another_kind_of_device_is_refused(train):
    state = {**random_state(train.generator), "loader": torch.zeros(16, dtype=torch.uint8)}  # as a GPU's
    before = np.random.get_state()[1].tolist()
    with pytest.raises(CheckpointError, match="another kind of device than cpu"):
        restore_random_state(state, train.generator)
    assert np.random.get_state()[1].tolist() == before


@pytest.mark.parametrize("name", ["BPR", "LightGCN"])
def test_recboles_own_models_train_with_it(planted_path, name):
    settings = {"data_path": str(planted_path), "use_gpu": False, "show_progress": False, "epochs": 2, "sampling": "device"}
    first, again = (run_recbole_ib(name, "planted", config_dict=settings) for _ in range(2))
    assert first["test_result"] == again["test_result"]
    assert first["test_result"]["recall@20"] > 0


def test_invrls_environments_draw_by_the_whole_training_data(on_device, monkeypatch):
    config, model, train, valid, _ = on_device("InvRL", epochs=1, backbone="VBPR", **STAGES["InvRL"])
    trainer, made = get_trainer(config["MODEL_TYPE"], "InvRL")(config, model), []
    original = trainer._loader
    monkeypatch.setattr(trainer, "_loader", lambda *args: made.append(original(*args)) or made[-1])
    trainer.fit(train, valid, verbose=False, saved=False)
    assert bool(model.mask_learned)
    assert {type(loader) for loader in made} == {DeviceTrainLoader}
    part = min(made, key=len)
    rows = epoch(part).numpy()
    assert len(rows) == len(part._dataset) < len(train._dataset)
    assert not train._sampler.used_ids.contains(rows[:, 0], rows[:, 2]).any()


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("VBPR", {"train_neg_sample_args": {"distribution": "popularity"}}, "distribution 'popularity'.*distribution: uniform"),
        ("VBPR", {"train_neg_sample_args": {"sample_num": 2}}, "sample_num 2.*sample_num: 1"),
        ("VBPR", {"train_neg_sample_args": {"dynamic": True, "candidate_num": 3}}, "dynamic negatives.*dynamic: False"),
        ("VBPR", {"repeatable": True}, "repeatable is True"),
        ("VBPR", {"transform": "user_defined"}, "transform is 'user_defined'"),
        ("VBPR", {"save_dataloaders": True}, "save_dataloaders is set.*leave save_dataloaders out"),
        ("VBPR", {"dataloaders_save_path": "x.pth"}, "dataloaders_save_path is set"),
        ("NeuMF", {}, "NeuMF is trained on POINTWISE batches. Set sampling: recbole$"),
        ("MultiVAE", {"train_neg_sample_args": None}, "batches of RecBole's UserDataLoader"),
        ("GRU4Rec", {"train_neg_sample_args": None}, "GRU4Rec is a SEQUENTIAL recommender"),
        ("DeepFM", {}, "DeepFM is a CONTEXT recommender"),
        ("ItemKNN", {}, "ItemKNN is a TRADITIONAL recommender"),
    ],
)
def test_what_it_cannot_make_is_refused_before_the_data_are_loaded(planted_path, model, settings, message):
    base = {"data_path": str(planted_path), "use_gpu": False, "sampling": "device"}
    with pytest.raises(ConfigurationError, match=rf"^sampling: device draws .*{message}"):
        Config(model, "planted", config_dict={**base, **settings})


def test_a_misspelt_value_is_named(planted_path):
    with pytest.raises(ConfigurationError, match=r"sampling is 'devise'\. Did you mean device\? Allowed: recbole, device"):
        Config("VBPR", "planted", config_dict={"data_path": str(planted_path), "sampling": "devise"})


def test_saved_loaders_of_an_earlier_run_are_refused(on_device, tmp_path):
    (tmp_path / "planted-for-VBPR-dataloader.pth").touch()
    with pytest.raises(ConfigurationError, match=r"its own saved loaders from .*planted-for-VBPR.*move the file away"):
        on_device(checkpoint_dir=str(tmp_path))


def test_a_sampler_of_another_kind_is_refused(train):
    theirs = Sampler(["train"], [train._dataset]).set_phase("train")
    with pytest.raises(ConfigurationError, match="the sampler Sampler does not hold"):
        DeviceTrainLoader(train.config, train._dataset, theirs)


def test_recboles_own_configuration_follows_the_key_too(planted_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["x"])
    settings = {"data_path": str(planted_path), "gpu_id": "", "sampling": "device"}
    config = RecBoleConfig("VBPR", "planted", config_dict=settings)
    assert type(data_preparation(config, create_dataset(config))[0]) is DeviceTrainLoader
    config = RecBoleConfig(
        "VBPR", "planted", config_dict={**settings, "train_neg_sample_args": {"distribution": "uniform", "sample_num": 3}}
    )
    with pytest.raises(ConfigurationError, match="sample_num 3"):
        data_preparation(config, create_dataset(config))

"""Recommendations, similar items and exports of trained models, against naive references."""

import os
import pickle
import shutil
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.data.interaction import Interaction

import recbole_ib
from recbole_ib import list_models, load, run_recbole_ib
from recbole_ib.cli import main
from recbole_ib.config.config import Config
from recbole_ib.errors import CheckpointError, ConfigurationError
from recbole_ib.inference.embeddings import product_tables
from recbole_ib.inference.recommender import FewerItemsWarning
from recbole_ib.ops import topk
from recbole_ib.patches.compat import TRUST_VARIABLE
from recbole_ib.training.checkpoint import read_checkpoint, write_checkpoint
from tests.support.datasets import planted, write_dataset
from tests.support.processes import environment, fresh_python
from tests.support.training import STAGES

ROOT = Path(__file__).resolve().parents[1]
#: RecBole's own: scores that are products of rows, and scores that are not
PRODUCTS = ("BPR", "LightGCN", "SGL")
OTHERS = {"ENMF": {"train_neg_sample_args": None}, "NeuMF": {}, "Pop": {}, "ItemKNN": {"k": 5}, "DMF": {}}
TRAINED = {"epochs": 25, "learning_rate": 0.01, "embedding_size": 16, "feature_dim": 16, "stopping_step": 100}


def train(path, folder, name="VBPR", dataset="planted", **settings):
    """One run on small data; the path of its checkpoint."""
    base = {"data_path": str(path), "checkpoint_dir": str(folder), "show_progress": False, "train_batch_size": 256, "seed": 1}
    base |= {"use_gpu": False, "epochs": 1}
    base |= {"knn_k": 5, **STAGES.get(name, {})} if name in list_models() else {}
    return run_recbole_ib(name, dataset, config_dict={**base, **settings})["checkpoint"]


@pytest.fixture(scope="module")
def vbpr(planted_path, tmp_path_factory):
    """VBPR, trained until it tells the groups by their text."""
    return train(planted_path, tmp_path_factory.mktemp("saved"), **TRAINED)


@pytest.fixture(scope="module")
def recommender(vbpr):
    return load(vbpr)


@pytest.fixture(scope="module")
def bpr(planted_path, tmp_path_factory):
    return train(planted_path, tmp_path_factory.mktemp("saved"), "BPR")


def all_scores(recommender) -> np.ndarray:
    """RecBole's scores of all users and items, ``[n, m]``, from the model itself."""
    users = torch.arange(1, len(recommender.user_tokens) + 1)
    with torch.no_grad():
        scores = recommender.model.full_sort_predict(Interaction({recommender.user_field: users}))
    return scores.view(len(users), -1)[:, 1:].numpy()


def naive(recommender, seen: set, k: int) -> list[tuple]:
    """(user, item, rank, score) by a Python loop with a full sort."""
    found = []
    for user, row in zip(recommender.user_tokens, all_scores(recommender), strict=True):
        order = sorted(range(len(row)), key=lambda i: (-row[i], i))
        left = [i for i in order if (user, recommender.item_tokens[i]) not in seen]
        found += [(user, recommender.item_tokens[i], rank, row[i]) for rank, i in enumerate(left[:k], start=1)]
    return found


def planted_seen() -> set:
    return {(f"u{u}", f"i{i}") for u, i in planted()[0]}


# -- recommend --------------------------------------------------------------------------------------------------------


def test_a_trained_model_recommends_the_withheld_structure(recommender):
    """Users take items of their group: those of the group that they have not taken must come first."""
    _, _, item_group, user_group = planted()
    found = recommender.recommend(k=5)
    same = [user_group[int(u[1:])] == item_group[int(i[1:])] for u, i in zip(found["user_id"], found["item_id"], strict=True)]
    assert len(found) == 80 * 5
    assert np.mean(same) > 0.75  # by chance: some .15


@pytest.mark.parametrize("keep_seen", [False, True])
def test_rows_are_those_of_a_naive_loop(recommender, keep_seen):
    found = recommender.recommend(k=7, keep_seen=keep_seen)
    expected = naive(recommender, set() if keep_seen else planted_seen(), 7)
    assert list(found.columns) == ["user_id", "item_id", "rank", "score"]
    assert list(found.itertuples(index=False, name=None)) == expected
    assert found["score"].dtype == np.float32
    assert all(type(token) is str for token in found["user_id"])


def test_seen_items_of_all_parts_are_left_out(recommender):
    pairs = recommender.recommend(k=30)
    assert not planted_seen() & set(zip(pairs["user_id"], pairs["item_id"], strict=True))
    everything = recommender.recommend(k=60, keep_seen=True)
    assert planted_seen() <= set(zip(everything["user_id"], everything["item_id"], strict=True))


def test_seen_items_of_a_given_split_are_left_out(tmp_path):
    pairs, modalities, _, _ = planted()
    path = write_dataset(tmp_path / "data", "planted", [], modalities, benchmark_filename=["train", "valid", "test"])
    for at, part in enumerate(("train", "valid", "test")):
        lines = ["user_id:token\titem_id:token", *(f"u{u}\ti{i}" for u, i in pairs[at::3])]
        (path / "planted" / f"planted.{part}.inter").write_text("\n".join(lines) + "\n")
    found = load(train(path, tmp_path / "saved"))
    assert list(found.recommend(k=6).itertuples(index=False, name=None)) == naive(found, planted_seen(), 6)


def test_seen_items_of_leave_one_out_are_left_out(planted_path, tmp_path):
    split = {"split": {"LS": "valid_and_test"}, "order": "RO", "group_by": "user", "mode": "full"}
    found = load(train(planted_path, tmp_path, eval_args=split))
    assert list(found.recommend(k=6).itertuples(index=False, name=None)) == naive(found, planted_seen(), 6)


def test_more_than_the_catalog_gives_what_is_left_and_one_warning(recommender):
    with pytest.warns(
        FewerItemsWarning, match=r"80 of 80 users have fewer than 1000 items left to recommend \(the fewest: \d+\)"
    ) as w:
        found = recommender.recommend(k=1000)
    assert len(w) == 1
    assert w[0].filename == __file__
    assert list(found.itertuples(index=False, name=None)) == naive(recommender, planted_seen(), 1000)
    taken = pd.Series([u for u, _ in planted_seen()]).value_counts()
    assert found["user_id"].value_counts().to_dict() == (60 - taken).to_dict()


def test_enough_items_give_no_warning(recommender):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recommender.recommend(k=3)


def test_some_users_in_their_order_each_once(recommender):
    everybody = recommender.recommend(k=4)
    found = recommender.recommend(["u7", "u3", "u7"], k=4)
    assert list(found["user_id"]) == ["u7"] * 4 + ["u3"] * 4
    for user in ("u7", "u3"):
        pd.testing.assert_frame_equal(
            found[found["user_id"] == user].reset_index(drop=True),
            everybody[everybody["user_id"] == user].reset_index(drop=True),
        )
    pd.testing.assert_frame_equal(recommender.recommend("u7", k=4), found[:4])
    empty = recommender.recommend([], k=4)
    assert list(empty.columns) == list(found.columns)
    assert len(empty) == 0


def test_scores_are_computed_in_blocks_of_users(recommender, monkeypatch):
    expected = recommender.recommend(k=5)
    monkeypatch.setattr(topk, "SCORES_AT_ONCE", 3 * 61)
    sizes, score = [], recommender._scores
    monkeypatch.setattr(recommender, "_scores", lambda users: sizes.append(len(users)) or score(users))
    pd.testing.assert_frame_equal(recommender.recommend(k=5), expected)
    assert max(sizes) == 3
    assert sum(sizes) == 80


@pytest.mark.parametrize(
    ("users", "message"),
    [
        (["u1", "U2"], r"1 of 2 users are not in the data set 'planted' .*: 'U2'\. Did you mean u2"),
        ([1, "u2"], "1 of 2 users .*: '1'"),
        (["nobody", "u1", "x"], "2 of 3 users .*: 'nobody', 'x'"),
    ],
)
def test_unknown_users_are_named(recommender, users, message):
    with pytest.raises(ConfigurationError, match=message):
        recommender.recommend(users)


@pytest.mark.parametrize("k", [0, -1, 2.5, "3", True])
def test_a_wrong_k_is_refused(recommender, k):
    with pytest.raises(ConfigurationError, match="k must be a whole number of at least 1"):
        recommender.recommend(k=k)
    with pytest.raises(ConfigurationError, match="k must be a whole number of at least 1"):
        recommender.similar("i1", k=k)


def test_equal_scores_stand_in_the_order_of_items():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 4, (200, 37), generator=generator).float()
    scores[torch.rand(scores.shape, generator=generator) < 0.4] = -torch.inf
    scores[0] = -torch.inf
    scores[1] = 1.0
    for k in (1, 5, 36, 37):
        values, columns = topk.stable_topk(scores, k)
        for row, found, best in zip(scores.tolist(), columns.tolist(), values.tolist(), strict=True):
            order = [i for i in sorted(range(37), key=lambda i: (-row[i], i)) if row[i] > -np.inf][:k]
            assert found[: len(order)] == order
            assert best == [row[i] for i in order] + [-np.inf] * (k - len(order))


def test_scores_that_are_not_finite_are_refused(vbpr, tmp_path):
    state = read_checkpoint(vbpr)
    for table in state["state_dict"].values():
        if table.shape[:1] == (81,):
            table[5] = torch.nan
    state.pop("format")
    write_checkpoint(state, tmp_path / "broken.pth")
    broken = load(tmp_path / "broken.pth")
    with pytest.raises(CheckpointError, match="scores of 1 users are not all finite"):
        broken.recommend(k=3)


# -- every model ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*list_models(), *PRODUCTS])
def test_scores_are_products_of_the_embeddings(name, planted_path, tmp_path):
    found = load(train(planted_path, tmp_path, name))
    rows, scores = found.embeddings(), all_scores(found)
    assert rows.user.shape[0] == 80
    assert rows.item.shape[0] == 60
    assert rows.user.dtype == rows.item.dtype == np.float32
    assert sorted(rows.item_tokens) == sorted(f"i{i}" for i in range(60))
    np.testing.assert_allclose(rows.user @ rows.item.T, scores, rtol=1e-5, atol=1e-6 * np.abs(scores).max())
    assert list(found.recommend(k=6).itertuples(index=False, name=None)) == naive(found, planted_seen(), 6)


@pytest.mark.parametrize("name", OTHERS)
def test_models_that_score_otherwise_recommend_and_have_no_embeddings(name, planted_path, tmp_path):
    found = load(train(planted_path, tmp_path, name, **OTHERS[name]))
    rows = found.recommend(k=6)
    if name == "NeuMF":  # scores pairs alone
        user, item = (torch.arange(1, n + 1) for n in (80, 60))
        pairs = torch.cartesian_prod(user, item)
        with torch.no_grad():
            scores = found.model.predict(Interaction({"user_id": pairs[:, 0], "item_id": pairs[:, 1]})).view(80, 60)
        table = pd.DataFrame(scores.numpy(), index=found.user_tokens, columns=found.item_tokens)
        expected = [table.at[u, i] for u, i in zip(rows["user_id"], rows["item_id"], strict=True)]
        np.testing.assert_allclose(rows["score"], expected, rtol=1e-5)
        assert not planted_seen() & set(zip(rows["user_id"], rows["item_id"], strict=True))
        assert len(rows) == 80 * 6
    else:
        assert list(rows.itertuples(index=False, name=None)) == naive(found, planted_seen(), 6)
    reason = "not inner products" if name == "ENMF" else "it has no embeddings"
    for call in (found.embeddings, lambda: found.similar("i1"), lambda: found.export(tmp_path / "out")):
        with pytest.raises(ConfigurationError, match=reason):
            call()
    assert not (tmp_path / "out").exists()


def test_a_model_of_a_checkout_of_mmrec_recommends(planted_path, tmp_path):
    checkout = ROOT / "tests" / "bridge" / "standin"
    checkpoint = train(planted_path, tmp_path, "mmrec:PlainBPR", mmrec_path=str(checkout))
    found = load(checkpoint)
    assert list(found.recommend(k=6).itertuples(index=False, name=None)) == naive(found, planted_seen(), 6)
    with pytest.raises(ConfigurationError, match="PlainBPR holds no row a user"):
        found.embeddings()
    done = in_another_process("recommend", checkpoint, "--k=6", f"--out={tmp_path / 'there.csv'}")
    assert done.returncode == 0, done.stderr[-2000:]
    found.recommend(k=6).to_csv("here.csv", index=False)
    assert (tmp_path / "there.csv").read_bytes() == Path("here.csv").read_bytes()


@pytest.mark.parametrize(
    ("score", "refused"),
    [
        (lambda user, item: user @ item.T, False),
        (lambda user, item: user @ item.T + torch.linspace(0, 0.01, 30), True),
        (lambda user, item: torch.sigmoid(user @ item.T), True),
        (lambda user, item: torch.nn.functional.normalize(user) @ item.T, True),
    ],
)
def test_tables_are_compared_with_the_scores(score, refused):
    torch.manual_seed(0)
    model = torch.nn.Module()
    model.n_users, model.n_items = 20, 30
    model.user_embedding, model.item_embedding = torch.nn.Embedding(20, 4), torch.nn.Embedding(30, 4)
    user, item = model.user_embedding.weight.detach(), model.item_embedding.weight.detach()
    if not refused:
        found = product_tables(model, lambda users: score(user[users], item))
        assert torch.equal(found[0], user)
        assert torch.equal(found[1], item)
        return
    with pytest.raises(ConfigurationError, match="of user_embedding and item_embedding they are off by up to"):
        product_tables(model, lambda users: score(user[users], item))


# -- similar ----------------------------------------------------------------------------------------------------------


def test_similar_items_are_those_of_a_naive_loop(recommender):
    rows = recommender.embeddings()
    found = recommender.similar(["i3", "i40"], k=4)
    assert list(found.columns) == ["item_id", "similar_item", "rank", "score"]
    expected = []
    for token in ("i3", "i40"):
        mine = rows.item[list(rows.item_tokens).index(token)]
        cosine = rows.item @ mine / np.linalg.norm(rows.item, axis=1) / np.linalg.norm(mine)
        order = [i for i in np.argsort(-cosine) if rows.item_tokens[i] != token][:4]
        expected += [(token, rows.item_tokens[i], rank, cosine[i]) for rank, i in enumerate(order, start=1)]
    assert [row[:3] for row in found.itertuples(index=False, name=None)] == [row[:3] for row in expected]
    np.testing.assert_allclose(found["score"], [row[3] for row in expected], rtol=1e-5)
    _, _, item_group, _ = planted()
    assert np.mean([item_group[int(t[1:])] == item_group[3] for t in recommender.similar("i3", k=5)["similar_item"]]) >= 0.8


def test_all_other_items_may_be_asked_for(recommender):
    with pytest.warns(FewerItemsWarning, match="1 of 1 items have fewer than 500 other items in the data set"):
        found = recommender.similar("i3", k=500)
    assert sorted([*found["similar_item"], "i3"]) == sorted(recommender.item_tokens)


def test_unknown_items_and_rows_of_zeros_are_named(recommender, bpr):
    with pytest.raises(ConfigurationError, match=r"1 of 2 items are not .*: 'I3'\. Did you mean i3"):
        recommender.similar(["i4", "I3"])
    own = load(bpr)
    own.model.item_embedding.weight.data[1:3] = 0
    zero, other = own.item_tokens[0], own.item_tokens[7]
    with pytest.raises(ConfigurationError, match=f"1 items have an embedding of zeros, .*: {zero}"):
        own.similar(zero)
    found = own.similar(other, k=59)
    assert (found.loc[found["similar_item"].isin(own.item_tokens[:2]), "score"] == 0).all()


# -- export -----------------------------------------------------------------------------------------------------------


def test_an_export_holds_arrays_tokens_and_an_index(recommender, tmp_path):
    faiss = pytest.importorskip("faiss")
    folder = recommender.export(tmp_path / "made" / "out", faiss_index=True)
    assert sorted(p.name for p in folder.iterdir()) == ["items.faiss", "items.npy", "items.tokens", "users.npy", "users.tokens"]
    assert [p.name for p in folder.parent.iterdir()] == ["out"]
    user, item = np.load(folder / "users.npy"), np.load(folder / "items.npy")
    users, items = ((folder / f"{name}.tokens").read_text().split("\n")[:-1] for name in ("users", "items"))
    assert user.dtype == item.dtype == np.float32
    assert (len(users), len(items)) == (user.shape[0], item.shape[0]) == (80, 60)
    index = faiss.read_index(str(folder / "items.faiss"))
    _, best = index.search(user, 3)
    everything = recommender.recommend(k=3, keep_seen=True)
    assert [items[i] for row in best for i in row] == list(everything["item_id"])
    assert users == list(dict.fromkeys(everything["user_id"]))


def test_an_export_is_whole_or_not_there(recommender, tmp_path, monkeypatch):
    save, calls = np.save, []

    def fail_later(*args):
        calls.append(args)
        if len(calls) % 2 == 0:
            raise OSError("no space left")
        save(*args)

    monkeypatch.setattr(np, "save", fail_later)
    with pytest.raises(ConfigurationError, match=r"cannot write .*out: no space left"):
        recommender.export(tmp_path / "out")
    assert list(tmp_path.glob("*out*")) == []
    monkeypatch.undo()
    recommender.export(tmp_path / "out")
    before = (tmp_path / "out" / "users.npy").read_bytes()
    with pytest.raises(ConfigurationError, match="already there"):
        recommender.export(tmp_path / "out")
    monkeypatch.setattr(np, "save", fail_later)
    with pytest.raises(ConfigurationError, match="cannot write"):
        recommender.export(tmp_path / "out", force=True)
    assert (tmp_path / "out" / "users.npy").read_bytes() == before
    monkeypatch.undo()
    (tmp_path / "out" / "items.faiss").write_bytes(b"old")
    recommender.export(tmp_path / "out", force=True)
    assert not (tmp_path / "out" / "items.faiss").exists()


def test_a_folder_of_other_things_is_never_replaced(recommender, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigurationError, match=r"of no export \(thesis.txt\)"):
        recommender.export(tmp_path / "home", force=True)
    with pytest.raises(ConfigurationError, match="is a file"):
        recommender.export(tmp_path / "home" / "thesis.txt", force=True)
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"


def test_an_index_without_faiss_says_what_to_install(recommender, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'recbole_ib\[faiss\]'"):
        recommender.export(tmp_path / "out", faiss_index=True)
    assert not (tmp_path / "out").exists()


def test_arrays_are_the_callers_own(bpr):
    own = load(bpr)
    rows, before = own.embeddings(), all_scores(own)
    rows.user[:], rows.item[:] = 0, 0
    np.testing.assert_array_equal(all_scores(own), before)


# -- loading ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def moved(tmp_path):
    """A data path, a checkpoint of VBPR on its data set ``planted``."""
    pairs, modalities, _, _ = planted()
    path = write_dataset(tmp_path / "data", "planted", pairs, modalities)
    return path, train(path, tmp_path / "saved")


def test_data_that_changed_since_are_refused(moved):
    path, checkpoint = moved
    inter = path / "planted" / "planted.inter"
    before = inter.read_text()
    taken = planted_seen()
    new = next(f"u0\ti{i}\n" for i in range(60) if ("u0", f"i{i}") not in taken)
    inter.write_text(before + new)
    with pytest.raises(CheckpointError, match=r"interactions or features of 'planted' .* are not those"):
        load(checkpoint)
    inter.write_text(before)
    load(checkpoint)
    np.save(path / "planted" / "text.npy", np.load(path / "planted" / "text.npy") + 1)
    with pytest.raises(CheckpointError, match=r"interactions or features of 'planted' .* are not those"):
        load(checkpoint)


def test_data_that_moved_are_found_by_data_path(moved, tmp_path):
    path, checkpoint = moved
    expected = load(checkpoint).recommend(k=3)
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match=r"no data set 'planted': .*--data_path=DIR says where"):
        load(checkpoint)
    pd.testing.assert_frame_equal(load(checkpoint, data_path=tmp_path / "elsewhere").recommend(k=3), expected)
    (tmp_path / "elsewhere" / "planted" / "planted.inter").unlink()
    with pytest.raises(CheckpointError, match="cannot be read as the run of"):
        load(checkpoint, data_path=tmp_path / "elsewhere")


def test_another_json_beside_the_checkpoint_is_no_manifest(vbpr, tmp_path):
    mine = tmp_path / "mine.pth"
    mine.write_bytes(Path(vbpr).read_bytes())
    mine.with_suffix(".json").write_text('{"format": "recbole_ib run 1"}')
    assert len(load(mine).recommend(k=1))


def test_sizes_that_do_not_fit_a_recbole_model_are_refused(tmp_path):
    pairs, _, _, _ = planted()
    checkpoint = train(write_dataset(tmp_path / "data", "planted", pairs, {}), tmp_path / "saved", "BPR")
    inter = tmp_path / "data" / "planted" / "planted.inter"
    inter.write_text(inter.read_text() + "u0\ti999\n")
    with pytest.raises(CheckpointError, match="are not those that"):
        load(checkpoint)
    # without its manifest the sizes alone tell
    Path(checkpoint).with_suffix(".json").unlink()
    with pytest.raises(CheckpointError, match="does not fit BPR on its data set"):
        load(checkpoint)


def test_the_manifest_tells_of_a_test_set_that_alone_has_changed(tmp_path):
    pairs, modalities, _, _ = planted()
    data = write_dataset(tmp_path / "data", "planted", pairs, modalities, benchmark_filename=["train", "valid", "test"])
    folder = data / "planted"
    header, *lines = (folder / "planted.inter").read_text().splitlines()
    for i, part in enumerate(("train", "valid", "test")):
        (folder / f"planted.{part}.inter").write_text("\n".join([header, *lines[i::3]]) + "\n")
    checkpoint = train(data, tmp_path / "saved", "VBPR")
    load(checkpoint)
    test = folder / "planted.test.inter"
    test.write_text("\n".join(test.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(CheckpointError, match="are not those that"):
        load(checkpoint)


def test_loading_leaves_the_process_and_the_folder_as_they_were(vbpr, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    folder = Path(vbpr).parent
    files, state = sorted(folder.rglob("*")), (torch.get_rng_state(), np.random.get_state()[1].copy())
    load(vbpr, device="cpu").recommend(k=2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert sorted(folder.rglob("*")) == files
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])
    assert list(Path.cwd().iterdir()) == []


class Touch:
    """Runs code where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_pickle_beside_the_checkpoint_is_read(vbpr, tmp_path):
    shutil.copy(vbpr, tmp_path / "run.pth")
    for name in ("planted-MultimodalDataset.pth", "planted-VBPRDataset.pth", "planted-for-VBPR-dataloader.pth"):
        (tmp_path / name).write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    load(tmp_path / "run.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("device", "message"), [("nonsense", "device is 'nonsense'"), ("cuda:63", "torch sees .* GPUs here")])
def test_a_device_that_is_not_there_is_refused(vbpr, device, message):
    with pytest.raises(ConfigurationError, match=message):
        load(vbpr, device=device)


def test_files_that_are_no_checkpoint_are_named(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load(tmp_path / "none.pth")
    torch.save({"config": SimpleNamespace()}, tmp_path / "other.pth", pickle_protocol=4)
    with pytest.raises(CheckpointError, match=TRUST_VARIABLE):
        load(tmp_path / "other.pth")
    monkeypatch.setenv(TRUST_VARIABLE, "1")
    with pytest.raises(CheckpointError, match="holds no configuration"):
        load(tmp_path / "other.pth")


def test_a_sequential_model_is_refused(tmp_path, planted_path, monkeypatch):
    config = Config("GRU4Rec", "planted", config_dict={"data_path": str(planted_path), "train_neg_sample_args": None})
    torch.save({"config": config, "state_dict": {}}, tmp_path / "gru.pth", pickle_protocol=4)
    monkeypatch.setenv(TRUST_VARIABLE, "1")
    with pytest.raises(ConfigurationError, match="GRU4Rec, a sequential recommender"):
        load(tmp_path / "gru.pth")


def test_a_checkpoint_of_plain_recbole_is_read_with_its_own_settings(planted_path, tmp_path):
    from recbole.config import Config as RecBoleConfig
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    settings = {"data_path": str(planted_path), "checkpoint_dir": str(tmp_path), "epochs": 1, "show_progress": False}
    sys.argv = sys.argv[:1]
    config = RecBoleConfig("BPR", "planted", config_dict={**settings, "load_col": {"inter": ["user_id", "item_id"]}})
    init_seed(config["seed"], True)
    train_data, valid_data, _ = data_preparation(config, create_dataset(config))
    model = get_model("BPR")(config, train_data._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], "BPR")(config, model)
    trainer.fit(train_data, valid_data, verbose=False, saved=True)
    found = load(trainer.saved_model_file)
    assert found.config["eval_args"]["split"] == config["eval_args"]["split"]
    assert torch.equal(found.model.user_embedding.weight, model.user_embedding.weight)
    assert list(found.recommend(k=6).itertuples(index=False, name=None)) == naive(found, planted_seen(), 6)


# -- tokens that look like numbers ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    """BPR on tokens such as 007 and 7, under field names of the data set's own."""
    folder = tmp_path_factory.mktemp("numbers")
    here = folder / "data" / "numbers"
    here.mkdir(parents=True)
    users, items = [f"{u:03d}" for u in range(10)] + ["7", "1e3", "-0"], [f"{i:02d}" for i in range(12)] + ["1.0", 'a,"b"']
    rng = np.random.default_rng(0)
    taken = [f"{u}\t{i}" for u in users for i in items if rng.random() < 0.4]
    (here / "numbers.inter").write_text("\n".join(["reader:token\tbook:token", *taken]) + "\n")
    fields = {"USER_ID_FIELD": "reader", "ITEM_ID_FIELD": "book", "load_col": {"inter": ["reader", "book"]}}
    fields |= {"topk": [5], "valid_metric": "Recall@5"}
    return train(folder / "data", folder / "saved", "BPR", "numbers", **fields), {tuple(line.split("\t")) for line in taken}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_tokens_stay_text_in_files(numbers, tmp_path, ending, capsys):
    checkpoint, taken = numbers
    (tmp_path / "users.txt").write_text("007\n\n7\n1e3\n  \n-0\n")
    out = tmp_path / f"recs.{ending}"
    assert main.main(["recommend", checkpoint, "--users", str(tmp_path / "users.txt"), "--k=3", f"--out={out}"]) == 0
    assert capsys.readouterr().out == f"4 users, 12 rows: {out}\n"
    text = {"reader": str, "book": str}
    found = pd.read_csv(out, dtype=text) if ending == "csv" else pd.read_parquet(out)
    assert list(found.columns) == ["reader", "book", "rank", "score"]
    assert list(dict.fromkeys(found["reader"])) == ["007", "7", "1e3", "-0"]
    expected = load(checkpoint).recommend(["007", "7", "1e3", "-0"], k=3)
    assert list(found["book"]) == list(expected["book"])
    assert list(found["rank"]) == [1, 2, 3] * 4
    np.testing.assert_array_equal(found["score"].astype(np.float32), expected["score"])
    assert not taken & set(zip(found["reader"], found["book"], strict=True))


# -- commands ---------------------------------------------------------------------------------------------------------


def test_the_command_writes_all_users(vbpr, recommender, tmp_path, capsys):
    out = tmp_path / "recs.csv"
    out.write_text("old")
    assert main.main(["recommend", vbpr, "--k", "4", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"80 users, 320 rows: {out}\n"
    found = pd.read_csv(out, dtype={"user_id": str, "item_id": str})
    pd.testing.assert_frame_equal(found.astype({"score": np.float32}), recommender.recommend(k=4))
    assert main.main(["recommend", vbpr, "--k", "60", "--keep-seen", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"80 users, {80 * 60} rows: {out}\n"
    assert main.main(["recommend", vbpr, "--k", "61", "--keep-seen", "--out", str(out)]) == 0
    assert "80 of 80 users have fewer than 61 items" in capsys.readouterr().err


def test_unknown_users_of_a_file_are_named_by_line(vbpr, tmp_path, capsys):
    users, out = tmp_path / "users.txt", tmp_path / "recs.csv"
    users.write_text("\ufeffu1\n\nu99\nu2\r\nu1\nx\n", encoding="utf-8")
    words = ["recommend", vbpr, f"--users={users}", "--k=2", f"--out={out}"]
    assert main.main(words) == 1
    message = capsys.readouterr().err
    assert "2 of 5 users are not in the data set 'planted' of the run (line 3: 'u99', line 6: 'x')" in message
    assert "Did you mean u9" in message
    assert "--skip-unknown" in message
    assert not out.exists()
    assert main.main([*words, "--skip-unknown"]) == 0
    captured = capsys.readouterr()
    assert "2 of 5 users are not in the data set" in captured.err
    assert captured.out == f"2 users, 4 rows: {out}\n"
    assert list(pd.read_csv(out)["user_id"]) == ["u1", "u1", "u2", "u2"]
    users.write_text("x\n")
    assert main.main([*words, "--skip-unknown"]) == 1
    assert "nobody is left" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out=recs.txt"], "must end in .parquet or .csv"),
        (["--out=recs"], "must end in .parquet or .csv"),
        (["--out=none/recs.csv"], "no folder none"),
        (["--out=recs.csv", "--skip-unknown"], "--skip-unknown goes with --users"),
        (["--out=recs.csv", "--users=none.txt"], "cannot read none.txt"),
        (["--out=recs.csv", "--users=empty.txt"], "empty.txt holds no user"),
        (["--out=recs.csv", "--users=latin.txt"], "no UTF-8 text"),
        (["--out=folder.csv"], "is a folder"),
    ],
)
def test_what_is_wrong_is_said_before_the_model_is_read(words, message, capsys):
    Path("empty.txt").write_text("\n \n")
    Path("latin.txt").write_bytes("é".encode("latin-1"))
    Path("folder.csv").mkdir()
    assert main.main(["recommend", "no-such.pth", *words]) == 1
    assert message in capsys.readouterr().err
    assert not Path("recs.csv").exists()


@pytest.mark.parametrize("k", ["0", "-3", "two", "1.5"])
def test_a_wrong_k_of_a_command_is_refused(k, capsys):
    assert main.main(["recommend", "run.pth", f"--k={k}", "--out=recs.csv"]) == 2
    assert "a whole number of at least 1 is needed" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_file_is_whole_or_not_there(vbpr, tmp_path, ending, capsys, monkeypatch):
    out = tmp_path / f"recs.{ending}"

    def break_off(frame, path, **settings):
        Path(path).write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, f"to_{ending}", break_off)
    assert main.main(["recommend", vbpr, f"--out={out}"]) == 1
    assert f"cannot write {out}: No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_similar_items_are_printed(vbpr, recommender, capsys):
    assert main.main(["similar", vbpr, "i3", "i4", "--k=2"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["item_id", "similar_item", "rank", "score"]
    expected = recommender.similar(["i3", "i4"], k=2)
    assert lines[1:] == [[a, b, str(r), f"{s:.4f}"] for a, b, r, s in expected.itertuples(index=False)]
    assert main.main(["similar", vbpr, "i3", "i444"]) == 1
    assert "Did you mean i44" in capsys.readouterr().err


def test_the_export_command(vbpr, tmp_path, capsys):
    pytest.importorskip("faiss")
    out = tmp_path / "out"
    assert main.main(["export", vbpr, str(out), "--faiss"]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 80 users, 60 items, ")
    assert (out / "items.faiss").is_file()
    assert main.main(["export", vbpr, str(out)]) == 1
    assert "already there" in capsys.readouterr().err
    assert main.main(["export", vbpr, str(out), "--force"]) == 0
    assert not (out / "items.faiss").exists()


@pytest.mark.parametrize("command", ["recommend", "similar", "export"])
def test_help_of_the_commands(command, capsys):
    assert main.main([command, "--help"]) == 0
    assert f"recbole-ib {command}" in capsys.readouterr().out


def in_another_process(*words, trust=False):
    env = environment(**{TRUST_VARIABLE: "1" if trust else ""})
    return fresh_python("-m", "recbole_ib", *words, env=env)


def test_another_process_gives_the_same_recommendations(vbpr, recommender, tmp_path):
    done = in_another_process("recommend", vbpr, "--k=5", f"--out={tmp_path / 'there.csv'}")
    assert done.returncode == 0, done.stderr[-2000:]
    recommender.recommend(k=5).to_csv("here.csv", index=False)
    assert (tmp_path / "there.csv").read_bytes() == Path("here.csv").read_bytes()


def test_another_process_reads_a_recbole_model_by_consent_alone(bpr, tmp_path):
    out = tmp_path / "there.csv"
    done = in_another_process("recommend", bpr, "--k=5", f"--out={out}")
    assert done.returncode == 1
    assert f"set the environment variable {TRUST_VARIABLE}=1" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()
    done = in_another_process("recommend", bpr, "--k=5", f"--out={out}", trust=True)
    assert done.returncode == 0, done.stderr[-2000:]
    load(bpr).recommend(k=5).to_csv("here.csv", index=False)
    assert out.read_bytes() == Path("here.csv").read_bytes()


def test_faiss_is_not_imported_before_it_is_needed():
    script = "import recbole_ib, sys; assert 'faiss' not in sys.modules; assert callable(recbole_ib.load)"
    done = fresh_python("-c", script)
    assert done.returncode == 0, done.stderr
    assert "load" in recbole_ib.__all__

"""Recommendations and similar items of trained models, against naive references."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_ib import list_models, load
from recbole_ib.errors import CheckpointError, ConfigurationError
from recbole_ib.inference.embeddings import product_tables
from recbole_ib.inference.recommender import FewerItemsWarning
from recbole_ib.ops import topk
from recbole_ib.training.checkpoint import read_checkpoint, write_checkpoint
from tests.support.datasets import planted, write_dataset
from tests.support.recommend import all_scores, in_another_process, naive, planted_seen, train

ROOT = Path(__file__).resolve().parents[2]
#: RecBole's own: scores that are products of rows, and scores that are not
PRODUCTS = ("BPR", "LightGCN", "SGL")
OTHERS = {"ENMF": {"train_neg_sample_args": None}, "NeuMF": {}, "Pop": {}, "ItemKNN": {"k": 5}, "DMF": {}}


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
    with pytest.raises(CheckpointError, match="never says which folder to import: give yours with --mmrec_path"):
        load(checkpoint)
    found = load(checkpoint, mmrec_path=checkout)
    assert list(found.recommend(k=6).itertuples(index=False, name=None)) == naive(found, planted_seen(), 6)
    with pytest.raises(ConfigurationError, match="PlainBPR holds no row a user"):
        found.embeddings()
    done = in_another_process("recommend", checkpoint, "--k=6", f"--mmrec_path={checkout}", f"--out={tmp_path / 'there.csv'}")
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

"""Exports of embeddings: what they hold, whole or not there."""

import sys

import numpy as np
import pytest

from recbole_ib import load
from recbole_ib.errors import ConfigurationError
from tests.support.recommend import all_scores


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

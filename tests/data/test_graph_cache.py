"""Item graphs kept for other runs: the same graph, found again, never stale, and no reason to fail."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_ib import run_recbole_ib
from recbole_ib.data import graph_cache
from recbole_ib.data.graph_cache import cosine_graph
from tests.support.datasets import planted, write_dataset


@pytest.fixture
def small(monkeypatch):
    """Graphs of any size are kept; the searches that were made."""
    monkeypatch.setattr(graph_cache, "KEEP_FROM", 1)
    searched, search = [], graph_cache.cosine_knn
    monkeypatch.setattr(graph_cache, "cosine_knn", lambda *args: searched.append(args) or search(*args))
    return searched


def features(seed=0, n=30):
    table = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    table[0] = 0
    valid = torch.ones(n, dtype=torch.bool)
    valid[0] = False
    return table, valid


def test_a_kept_graph_is_the_computed_one(small, tmp_path):
    table, valid = features()
    first = cosine_graph(table, 4, valid, "exact", tmp_path / "cache")
    again = cosine_graph(table, 4, valid, "exact", tmp_path / "cache")
    plain = cosine_graph(table, 4, valid, "exact", None)
    assert len(small) == 2
    for graph in (again, plain):
        np.testing.assert_array_equal(graph.toarray(), first.toarray())
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_whatever_decides_the_graph_decides_the_file(small, tmp_path):
    table, valid = features()
    other_valid = valid.clone()
    other_valid[3] = False
    cases = [(table, 4, valid, "exact"), (table, 5, valid, "exact"), (table + 1e-6, 4, valid, "exact"), (table, 4, other_valid, "exact"),
             (table, 4, valid, "auto"), (table.half(), 4, valid, "exact")]  # fmt: skip
    for case in cases:
        cosine_graph(*case, tmp_path)
    assert len(small) == len(cases) == len(list(tmp_path.iterdir()))


@pytest.mark.parametrize("content", [b"", b"half of a file"])
def test_a_damaged_file_is_computed_again_and_said(content, small, tmp_path, caplog):
    table, valid = features()
    first = cosine_graph(table, 4, valid, "exact", tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    again = cosine_graph(table, 4, valid, "exact", tmp_path)
    np.testing.assert_array_equal(again.toarray(), first.toarray())
    assert "is damaged" in caplog.text
    cosine_graph(table, 4, valid, "exact", tmp_path)
    assert len(small) == 2


def test_a_folder_that_cannot_be_written_is_no_reason_to_fail(small, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    table, valid = features()
    graph = cosine_graph(table, 4, valid, "exact", tmp_path / "file" / "cache")
    assert graph.nnz == 29 * 4
    assert "not kept for other runs" in caplog.text


def test_small_graphs_are_not_kept(tmp_path):
    table, valid = features()
    cosine_graph(table, 4, valid, "exact", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("n_items", "kept"), [(4_999, 0), (5_000, 1)])
def test_graphs_are_kept_from_five_thousand_items_on(n_items, kept, tmp_path, monkeypatch):
    """As the README says."""
    one_edge = torch.tensor([1]), torch.tensor([2]), torch.tensor([0.5])
    monkeypatch.setattr(graph_cache, "cosine_knn", lambda *args: one_edge)
    table, valid = features(n=n_items)
    graph = cosine_graph(table, 4, valid, "exact", tmp_path)
    assert (graph.shape, graph.nnz) == ((n_items, n_items), 1)
    assert len(list(tmp_path.iterdir())) == kept


def test_a_second_run_finds_the_first_ones_graphs(small, tmp_path):
    pairs, modalities, *_ = planted()
    data = write_dataset(tmp_path / "data", "tiny", pairs, modalities)
    given = {"data_path": str(data), "epochs": 1, "show_progress": False, "state": "ERROR"}
    first = run_recbole_ib("FREEDOM", "tiny", config_dict=given)
    assert len(small) == 2
    second = run_recbole_ib("FREEDOM", "tiny", config_dict=given)
    assert len(small) == 2
    assert first["best_valid_result"] == second["best_valid_result"]
    # a plug-in's masked features are no other run's
    before = len(list((data / "tiny" / ".recbole_ib_cache").iterdir()))
    short = {"pretrain_epochs": 1, "invrl_rounds": 1, "environment_epochs": 1, "environment_repeats": 1, "mask_epochs": 1}
    run_recbole_ib("InvRL", "tiny", config_dict={**given, **short, "n_environments": 2, "knn_k": 10})
    assert len(list((data / "tiny" / ".recbole_ib_cache").iterdir())) == before

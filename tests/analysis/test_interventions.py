"""Modalities that are shuffled or removed: in the data set, in trained tables, in an item graph."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_ib.analysis.decompose import TrainedModel, decompose
from recbole_ib.analysis.interventions import Removed, Shuffled, alter_trained_tables, altered_dataset
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.layers.encoder import LinearEncoder
from tests.support.datasets import planted, write_dataset
from tests.support.decomposition import train


def test_a_shuffle_deals_rows_out_among_the_items_that_have_one():
    known = torch.tensor([False, True, True, False, True, True, True])
    table = torch.arange(7.0)[:, None].repeat(1, 2)
    change = Shuffled(known, np.random.default_rng(3))
    moved = change.table(table)[:, 0]
    assert sorted(moved.tolist()) == list(range(7))
    assert moved[0] == 0
    assert moved[3] == 3
    assert moved.tolist() != list(range(7))
    dense = np.arange(49.0).reshape(7, 7)
    graph = change.graph(sp.csr_array(dense)).toarray()
    source = change.source.numpy()
    assert all(graph[i, j] == dense[source[i], source[j]] for i in range(7) for j in range(7))


def test_a_removed_modality_is_its_mean_row_without_neighbors():
    known = torch.tensor([False, True, True, False])
    table = torch.tensor([[0.0], [1.0], [3.0], [100.0]])
    change = Removed(known)
    assert change.table(table).flatten().tolist() == [0, 2, 2, 2]
    assert table.flatten().tolist() == [0, 1, 3, 100]
    assert change.known(known).tolist() == [False, False, True, False]
    assert change.graph(sp.csr_array(np.ones((4, 4)))).toarray().tolist() == np.diag([0, 1, 1, 1]).tolist()


def test_the_data_set_itself_is_not_changed(build):
    _, _, loader, _, _ = build("VBPR")
    dataset = loader._dataset
    before = {m: table.clone() for m, table in dataset.modalities.items()}
    view = altered_dataset(dataset, {"text": Removed(dataset.has_feature["text"])})
    assert torch.equal(view.modalities["visual"], before["visual"])
    assert view.has_feature["text"].sum() == 1
    assert dataset.has_feature["text"][1:].all()
    assert all(torch.equal(table, dataset.modalities[m]) for m, table in before.items())


def test_trained_tables_are_changed_by_modality_also_side_by_side():
    features = {"a": torch.randn(5, 2), "b": torch.randn(5, 3)}
    widths = {"a": 2, "b": 3}
    known = torch.tensor([False, True, True, True, True])
    apart = LinearEncoder(features, 4, tuned=True)
    together = LinearEncoder({"content": torch.cat(list(features.values()), dim=1)}, 4, tuned=True)
    frozen = LinearEncoder(features, 4)
    for network in (apart, together, frozen):
        alter_trained_tables(network, widths, {"b": Removed(known)})
    expected = Removed(known).table(features["b"])
    assert torch.equal(apart.table("a"), features["a"])
    assert torch.equal(apart.table("b"), expected)
    assert torch.equal(together.table("content"), torch.cat([features["a"], expected], dim=1))
    assert torch.equal(frozen.table("b"), features["b"])
    odd = LinearEncoder({"other": torch.randn(5, 4)}, 4, tuned=True)
    with pytest.raises(ConfigurationError, match="trained table 'other' has 4 columns"):
        alter_trained_tables(odd, widths, {"b": Removed(known)})


def test_what_a_model_trained_in_its_tables_is_shuffled_and_removed_too(planted_path):
    model = TrainedModel(train(planted_path, "MGCN", learning_rate=0.01)["checkpoint"], "test")
    known = model.dataset.has_feature["text"]
    learned = model.network({}).encoder.table("text")
    assert not torch.equal(learned, model.dataset.modalities["text"])
    change = Shuffled(known, np.random.default_rng(0))
    assert torch.equal(model.network({"text": change}).encoder.table("text"), learned[change.source])
    flat = model.network({"text": Removed(known)}).encoder.table("text")[1:]
    torch.testing.assert_close(flat, learned[1:].mean(dim=0).expand_as(flat))


def test_a_ready_item_graph_follows_its_modality(tmp_path):
    pairs, modalities, _, _ = planted()
    path = write_dataset(tmp_path / "data", "ready", pairs, modalities)
    weights = np.random.default_rng(1).random((60, 60)).astype(np.float32)
    sp.save_npz(path / "ready" / "text.npz", sp.csr_array(weights))
    entries = {m: {"file": f"{m}.npy", "tokens": f"{m}.tokens"} for m in modalities}
    entries["text"]["item_graph_file"] = "text.npz"
    result = train(path, "FREEDOM", "ready", modalities=entries)
    model = TrainedModel(result["checkpoint"], "test")
    known = model.dataset.has_feature["text"]

    def edges(changes):
        graph = model.network(changes).frozen_graph
        here = graph.values[model.modalities.index("text")] != 0
        return set(zip(graph.structure.rows[here].tolist(), graph.structure.cols[here].tolist(), strict=True))

    change = Shuffled(known, np.random.default_rng(0))
    source, trained_on = change.source.tolist(), edges({})
    assert len(trained_on) == 60 * 5
    assert {(source[i], source[j]) for i, j in edges({"text": change})} == trained_on
    assert edges({"text": Removed(known)}) == {(i, i) for i in range(1, 61)}
    assert decompose(result["checkpoint"], repeats=1).row("all").values == result["test_result"]

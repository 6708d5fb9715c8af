import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_ib.graph import FrozenItemGraph, LearnedItemGraph, ModalityWeights, cosine_knn, item_graph


def dense_knn(features, k):
    rows, cols, values = cosine_knn(features, k)
    dense = torch.zeros(len(features), len(features))
    dense[rows, cols] = values
    return dense


def normalized(dense):
    degree = dense.sum(1)
    root = torch.where(degree > 0, degree.clamp_min(1e-12).rsqrt(), torch.zeros_like(degree))
    return dense * root[:, None] * root[None, :]


def to_dense(graph):
    n = graph.structure.n_nodes
    dense = torch.zeros(n, n)
    dense[graph.structure.rows, graph.structure.cols] = graph.weights.detach()
    return dense


@pytest.fixture
def tables():
    torch.manual_seed(0)
    made = {"a": torch.rand(15, 4), "b": torch.rand(15, 6)}
    for t in made.values():
        t[0] = 0
    return made


def csr(dense):
    return sp.csr_array(dense.numpy())


@pytest.mark.parametrize("order", ["mix_first", "normalize_first"])
def test_frozen_graph_equals_the_dense_formula(tables, order):
    dense = {m: dense_knn(t, 4) for m, t in tables.items()}
    graph = FrozenItemGraph({m: csr(d) for m, d in dense.items()}, ModalityWeights(["a", "b"], {"a": 1.0, "b": 3.0}), order)
    if order == "mix_first":
        expected = normalized(0.25 * dense["a"] + 0.75 * dense["b"])
    else:
        expected = 0.25 * normalized(dense["a"]) + 0.75 * normalized(dense["b"])
    torch.testing.assert_close(to_dense(graph()), expected)


def test_modality_weights_are_trained():
    graphs = {m: csr(dense_knn(torch.rand(9, 3), 3)) for m in "ab"}
    weights = ModalityWeights(["a", "b"])
    torch.testing.assert_close(weights().detach(), torch.tensor([0.5, 0.5]))
    graph = FrozenItemGraph(graphs, weights)()
    graph.propagate(torch.randn(9, 2)).square().sum().backward()
    assert weights.logits.grad.abs().min() > 0


@pytest.mark.parametrize("static", [0.0, 0.9, 1.0])
def test_learned_graph_equals_the_dense_build(tables, static):
    latents = {m: torch.rand(15, 5) for m in tables}
    dense = {m: dense_knn(t, 4) for m, t in tables.items()}
    weights = ModalityWeights(["a", "b"])
    graph = LearnedItemGraph({m: csr(d) for m, d in dense.items()}, weights, 4, static)
    valid = {m: t.any(1) for m, t in tables.items()}
    got = graph(latents, valid)
    learned = sum(0.5 * dense_knn(torch.where(valid[m][:, None], z, 0.0), 4) for m, z in latents.items())
    fixed = sum(0.5 * normalized(d) for d in dense.values())
    torch.testing.assert_close(to_dense(got), (1 - static) * normalized(learned) + static * fixed)
    # 2 modalities x K neighbors x (learned + static)
    assert np.bincount(got.structure.rows.numpy()).max() <= 2 * 2 * 4


def test_learned_graph_passes_the_gradient_to_the_latents(tables):
    latents = {m: torch.rand(15, 5, requires_grad=True) for m in tables}
    graphs = {m: csr(dense_knn(t, 4)) for m, t in tables.items()}
    learned = LearnedItemGraph(graphs, ModalityWeights(["a", "b"]), 4, 0.5)
    learned(latents, {m: t.any(1) for m, t in tables.items()}).propagate(torch.randn(15, 3)).square().sum().backward()
    assert all(z.grad.abs().sum() > 0 for z in latents.values())


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"a": 1.0}, "'a', 'b'"),
        ({"a": 1.0, "c": 1.0}, "'a', 'c'"),
        ({"a": -1.0, "b": 2.0}, "negative"),
        ({"a": 0, "b": 0}, "zero"),
    ],
)
def test_wrong_weights_are_refused(fixed, message):
    with pytest.raises(ValueError, match=message):
        ModalityWeights(["a", "b"], fixed)


def test_wrong_order_and_share_are_refused(tables):
    graphs = {m: csr(dense_knn(t, 4)) for m, t in tables.items()}
    with pytest.raises(ValueError, match="mix_first"):
        FrozenItemGraph(graphs, ModalityWeights(["a", "b"]), "both")
    with pytest.raises(ValueError, match=r"1\.5"):
        LearnedItemGraph(graphs, ModalityWeights(["a", "b"]), 4, 1.5)


def test_the_rebuilt_graph_is_searched_as_it_is_told(tables, monkeypatch):
    seen = []

    def watched(features, k, valid, search):
        seen.append(search)
        return cosine_knn(features, k, valid)

    monkeypatch.setattr(item_graph, "cosine_knn", watched)
    graphs = {m: csr(dense_knn(t, 4)) for m, t in tables.items()}
    latents, valid = {m: torch.rand(15, 5) for m in tables}, {m: t.any(1) for m, t in tables.items()}
    LearnedItemGraph(graphs, ModalityWeights(["a", "b"]), 4, 0.5)(latents, valid)
    LearnedItemGraph(graphs, ModalityWeights(["a", "b"]), 4, 0.5, "faiss")(latents, valid)
    assert seen == ["exact", "exact", "faiss", "faiss"]

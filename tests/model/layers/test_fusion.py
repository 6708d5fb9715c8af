import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_ib.graph import user_item_adjacency
from recbole_ib.model.layers.fusion import BehaviorGate, ViewAttention, collect_for_users, user_item_block


def views(n=5, width=4, count=3):
    torch.manual_seed(0)
    return [torch.randn(n, width) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_attention_equals_the_loop(count):
    module, xs = ViewAttention(4), views(count=count)
    alpha = module(xs)
    w, b, v = module.hidden.weight, module.hidden.bias, module.score.weight[0]
    for row in range(5):
        e = torch.stack([torch.exp(v @ torch.tanh(w @ x[row] + b)) for x in xs])
        torch.testing.assert_close(alpha[row], e / e.sum())
    torch.testing.assert_close(alpha.sum(1), torch.ones(5))


def test_attention_has_one_layer_for_all_views_and_no_bias_in_the_score():
    """A bias of the score would cancel in the softmax and never be trained."""
    assert {n: tuple(p.shape) for n, p in ViewAttention(4).named_parameters()} == {
        "hidden.weight": (4, 4),
        "hidden.bias": (4,),
        "score.weight": (1, 4),
    }
    x = views()[0]
    torch.testing.assert_close(ViewAttention(4)([x, x]), torch.full((5, 2), 0.5))


def test_attention_follows_its_views():
    module, (a, b, c) = ViewAttention(4), views()
    torch.testing.assert_close(module([a, b, c])[:, [2, 0, 1]], module([c, a, b]))


def test_attention_without_views_is_refused():
    with pytest.raises(ValueError, match="at least one view"):
        ViewAttention(4)([])


def test_gate_multiplies_the_ids_by_what_the_latents_say():
    q, a, b = views()
    module = BehaviorGate(["a", "b"], 4)
    out = module(q, {"b": b, "a": a})
    assert list(out) == ["a", "b"]
    for name, t in (("a", a), ("b", b)):
        layer = module.gate[name]
        for row in range(5):
            gate = 1 / (1 + torch.exp(-(layer.weight @ t[row] + layer.bias)))
            torch.testing.assert_close(out[name][row], q[row] * gate)
    # a gate of the ids, not of the latents: no id, no output
    assert not bool(module(torch.zeros_like(q), {"a": a, "b": b})["a"].any())


def test_gate_passes_gradients_to_ids_and_latents():
    module = BehaviorGate(["a"], 3).double()
    x = [torch.randn(2, 3, dtype=torch.double, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(lambda q, t: module(q, {"a": t})["a"], x)


def test_block_is_the_users_rows_and_the_items_columns():
    r = (np.random.default_rng(0).random((6, 5)) < 0.5).astype(np.float32)
    r[0] = r[:, 0] = 0
    block = user_item_block(user_item_adjacency(sp.csr_matrix(r)), 6)
    dense = np.zeros_like(r)
    for u, i in zip(*np.nonzero(r), strict=True):
        dense[u, i] = 1 / np.sqrt(r[u].sum() * r[:, i].sum())
    np.testing.assert_allclose(block.product(torch.eye(5)).numpy(), dense, atol=1e-6)


def test_collected_views_are_users_above_items():
    xs = dict(zip("abc", views(), strict=True))
    r = np.random.default_rng(1).random((3, 5)).astype(np.float32)
    out = collect_for_users(user_item_block(sp.csr_array(np.block([[np.zeros((3, 3)), r]])), 3), xs)
    assert list(out) == list(xs)
    for name, x in xs.items():
        torch.testing.assert_close(out[name], torch.cat([torch.from_numpy(r) @ x, x]))

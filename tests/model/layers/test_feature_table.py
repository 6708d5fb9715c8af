"""Feature tables in float16: the values and gradients of float32 tables, and rows that are fetched once."""

import pickle

import pytest
import torch

from recbole_ib.model.layers import feature_table
from recbole_ib.model.layers.encoder import (
    LinearEncoder,
)


@pytest.fixture
def halves():
    torch.manual_seed(0)
    made = {"text": (100 * torch.randn(30, 5)).half(), "visual": torch.randn(30, 3).half()}
    for table in made.values():
        table[0] = 0
    return made


def pair(halves, **options):
    """Projections of float16 tables, and of their values in float32, with the same weights."""
    made = []
    for tables in (halves, {m: x.float() for m, x in halves.items()}):
        torch.manual_seed(1)
        made.append(LinearEncoder(tables, 4, **options))
    return made


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("items", [None, torch.tensor([3, 0, 3, 29])])
def test_half_tables_give_what_their_values_give_in_float32(halves, normalize, items):
    half, full = pair(halves, normalize=normalize)
    for name, z in full(items).items():
        assert torch.equal(half(items)[name], z)
        assert torch.equal(half.table(name), full.table(name))
        assert torch.equal(half.rows(name, items), full.rows(name, items))
        assert half.rows(name, items).dtype == torch.float32
    assert half.state_dict().keys() == full.state_dict().keys()


def test_half_tables_are_the_data_sets_own_memory(halves):
    half, _ = pair(halves)
    kept = {b.data_ptr(): b.dtype for b in half.buffers()}
    assert kept == {x.data_ptr(): torch.float16 for x in halves.values()}


def test_half_tables_side_by_side(halves):
    torch.manual_seed(1)
    half = LinearEncoder({"all": list(halves.values())}, 4, normalize=True)
    torch.manual_seed(1)
    full = LinearEncoder({"all": [x.float() for x in halves.values()]}, 4, normalize=True)
    assert torch.equal(half(torch.arange(4))["all"], full(torch.arange(4))["all"])
    assert torch.equal(full.table("all"), half.table("all"))


@pytest.mark.parametrize("normalize", [False, True])
def test_half_tables_in_blocks_give_the_same_latents_and_gradients(halves, monkeypatch, normalize):
    half, full = pair(halves, normalize=normalize)
    monkeypatch.setattr(feature_table, "BLOCK_NUMBERS", 35)
    for module in (half, full):
        sum(z.square().sum() for z in module().values()).backward()
    torch.testing.assert_close(half()["text"], full()["text"])
    for a, b in zip(half.parameters(), full.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-4)


def test_tuned_half_tables_are_float32(halves):
    half, full = pair(halves, tuned=True)
    for name, table in full.state_dict().items():
        assert table.dtype == torch.float32
        assert torch.equal(half.state_dict()[name], table)


def test_rows_are_fetched_once_for_the_same_ids_and_anew_for_others():
    projections = LinearEncoder({"text": torch.rand(6, 3)}, 2)
    items = torch.tensor([1, 4])
    first = projections.rows("text", items)
    assert projections.rows("text", items) is first
    equal = projections.rows("text", items.clone())
    assert equal is not first
    assert torch.equal(equal, first)
    assert torch.equal(projections.rows("text", torch.tensor([5])), projections.table("text")[5:])
    copied = pickle.loads(pickle.dumps(projections))
    assert copied._fetched is None
    projections.train()
    assert projections._fetched is None


def test_rows_of_a_trained_table_are_never_kept():
    projections = LinearEncoder({"text": torch.rand(6, 3)}, 2, tuned=True)
    items = torch.tensor([1, 4])
    before = projections.rows("text", items)
    with torch.no_grad():
        projections.features_text += 1
    torch.testing.assert_close(projections.rows("text", items), before + 1)

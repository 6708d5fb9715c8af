import pickle

import pytest
import torch

from recbole_ib.errors import ConfigurationError
from recbole_ib.model.layers import encoder
from recbole_ib.model.layers.encoder import LinearEncoder, batch_items, is_tuned


def features():
    torch.manual_seed(0)
    return {"text": 5 * torch.randn(6, 3), "visual": torch.randn(6, 4)}


@pytest.mark.parametrize("tuned", [True, False])
@pytest.mark.parametrize("items", [None, torch.tensor([4, 1, 4])])
def test_equals_the_loop(tuned, items):
    given = features()
    module = LinearEncoder(given, 2, tuned=tuned)
    torch.nn.init.normal_(module.linear["text"].bias)
    out = module(items)
    assert list(out) == ["text", "visual"]
    for name, z in out.items():
        ids = range(6) if items is None else items.tolist()
        for row, item in enumerate(ids):
            torch.testing.assert_close(z[row], module.linear[name].weight @ given[name][item] + module.linear[name].bias)


def test_normalize_scales_rows_to_length_one_and_leaves_empty_rows_empty():
    given = features()
    given["text"][0] = 0
    table = LinearEncoder(given, 2, normalize=True).table("text")
    torch.testing.assert_close(table[1:], given["text"][1:] / given["text"][1:].norm(dim=1, keepdim=True))
    assert not bool(table[0].any())
    assert torch.equal(LinearEncoder(given, 2).table("text"), given["text"])


def test_frozen_features_stay_out_of_the_state_dict_and_tuned_ones_are_in_it():
    layers = {f"linear.{m}.{p}" for m in ("text", "visual") for p in ("weight", "bias")}
    tables = {"features_text", "features_visual"}
    frozen, tuned = LinearEncoder(features(), 2), LinearEncoder(features(), 2, tuned=True)
    assert set(frozen.state_dict()) == {n for n, _ in frozen.named_parameters()} == layers
    assert set(tuned.state_dict()) == {n for n, _ in tuned.named_parameters()} == layers | tables


def test_tuning_leaves_the_data_sets_own_features_alone():
    given = features()
    before = given["text"].clone()
    module = LinearEncoder(given, 2, tuned=True)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    sum(z.square().sum() for z in module().values()).backward()
    optimizer.step()
    assert torch.equal(given["text"], before)
    assert not torch.equal(module.table("text"), before)


def test_a_tuned_table_takes_a_gradient_at_the_rows_asked_for():
    module = LinearEncoder(features(), 2, tuned=True)
    module(torch.tensor([1, 3]))["text"].sum().backward()
    assert torch.nonzero(module.table("text").grad.abs().sum(1)).flatten().tolist() == [1, 3]


def test_initial_weights():
    wide = {"text": torch.zeros(2, 300)}
    normal = LinearEncoder(wide, 200, init="xavier_normal").linear["text"]
    uniform = LinearEncoder(wide, 200, init="xavier_uniform").linear["text"]
    default = LinearEncoder(wide, 200, init="default").linear["text"]
    # Glorot: variance 2 / (in + out); the uniform law ends at sqrt(6 / (in + out)); torch's at 1 / sqrt(in), with a bias
    assert normal.weight.std().item() == pytest.approx((2 / 500) ** 0.5, rel=0.02)
    assert normal.weight.abs().max().item() > 3 * (2 / 500) ** 0.5
    assert uniform.weight.abs().max().item() == pytest.approx((6 / 500) ** 0.5, rel=0.01)
    assert default.weight.abs().max().item() == pytest.approx(300**-0.5, rel=0.01)
    assert not bool(normal.bias.any() or uniform.bias.any())
    assert bool(default.bias.any())


def test_reset_draws_anew():
    module = LinearEncoder(features(), 2)
    before = module.linear["text"].weight.clone()
    module.reset_parameters()
    assert not torch.equal(before, module.linear["text"].weight)


def test_batch_items_are_distinct_and_sorted():
    assert batch_items(torch.tensor([5, 2, 5]), torch.tensor([2, 9])).tolist() == [2, 5, 9]


def test_raw_features_takes_two_words():
    assert is_tuned({"raw_features": "tuned"})
    assert not is_tuned({"raw_features": "frozen"})
    with pytest.raises(ConfigurationError, match="raw_features is 'half'; allowed: tuned, frozen"):
        is_tuned({"raw_features": "half"})


# -- float16 ----------------------------------------------------------------------------------------------------------


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
    monkeypatch.setattr(encoder, "BLOCK_NUMBERS", 35)
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

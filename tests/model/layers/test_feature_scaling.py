"""The key ``normalize_features``: against formulas, for tables in float32 and float16, and in the models that read it."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recbole_ib.config.argv import parse_arguments
from recbole_ib.errors import CheckpointError, ConfigurationError
from recbole_ib.model.layers import feature_scaling as module
from recbole_ib.model.layers import feature_table
from recbole_ib.model.layers.encoder import ConcatEncoder, LinearEncoder
from recbole_ib.model.layers.feature_scaling import (
    COLUMNS,
    NONE,
    ROWS,
    SCALING_WORD,
    ColumnScale,
    FeatureScaling,
    feature_scaling,
    refuse_columns,
    scaling_word,
)
from tests.support.datasets import planted, write_dataset
from tests.support.training import first_batch, run

SCALED = ("VBPR", "VLightGCN", "VLATTICE", "IBMRec", "IBMRecVBPR", "MRdIBVBPR")
OWN = torch.tensor([False, True, True, True, False])
#: row 0 padding, row 4 without a feature of its own: it has the mean of rows 1 to 3
TABLE = torch.tensor([[0.0, 0.0, 0.0], [1.0, 7.0, 10.0], [2.0, 7.0, 20.0], [3.0, 7.0, 60.0], [2.0, 7.0, 30.0]])


def columns(**own):
    return FeatureScaling(COLUMNS, own)


def naive_columns(table, own):
    """Row by row and column by column, in Python's floats; a row of zeros where there is no feature."""
    known = [row for row, has in zip(table.tolist(), own.tolist(), strict=True) if has]
    n, out = len(known), []
    means = [sum(column) / n for column in zip(*known, strict=True)]
    stds = [math.sqrt(sum((x - m) ** 2 for x in column) / n) for column, m in zip(zip(*known, strict=True), means, strict=True)]
    for row, has in zip(table.tolist(), own.tolist(), strict=True):
        scaled = [(x - m) / s if has and s > 1e-7 * abs(m) else 0.0 for x, m, s in zip(row, means, stds, strict=True)]
        out.append(scaled)
    return torch.tensor(out)


def test_columns_in_closed_form():
    table = LinearEncoder({"text": TABLE}, 2, columns(text=OWN)).table("text")
    # column 0: (-1, 0, 1) / sqrt(2/3); column 1 is constant; column 2: (-20, -10, 30) / sqrt(1400/3)
    z = torch.tensor([[-1.0, 0.0, -20 / 700**0.5], [0.0, 0.0, -10 / 700**0.5], [1.0, 0.0, 30 / 700**0.5]])
    torch.testing.assert_close(table[1:4], z / z.norm(dim=1, keepdim=True))
    assert table[0].tolist() == table[4].tolist() == [0.0, 0.0, 0.0]
    torch.testing.assert_close(ColumnScale(TABLE, OWN)(TABLE)[1:4], z * 1.5**0.5)


def test_a_filled_in_mean_row_stays_zero_whatever_its_rounding():
    torch.manual_seed(0)
    table, own = 100 + torch.randn(50, 8), torch.ones(50, dtype=torch.bool)
    own[[0, 7, 9]] = False
    table[~own] = table[own].mean(dim=0)
    assert bool((table[7].double() != table[own].double().mean(dim=0)).any())
    table[9] = 0  # missing: zero
    scaled = LinearEncoder({"text": table}, 2, columns(text=own)).table("text")
    assert not bool(scaled[~own].any())
    torch.testing.assert_close(scaled, F.normalize(naive_columns(table, own), dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scaled[own].norm(dim=1), torch.ones(47))


def test_columns_far_from_zero_and_constant_ones():
    torch.manual_seed(0)
    own = torch.tensor([False] + 2000 * [True])
    table = torch.randn(2001, 5)
    table[:, 1] += 1e4
    table[:, 2] = 0.1  # not a float32 number: the mean of many is not quite the same
    table[:, 3] = 0.1 * (1 + 1e-8 * torch.randn(2001))
    table[:, 4] = 1e-40
    scaled = ColumnScale(table, own)(table)
    expected = table[1:, :2].double()
    expected = (expected - expected.mean(dim=0)) / expected.std(dim=0, unbiased=False)
    torch.testing.assert_close(scaled[1:, :2].double(), expected, rtol=1e-3, atol=1e-3)
    assert not bool(scaled[:, 2:].any())
    assert not bool(ColumnScale(table, torch.zeros(2001, dtype=torch.bool))(table).any())


def test_several_modalities_side_by_side_weigh_alike(monkeypatch):
    """Columns by the modality's own items, and the rows of each of length 1; an item without one has zeros there."""
    torch.manual_seed(0)
    given = {"text": 5 * torch.randn(6, 3), "visual": torch.randn(6, 4)}
    own = {"text": torch.tensor([0, 1, 1, 1, 0, 1]).bool(), "visual": torch.tensor([0, 1, 1, 1, 1, 1]).bool()}
    parts = [F.normalize(naive_columns(given[m], own[m]), dim=1) for m in given]
    expected = torch.cat(parts, dim=1)
    made = ConcatEncoder(given, 2, columns(**own))
    torch.testing.assert_close(made.table("content"), expected)
    assert not bool(made.table("content")[4, :3].any())
    assert float(made.table("content")[4].norm()) == pytest.approx(1)
    monkeypatch.setattr(module, "BLOCK_NUMBERS", 8)
    torch.testing.assert_close(ConcatEncoder(given, 2, columns(**own)).table("content"), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize("value", [True, FeatureScaling(ROWS), False, FeatureScaling(NONE)])
def test_rows_and_none_are_what_true_and_false_were(dtype, value):
    torch.manual_seed(0)
    table = torch.randn(6, 3).to(dtype)
    wanted = F.normalize(table if dtype == torch.float64 else table.float(), dim=1) if FeatureScaling.of(value).unit else table
    for tuned in (True, False):
        made = LinearEncoder({"text": table}, 2, value, tuned=tuned)
        assert torch.equal(made.table("text"), wanted.float())
        assert made.table("text").dtype == torch.float32


@pytest.mark.parametrize("items", [None, torch.tensor([3, 0, 3, 29])])
def test_half_tables_give_what_their_values_give(monkeypatch, items):
    torch.manual_seed(0)
    halves = {"text": (100 + torch.randn(30, 5)).half(), "visual": torch.randn(30, 3).half()}
    own = {m: torch.rand(30) > 0.3 for m in halves}
    for m, mask in own.items():
        mask[0] = False
        halves[m][~mask] = halves[m][mask].float().mean(dim=0).half()
    made = []
    for tables in (halves, {m: x.float() for m, x in halves.items()}):
        torch.manual_seed(1)
        made.append([LinearEncoder(tables, 4, columns(**own)), ConcatEncoder(tables, 4, columns(**own))])
    for half, full in zip(*made, strict=True):
        for name, z in full(items).items():
            assert torch.equal(half(items)[name], z)
            assert torch.equal(half.rows(name, items), full.rows(name, items))
            assert torch.equal(half.table(name), full.table(name))
        assert half.state_dict().keys() == full.state_dict().keys()
    # the tables themselves stay as they are
    kept = {b.data_ptr() for b in made[0][0].buffers() if b.dtype == torch.float16}
    assert kept == {x.data_ptr() for x in halves.values()}
    for m in halves:
        rows = F.normalize(naive_columns(halves[m].float(), own[m]), dim=1)
        torch.testing.assert_close(made[0][0].table(m), rows, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(feature_table, "BLOCK_NUMBERS", 35)
    for half, full in zip(*made, strict=True):
        for name, z in full().items():
            torch.testing.assert_close(half()[name], z)
    tuned = LinearEncoder(halves, 4, columns(**own), tuned=True)
    assert all(torch.equal(tuned.table(m), made[1][0].table(m)) for m in halves)


# -- the key ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def partial_path(tmp_path_factory):
    """The planted data, without features of some items: the texts miss the last ones, the pictures the first ones."""
    pairs, modalities, _, _ = planted()
    path = write_dataset(tmp_path_factory.mktemp("partial"), "planted", pairs, modalities)
    text, names = modalities["text"][:-9].astype(np.float32), [f"i{i}\n" for i in range(60)]
    np.save(path / "planted" / "text.npy", 1000 + text)
    (path / "planted" / "text.tokens").write_text("".join(names[:-9]))
    np.save(path / "planted" / "visual.npy", modalities["visual"][5:].astype(np.float32))
    (path / "planted" / "visual.tokens").write_text("".join(names[5:]))
    return path


@pytest.mark.parametrize("name", SCALED)
def test_the_models_that_read_it(build, partial_path, name):
    _, model, train, _, _ = build(name, data_path=str(partial_path), normalize_features="columns")
    features, own = train._dataset.modalities, train._dataset.has_feature
    assert sorted(int((~mask).sum()) for mask in own.values()) == [6, 10]
    scaled = {m: naive_columns(features[m], own[m]) for m in model.modalities}
    encoder = model.feature_encoder
    if encoder.modalities == ["content"]:
        wanted = {"content": torch.cat([F.normalize(table, dim=1) for table in scaled.values()], dim=1)}
    else:
        wanted = {m: F.normalize(table, dim=1) for m, table in scaled.items()}
    for latent, table in wanted.items():
        torch.testing.assert_close(encoder.table(latent), table, rtol=1e-3, atol=1e-4)
    model.train()
    for phase in model.phases():
        assert all(bool(torch.isfinite(term)) for term in phase.loss(first_batch(train)))


@pytest.mark.parametrize("name", SCALED)
def test_true_and_false_stay_accepted(build, name):
    def losses(**settings):
        _, model, train, _, _ = build(name, **settings)
        model.train()
        torch.manual_seed(3)
        return [float(term.detach()) for phase in model.phases() for term in phase.loss(first_batch(train))]

    rows, none = losses(normalize_features=True), losses(normalize_features=False)
    assert rows != none
    assert losses(normalize_features="rows") == losses(normalize_features=1) == rows
    assert losses(normalize_features="'none'") == losses(normalize_features=None) == none
    assert losses() == rows


@pytest.mark.parametrize("word", ["rows", "columns", "none", "True", "False"])
def test_words_of_the_command_line(word):
    value = parse_arguments([f"--normalize_features={word}"])["normalize_features"]
    assert SCALING_WORD.contains(value)
    assert scaling_word(value) == {"True": "rows", "False": "none"}.get(word, word)


@pytest.mark.parametrize("wrong", ["row", "", 2, 0.5, ["rows"], {"text": "rows"}])
def test_another_value_is_refused(build, wrong):
    with pytest.raises(ConfigurationError, match=r"normalize_features is .*; allowed: rows, columns, none"):
        feature_scaling({"normalize_features": wrong}, None)
    if wrong == "row":
        with pytest.raises(ConfigurationError, match=r"is 'row'; allowed: rows, columns, none\. Did you mean rows\?"):
            build("VBPR", normalize_features=wrong)


def test_invrl_refuses_columns(build):
    with pytest.raises(ConfigurationError, match="InvRL gives its backbone features whose rows have length 1"):
        build("InvRL", backbone="VBPR", normalize_features="columns")
    refuse_columns({"normalize_features": None}, "InvRL")


def test_a_checkpoint_of_the_older_spelling_is_resumed(build):
    first, _, _ = run(build, "VBPR", 1, normalize_features="none")
    state = torch.load(first.saved_model_file, weights_only=True)
    assert scaling_word(state["config"]["normalize_features"]) == "none"
    state["config"]["normalize_features"] = False
    torch.save(state, first.saved_model_file)
    run(build, "VBPR", 2, resume=first.saved_model_file, normalize_features="none")
    with pytest.raises(CheckpointError, match="normalize_features: 'none' then, 'columns' now"):
        run(build, "VBPR", 2, resume=first.saved_model_file, normalize_features="columns")
    # today's default is another one than that of 0.1.0
    with pytest.raises(CheckpointError, match="normalize_features: 'none' then, 'rows' now"):
        run(build, "VBPR", 2, resume=first.saved_model_file)

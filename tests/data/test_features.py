"""Rows of features for the items: alignment, missing items, refused values and tokens, item graphs."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from recbole_ib.data import feature_file
from recbole_ib.data.features import load_modality
from recbole_ib.data.modality_spec import ModalitySpec, parse_modalities
from recbole_ib.errors import ConfigurationError
from tests.support.features import ITEMS, TWO, refusal

# -- alignment --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("seed", range(3))
def test_every_item_gets_the_row_of_its_token(save, dtype, seed):
    rng = np.random.default_rng(seed)
    tokens = [f"item{i}" for i in rng.permutation(40)]
    values = rng.normal(size=(40, 6)).astype(dtype)
    items = ["[PAD]", *(f"item{i}" for i in rng.permutation(40))]
    modality, report = load_modality(save(values, tokens), items)
    by_token = dict(zip(tokens, values, strict=True))
    assert modality.values.dtype == np.float32
    assert modality.values.shape == (41, 6)
    assert not modality.values[0].any()
    for i, token in enumerate(items[1:], start=1):
        np.testing.assert_array_equal(modality.values[i], by_token[token].astype(np.float32))
    assert not modality.has_row[0]
    assert modality.has_row[1:].all()
    assert (report.errors, report.warnings) == ([], [])
    assert (report.shape, report.dtype, report.covered, report.n_items) == ((40, 6), np.dtype(dtype).name, 40, 40)


def test_tokens_are_text_so_leading_zeros_count(save):
    modality, _ = load_modality(save(TWO, ["01", "1"]), ["[PAD]", "1", "01"])
    np.testing.assert_array_equal(modality.values, [[0, 0], [3, 4], [1, 2]])


def test_a_row_named_like_the_padding_is_no_item(save):
    modality, report = load_modality(save(TWO, ["[PAD]", "a"]), ["[PAD]", "a"])
    np.testing.assert_array_equal(modality.values, [[0, 0], [3, 4]])
    assert report.covered == 1


@pytest.mark.parametrize(
    ("ids", "items"),
    [
        (np.array(["b", "ä"]), ["[PAD]", "ä", "b"]),
        (np.array([20, 3]), ["[PAD]", "3", "20"]),
        (np.array([20, 3], dtype=np.uint8), ["[PAD]", "3", "20"]),
        (np.array([b"b", "ä".encode()]), ["[PAD]", "ä", "b"]),
    ],
    ids=["text", "int", "uint", "bytes"],
)
def test_npz_with_ids(tmp_path, ids, items):
    np.savez(tmp_path / "t.npz", features=TWO, ids=ids)
    modality, report = load_modality(ModalitySpec("text", tmp_path / "t.npz"), items)
    np.testing.assert_array_equal(modality.values, [[0, 0], [3, 4], [1, 2]])
    assert report.errors == []


@pytest.mark.parametrize(
    ("arrays", "parts"),
    [
        ({"features": TWO, "ids": np.array(["a", "b"], dtype=object)}, ["ids", "text or integers"]),
        ({"features": TWO.astype(object), "ids": ["a", "b"]}, ["object"]),
        ({"features": TWO, "ids": [1.0, 2.0]}, ["'ids'", "float64"]),
        ({"features": TWO, "ids": [["a", "b"]]}, ["'ids'", "(1, 2)"]),
        ({"features": TWO, "id": ["a", "b"]}, ["lacks the array 'ids'", "features, id"]),
        ({"values": TWO, "ids": ["a", "b"]}, ["lacks the array 'features'", "values, ids"]),
        ({"features": TWO, "ids": ["a", "b", "c"]}, ["3 tokens for the 2 rows"]),
        ({"features": TWO, "ids": ["a", "a"]}, ["given twice", "'a'"]),
        ({"features": TWO, "ids": np.array([b"a", b"\xff"])}, ["ids"]),
    ],
)
def test_bad_npz_is_named(tmp_path, arrays, parts):
    np.savez(tmp_path / "t.npz", **arrays)
    message = refusal(ModalitySpec("text", tmp_path / "t.npz"))
    for part in ["t.npz", *parts]:
        assert part in message


def test_a_token_file_beside_an_npz_is_refused(tmp_path):
    """An archive holds its own ids; of two sources one would be ignored."""
    np.savez(tmp_path / "t.npz", features=TWO, ids=["a", "b"])
    (tmp_path / "t.tokens").write_text("a\nb\n")
    message = refusal(ModalitySpec("text", tmp_path / "t.npz", tmp_path / "t.tokens"))
    assert "names its rows itself" in message
    assert "drop modalities.text.tokens" in message


# -- missing items ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "row"), [("mean", [2.0, 5.0]), ("zero", [0.0, 0.0])])
def test_missing_items(save, rule, row):
    """The mean is that of the items: neither the row of nobody (z) nor the all-zero row (d) takes part."""
    values = np.array([[100.0, 100.0], [3.0, 8.0], [0.0, 0.0], [1.0, 2.0]])
    modality, report = load_modality(save(values, ["z", "c", "d", "a"], missing=rule), ITEMS)
    np.testing.assert_array_equal(modality.values, np.float32([[0, 0], [1, 2], row, [3, 8], row]))
    np.testing.assert_array_equal(modality.has_row, [False, True, False, True, False])
    assert report.covered == 2
    (warning,) = [w for w in report.warnings if "have no row" in w]
    assert "text: 2 of 4 items" in warning
    assert "first: b, d" in warning


def test_missing_items_are_an_error_where_the_rule_says_so(save):
    message = refusal(save(TWO, ["a", "c"], missing="error"))
    assert "2 of 4 items have no row" in message
    assert "first: b, d" in message


def test_missing_error_accepts_full_coverage(save):
    modality, report = load_modality(save(TWO, ["b", "a"], missing="error"), ["[PAD]", "a", "b"])
    assert report.errors == []
    np.testing.assert_array_equal(modality.values, [[0, 0], [3, 4], [1, 2]])


def test_all_zero_rows_are_missing_with_a_warning(save):
    modality, report = load_modality(save([[1, 2], [0, 0], [3, 4], [5, 6.0]], ["a", "b", "c", "d"]), ITEMS)
    np.testing.assert_array_equal(modality.has_row, [False, True, False, True, True])
    np.testing.assert_array_equal(modality.values[2], [3, 4])
    assert (report.zero_rows, report.covered) == (1, 3)
    warning = report.warnings[0]
    assert "1 of 4 rows are all zero" in warning
    assert "b (row 1)" in warning
    assert "rule: mean" in warning


def test_all_zero_row_is_refused_by_missing_error(save):
    message = refusal(save([[1.0, 2.0], [0.0, 0.0]], ["a", "b"], missing="error"), ["[PAD]", "a", "b"])
    assert "1 of 2 items have no row" in message
    assert "first: b" in message


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_only_zero_rows_leave_no_mean(save):
    """There is nothing to take the mean of; NaN must not come out."""
    message = refusal(save(np.zeros((2, 3), np.float32), ["a", "b"]), ["[PAD]", "a", "b"])
    assert "text.npy" in message


# -- refused values and tokens ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_not_finite_rows_are_named_by_token(save, value, dtype):
    values = np.ones((4, 3), dtype=dtype)
    values[1, 2] = values[3, 0] = value
    message = refusal(save(values, ["d", "b", "a", "c"]))
    assert "2 of 4 rows" in message
    assert "NaN or infinity" in message
    assert "b (row 1), c (row 3)" in message


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_float64_beyond_float32_is_refused(save):
    """The model computes in float32, where 1e300 is infinite."""
    message = refusal(save([[1.0, 2.0], [1e300, 0.0]], ["a", "b"]), ["[PAD]", "a", "b"])
    assert "b (row 1)" in message


@pytest.mark.parametrize("tokens", [["a"], ["a", "b", "c"], []])
def test_wrong_token_count(save, tokens):
    message = refusal(save(TWO, tokens))
    assert "text.tokens" in message
    assert f"{len(tokens)} tokens for the 2 rows" in message
    assert "text.npy" in message


def test_duplicate_tokens_name_both_lines(save):
    message = refusal(save(np.ones((5, 2), np.float32), ["a", "b", "c", "b", "a"]))
    assert "text.tokens: 2 tokens are given twice" in message
    assert "'b' (lines 2 and 4)" in message
    assert "'a' (lines 1 and 5)" in message


@pytest.mark.parametrize("blank", ["", "  "])
def test_empty_token_line(save, blank):
    message = refusal(save(np.ones((3, 2), np.float32), ["a", blank, "b"]))
    assert "text.tokens: 1 empty tokens" in message
    assert "line 2" in message


def test_no_token_matches(save):
    message = refusal(save(TWO, ["B001", "B002"]))
    assert "none of its 2 tokens" in message
    assert "B001, B002" in message
    assert "a, b, c, d" in message


def test_unknown_tokens_are_counted_and_named(save):
    modality, report = load_modality(save(np.ones((7, 2), np.float32), ["u", "a", "v", "b", "c", "w", "d"]), ITEMS)
    (warning,) = report.warnings
    assert "3 of 7 rows belong to no item" in warning
    assert "first: u, v, w" in warning
    assert modality.has_row[1:].all()


@pytest.mark.parametrize("block", [1, 6, 7])
def test_rows_are_checked_in_every_block(save, monkeypatch, block):
    """The blocks in which a large file is scanned change nothing."""
    monkeypatch.setattr(feature_file, "BLOCK_NUMBERS", block)
    values = np.arange(1.0, 31.0).reshape(10, 3)
    values[9], values[4], values[7] = values[0], 0.0, values[2]
    tokens = list("abcdefghij")
    _, report = load_modality(save(values, tokens), ["[PAD]", *tokens], with_duplicates=True)
    assert (report.zero_rows, report.duplicate_rows) == (1, 2)
    values[8, 1] = np.nan
    assert "i (row 8)" in refusal(save(values, tokens), ["[PAD]", *tokens])


# -- item_graph_file --------------------------------------------------------------------------------------------------


def graph_spec(save, tmp_path, graph, tokens):
    """A modality of as many rows as tokens, with this ready item graph."""
    sp.save_npz(tmp_path / "graph.npz", graph)
    values = np.arange(1.0, 2 * len(tokens) + 1, dtype=np.float32).reshape(-1, 2)
    return save(values, tokens, item_graph_file=tmp_path / "graph.npz")


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, sp.coo_matrix, sp.csr_array, sp.coo_array])
def test_item_graph_is_renumbered(save, tmp_path, form):
    rng = np.random.default_rng(3)
    tokens = [f"i{n}" for n in rng.permutation(12)]
    items = ["[PAD]", *(f"i{n}" for n in rng.permutation(12))]
    dense = rng.random((12, 12)) * (rng.random((12, 12)) < 0.4)
    modality, report = load_modality(graph_spec(save, tmp_path, form(dense), tokens), items)
    expected = np.zeros((13, 13), dtype=np.float32)
    for i, a in enumerate(items[1:], start=1):
        for j, b in enumerate(items[1:], start=1):
            expected[i, j] = dense[tokens.index(a), tokens.index(b)]
    np.testing.assert_array_equal(modality.item_graph.toarray(), expected)
    assert modality.item_graph.dtype == np.float32
    assert report.graph_edges == np.count_nonzero(dense)
    assert report.warnings == []


def test_edges_to_filtered_items_are_dropped_with_a_warning(save, tmp_path):
    dense = np.array([[0, 1, 2], [3, 0, 4], [5, 6, 7]], dtype=np.float32)
    modality, report = load_modality(graph_spec(save, tmp_path, sp.csr_array(dense), ["b", "gone", "a"]), ["[PAD]", "a", "b"])
    np.testing.assert_array_equal(modality.item_graph.toarray(), [[0, 0, 0], [0, 7, 5], [0, 2, 0]])
    (warning,) = [w for w in report.warnings if "edges touch" in w]
    assert "4 of 7 edges" in warning
    assert "graph.npz" in warning
    assert report.graph_edges == 3


@pytest.mark.parametrize("shape", [(3, 3), (2, 3), (1, 1)])
def test_item_graph_of_a_wrong_shape(save, tmp_path, shape):
    message = refusal(graph_spec(save, tmp_path, sp.csr_array(np.ones(shape)), ["a", "b"]))
    for part in ("graph.npz", str(shape), "2 rows"):
        assert part in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_item_graph_that_is_not_finite(save, tmp_path, value):
    message = refusal(graph_spec(save, tmp_path, sp.csr_array([[1.0, value], [0.0, 1.0]]), ["a", "b"]))
    assert "graph.npz: 1 of 3 weights are NaN or infinite" in message


def test_item_graph_that_is_not_there(save, tmp_path):
    spec = graph_spec(save, tmp_path, sp.csr_array(np.eye(2)), ["a", "b"])
    (tmp_path / "graph.npz").rename(tmp_path / "graphs.npz")
    message = refusal(spec)
    assert "modalities.text.item_graph_file" in message
    assert "Did you mean graphs.npz?" in message


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 half an archive"])
def test_item_graph_that_is_no_archive(save, tmp_path, content):
    spec = graph_spec(save, tmp_path, sp.csr_array(np.eye(2)), ["a", "b"])
    (tmp_path / "graph.npz").write_bytes(content)
    assert "graph.npz: not a sparse matrix" in refusal(spec)


def test_item_graph_of_other_arrays(save, tmp_path):
    spec = graph_spec(save, tmp_path, sp.csr_array(np.eye(2)), ["a", "b"])
    np.savez(tmp_path / "graph.npz", something=np.eye(2))
    assert "graph.npz: not a sparse matrix" in refusal(spec)


@pytest.mark.parametrize("name", ["values", "type", "forward", "training"])
def test_names_that_torch_keeps_are_refused(name):
    """A layer of nn.ModuleDict cannot be called so; better said here than from inside the model."""
    with pytest.raises(ConfigurationError, match="reserved"):
        parse_modalities({name: {"file": "x.npy"}}, Path("."))

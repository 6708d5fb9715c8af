"""recbole_ib.data.features: reading the yaml keys, checking the files, aligning rows to items."""

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from recbole_ib.data import feature_file, features, float16_cache
from recbole_ib.data.features import load_modality
from recbole_ib.data.modality_spec import ModalitySpec, parse_modalities
from recbole_ib.errors import ConfigurationError, FeatureError
from tests.support.datasets import save_features

BASE = Path("base")
ITEMS = ["[PAD]", "a", "b", "c", "d"]
TWO = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)


def refusal(spec, items=ITEMS, **options) -> str:
    """The one error of a modality that must be refused."""
    modality, report = load_modality(spec, items, **options)
    assert modality is None
    assert len(report.errors) == 1, report.errors
    return report.errors[0]


# -- parse_modalities -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entries", [None, {}])
def test_no_entries_are_no_modalities(entries):
    assert parse_modalities(entries, BASE) == []


def test_entry_with_every_key():
    entry = {"file": "t.npy", "tokens": "t.tokens", "missing": "zero", "encoder": "MiniLM", "item_graph_file": "g.npz"}
    expected = ModalitySpec("text", BASE / "t.npy", BASE / "t.tokens", "zero", "MiniLM", BASE / "g.npz")
    assert parse_modalities({"text": entry}, BASE) == [expected]


def test_entry_with_the_file_alone_takes_the_mean():
    assert parse_modalities({"text": {"file": "t.npz"}}, BASE) == [ModalitySpec("text", BASE / "t.npz", None, "mean")]


@pytest.mark.parametrize(
    ("entries", "parts"),
    [
        ({"text": {"file": "t.npy", "token": "t"}}, ["modalities.text", "'token'", "Did you mean tokens?"]),
        ({"text": {"file": "t.npy", "mising": "zero"}}, ["'mising'", "Did you mean missing?"]),
        ({"text": {"file": "t.npy", "zzz": 1}}, ["'zzz'", "file, tokens, missing, encoder, item_graph_file"]),
        ({"text": {"file": "t.npy", 5: 1}}, ["unknown key 5"]),
        ({"my text": {"file": "t.npy"}}, ["modalities.my text", "letters, digits"]),
        ({"a.b": {"file": "t.npy"}}, ["modalities.a.b", "letters, digits"]),
        ({1: {"file": "t.npy"}}, ["modalities.1", "letters, digits"]),
        ({"text": {"file": "t.npy", "missing": "median"}}, ["modalities.text.missing", "'median'", "mean, zero, error"]),
        ({"text": {"file": "t.npy", "missing": None}}, ["modalities.text.missing", "None"]),
        ({"text": {"tokens": "t.tokens"}}, ["modalities.text", "'file'"]),
        ({"text": {"file": ""}}, ["modalities.text", "'file'"]),
        ({"text": "t.npy"}, ["modalities.text", "mapping", "'t.npy'"]),
        (["text"], ["modalities must map", "['text']"]),
    ],
)
def test_bad_entries_are_named(entries, parts):
    with pytest.raises(ConfigurationError) as caught:
        parse_modalities(entries, BASE)
    for part in parts:
        assert part in str(caught.value)


ENTRIES = {name: {"file": f"{name}.npz"} for name in ("text", "visual", "audio")}


@pytest.mark.parametrize(
    ("only", "names"),
    [
        (None, ["text", "visual", "audio"]),
        (["audio", "text"], ["audio", "text"]),
        ("visual", ["visual"]),
    ],
)
def test_use_modalities_chooses_and_orders(only, names):
    assert [spec.name for spec in parse_modalities(ENTRIES, BASE, only)] == names


@pytest.mark.parametrize(
    ("only", "parts"),
    [
        (["vissual"], ["use_modalities", "'vissual'", "Did you mean visual?", "text, visual, audio"]),
        (["text", "smell"], ["'smell'", "text, visual, audio"]),
        ([], ["at least one"]),
        (["text", "text"], ["none twice", "['text', 'text']"]),
    ],
)
def test_bad_use_modalities_are_named(only, parts):
    with pytest.raises(ConfigurationError) as caught:
        parse_modalities(ENTRIES, BASE, only)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("t.npz", BASE / "t.npz"),
        ("deep/t.npz", BASE / "deep" / "t.npz"),
        ("/elsewhere/t.npz", Path("/elsewhere/t.npz")),
        ("~/t.npz", Path.home() / "t.npz"),
        ("recbole_ib:data/sample/t.npz", Path(features.__file__).parent / "sample" / "t.npz"),
    ],
)
def test_paths(given, expected):
    (spec,) = parse_modalities({"text": {"file": given}}, BASE)
    assert spec.file == expected


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


# -- files ------------------------------------------------------------------------------------------------------------


def test_pickled_npy_is_refused_and_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "opened"), "w"))

    np.save(tmp_path / "text.npy", np.array([Bomb(), Bomb()], dtype=object), allow_pickle=True)
    (tmp_path / "text.tokens").write_text("a\nb\n")
    message = refusal(ModalitySpec("text", tmp_path / "text.npy", tmp_path / "text.tokens"))
    assert "text.npy" in message
    assert "without pickled objects" in message
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("size", [0, 7, 60, 130])
def test_truncated_npy(save, size):
    spec = save(TWO, ["a", "b"])
    spec.file.write_bytes(spec.file.read_bytes()[:size])
    assert "text.npy: not a readable .npy" in refusal(spec)


@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_truncated_npz(tmp_path, cut):
    file = tmp_path / "text.npz"
    np.savez(file, features=np.ones((50, 3), np.float32), ids=np.arange(50))
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * cut)])
    assert "text.npz" in refusal(ModalitySpec("text", file), ["[PAD]", "1"])


def test_npz_with_flipped_bytes(tmp_path):
    file = tmp_path / "text.npz"
    np.savez(file, features=np.ones((50, 3), np.float32), ids=np.arange(50))
    content = bytearray(file.read_bytes())
    content[300:310] = bytes(10)
    file.write_bytes(bytes(content))
    assert "text.npz" in refusal(ModalitySpec("text", file), ["[PAD]", "1"])


@pytest.mark.parametrize("shape", [(4,), (2, 2, 1), (0, 3), (2, 0)])
def test_only_matrices_are_features(save, shape):
    tokens = [f"t{i}" for i in range(shape[0])]
    message = refusal(save(np.ones(shape, np.float32), tokens))
    assert "[items, dimensions]" in message
    assert str(shape) in message


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "complex64"])
def test_other_dtypes_are_refused(save, dtype):
    message = refusal(save(TWO.astype(dtype), ["a", "b"]))
    assert "float16, float32 or float64" in message
    assert dtype in message


def test_npy_without_tokens(save):
    spec = save(TWO, ["a", "b"])
    message = refusal(ModalitySpec("text", spec.file))
    assert "text.npy" in message
    assert "modalities.text.tokens" in message


@pytest.mark.parametrize(
    ("file", "tokens", "parts"),
    [
        ("texts.npy", "text.tokens", ["modalities.text.file", "texts.npy", "Did you mean text.npy"]),
        ("TEXT.npy", "text.tokens", ["TEXT.npy", "Did you mean text.npy"]),
        ("text.npy", "text.token", ["modalities.text.tokens", "text.token", "Did you mean text.tokens"]),
        ("nowhere/text.npy", "text.tokens", ["nowhere", "The folder is not there"]),
    ],
)
def test_missing_files_name_the_near_ones(save, tmp_path, file, tokens, parts):
    save(TWO, ["a", "b"])
    message = refusal(ModalitySpec("text", tmp_path / file, tmp_path / tokens))
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "content",
    [b"b\r\na\r\n", b"b\r\na", b"b\na", b" b \n\ta\n", b"\xef\xbb\xbfb\na\n"],
    ids=["crlf", "crlf-open-end", "open-end", "spaces", "byte-order-mark"],
)
def test_token_files_of_other_editors(save, content):
    spec = save(TWO, ["?", "?"])
    spec.tokens.write_bytes(content)
    modality, report = load_modality(spec, ["[PAD]", "a", "b"])
    assert (report.errors, report.warnings) == ([], [])
    np.testing.assert_array_equal(modality.values, [[0, 0], [3, 4], [1, 2]])


def test_tokens_may_hold_unusual_separators(save):
    """Only newlines part tokens: U+2028 and U+0085 belong to a token."""
    modality, report = load_modality(save(TWO, ["x\u2028y", "p\u0085q"]), ["[PAD]", "p\u0085q", "x\u2028y"])
    assert report.errors == []
    np.testing.assert_array_equal(modality.values, [[0, 0], [3, 4], [1, 2]])


def test_token_file_that_is_no_text(save):
    spec = save(TWO, ["a", "b"])
    spec.tokens.write_bytes(b"a\n\xff\xfe\n")
    assert "text.tokens: not a UTF-8 text file" in refusal(spec)


def test_duplicate_rows_are_counted_on_request(save):
    """Row 2 and row 4 repeat row 0; the two zero rows repeat nothing that counts."""
    values = np.array([[1, 2], [3, 4], [1, 2], [0, 0], [1, 2], [0, 0]], dtype=np.float32)
    spec = save(values, list("abcdef"))
    items = ["[PAD]", *"abcdef"]
    assert load_modality(spec, items, with_duplicates=True)[1].duplicate_rows == 2
    assert load_modality(spec, items)[1].duplicate_rows == 0


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


# -- float16 ----------------------------------------------------------------------------------------------------------

NINE = ["[PAD]", *"abcdefghi"]


@pytest.fixture
def wide(save):
    """Rows of c, a, .. in another order than the items; g and h have none."""
    values = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    return lambda **options: save(values, list("cabdfei"), **options)


@pytest.mark.parametrize("rule", ["mean", "zero"])
@pytest.mark.parametrize("block", [1, 6, 1 << 22])
@pytest.mark.parametrize("cached", [True, False])
def test_half_is_the_aligned_table_rounded(wide, tmp_path, monkeypatch, rule, block, cached):
    plain, _ = load_modality(wide(missing=rule), NINE)
    monkeypatch.setattr(feature_file, "BLOCK_NUMBERS", block)
    monkeypatch.setattr(float16_cache, "BLOCK_NUMBERS", block)
    half, report = load_modality(wide(missing=rule), NINE, dtype="float16", cache=tmp_path / "cache" if cached else None)
    assert half.values.dtype == np.float16
    np.testing.assert_array_equal(half.values, plain.values.astype(np.float16))
    np.testing.assert_array_equal(half.has_row, plain.has_row)
    assert report.errors == []
    assert isinstance(half.values, np.memmap) == cached


def test_the_table_is_made_once_and_again_when_something_changes(wide, tmp_path):
    cache = tmp_path / "cache"

    def files():
        return {p.name: p.stat().st_mtime_ns for p in cache.iterdir()}

    spec = wide()
    load_modality(spec, NINE, dtype="float16", cache=cache)
    (first,) = files().items()
    assert first[0].startswith("text-")
    assert first[0].endswith(".f16.npy")
    load_modality(spec, NINE, dtype="float16", cache=cache)
    assert dict([first]) == files()
    load_modality(spec, NINE[:-1], dtype="float16", cache=cache)  # other items
    load_modality(wide(missing="zero"), NINE, dtype="float16", cache=cache)  # another rule (and a rewritten source)
    assert len(files()) == 3
    written = spec.file.stat().st_mtime_ns
    np.save(spec.file, np.load(spec.file) + 1)  # other numbers, under the same size and the same time of change
    os.utime(spec.file, ns=(written, written))
    changed, _ = load_modality(spec, NINE, dtype="float16", cache=cache)
    assert len(files()) == 1  # the three are of numbers that are no longer there
    assert files().keys() != {first[0]}
    np.testing.assert_array_equal(changed.values, load_modality(spec, NINE)[0].values.astype(np.float16))


def half(spec, cache, items=NINE):
    return load_modality(spec, items, dtype="float16", cache=cache)[0].values


def change(spec) -> None:
    np.save(spec.file, np.load(spec.file) + 1)


def test_a_table_that_is_mapped_outlives_its_file(wide, tmp_path):
    spec, cache = wide(), tmp_path / "cache"
    mapped = half(spec, cache)
    before = mapped.copy()
    change(spec)
    assert not np.array_equal(half(spec, cache), before)
    assert len(list(cache.iterdir())) == 1
    np.testing.assert_array_equal(mapped, before)


def test_only_tables_of_the_changed_files_are_replaced(wide, tmp_path):
    """A cache may serve several data sets, modalities and token files: what is not known to be stale stays."""
    spec, cache = wide(), tmp_path / "cache"
    tokens = tmp_path / "other.tokens"
    tokens.write_text("".join(f"{token}\n" for token in "ihgfedc"))
    copy = tmp_path / "copy.npy"
    copy.write_bytes(spec.file.read_bytes())
    others = [replace(spec, file=copy), replace(spec, tokens=tokens), replace(spec, name="visual", file=copy)]
    for other in others:
        half(other, cache)
    half(replace(spec, name="visual"), cache)
    kept = {path.name for path in cache.iterdir()}
    half(spec, cache)
    half(spec, cache, NINE[:-1])
    (cache / "of-a-user.txt").write_text("")
    change(spec)
    half(spec, cache)
    left = {path.name for path in cache.iterdir()}
    assert len(kept - left) == 1  # the other name of the same files
    assert len(left) == len(others) + 2
    for other in (others[0], others[2]):  # of an untouched file: found again, not made
        half(other, cache)
    assert {path.name for path in cache.iterdir()} == left
    half(others[1], cache)  # its numbers have changed too
    assert len(list(cache.iterdir())) == len(left)
    assert {path.name for path in cache.iterdir()} != left


def test_a_modality_may_have_the_separator_in_its_name(wide, tmp_path):
    spec, cache = replace(wide(), name="clip-vit-b-32"), tmp_path / "cache"
    half(spec, cache)
    change(spec)
    half(spec, cache)
    assert len(list(cache.iterdir())) == 1


def test_changed_tokens_replace_the_table_too(wide, tmp_path):
    spec, cache = wide(), tmp_path / "cache"
    half(spec, cache)
    spec.tokens.write_text("".join(f"{token}\n" for token in "abcdefg"))
    np.testing.assert_array_equal(half(spec, cache), load_modality(spec, NINE)[0].values.astype(np.float16))
    assert len(list(cache.iterdir())) == 1


def test_a_data_set_that_is_moved_keeps_its_table(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    spec = save_features(before, TWO, ["a", "b"])
    half(spec, before / "cache", ITEMS)
    before.rename(after)
    (file,) = (after / "cache").iterdir()
    written = file.stat().st_mtime_ns
    half(replace(spec, file=after / spec.file.name, tokens=after / spec.tokens.name), after / "cache", ITEMS)
    assert [path.stat().st_mtime_ns for path in (after / "cache").iterdir()] == [written]


def test_a_stale_table_that_cannot_be_removed_is_left(wide, tmp_path, monkeypatch):
    spec, cache = wide(), tmp_path / "cache"
    half(spec, cache)
    change(spec)

    def refuse(path, missing_ok=False):
        if path.suffix == ".npy":  # as Windows does while a process has it mapped
            raise PermissionError(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        half(spec, cache)
    assert len(list(cache.iterdir())) == 2
    change(spec)
    half(spec, cache)
    assert len(list(cache.iterdir())) == 1


def test_a_new_table_that_another_process_takes_for_stale_is_replaced_by_a_temporary_one(wide, tmp_path, monkeypatch):
    spec, cache, original = wide(), tmp_path / "cache", Path.replace

    def replace_and_remove(source, target):
        original(source, target)
        target.unlink()

    monkeypatch.setattr(Path, "replace", replace_and_remove)
    modality, report = load_modality(spec, NINE, dtype="float16", cache=cache)
    np.testing.assert_array_equal(modality.values, load_modality(spec, NINE)[0].values.astype(np.float16))
    assert any("another process removed it" in text for text in report.warnings)


@pytest.mark.parametrize("content", [b"", b"no array", None])
def test_a_damaged_file_of_the_cache_is_made_again(wide, tmp_path, content):
    spec = wide()
    expected = load_modality(spec, NINE, dtype="float16", cache=tmp_path / "cache")[0].values.copy()
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:-1] if content is None else content)
    np.testing.assert_array_equal(load_modality(spec, NINE, dtype="float16", cache=tmp_path / "cache")[0].values, expected)


def test_what_is_written_into_a_map_stays_out_of_the_file(wide, tmp_path):
    spec = wide()
    first, _ = load_modality(spec, NINE, dtype="float16", cache=tmp_path / "cache")
    before = first.values.copy()
    first.values[:] = 7
    np.testing.assert_array_equal(load_modality(spec, NINE, dtype="float16", cache=tmp_path / "cache")[0].values, before)


def test_a_folder_that_cannot_be_written_gives_a_temporary_file_and_a_warning(wide, tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    modality, report = load_modality(wide(), NINE, dtype="float16", cache=tmp_path / "a file" / "cache")
    np.testing.assert_array_equal(modality.values, load_modality(wide(), NINE)[0].values.astype(np.float16))
    assert isinstance(modality.values, np.memmap)
    assert any("cannot be written" in text and "temporary file" in text for text in report.warnings)
    assert list((tmp_path / "scratch").iterdir()) == []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a file"))
    with pytest.raises(FeatureError, match="text: its float16 table can be written neither to"):
        load_modality(wide(), NINE, dtype="float16", cache=tmp_path / "a file" / "cache")


@pytest.mark.parametrize("value", [65520.0, -1e30, 1e-9])
@pytest.mark.parametrize("cached", [True, False])
def test_numbers_that_float16_cannot_hold_are_named(save, tmp_path, value, cached):
    spec = save(np.array([[1.0, 2.0], [value, value], [3.0, 4.0]], dtype=np.float32), ["b", "a", "x"])
    cache = tmp_path / "cache" if cached else None
    error = refusal(spec, ["[PAD]", "a", "b"], dtype="float16", cache=cache)
    for part in (str(spec.file), "1 of 3 rows", "a (row 1)", "float16", "feature_dtype: float32"):
        assert part in error
    assert cache is None or list(cache.iterdir()) == []
    assert load_modality(spec, ["[PAD]", "b", "x"], dtype="float16", cache=cache)[0] is not None  # no item needs that row


def test_the_largest_number_of_float16_and_small_numbers_beside_others_are_kept(save):
    modality, _ = load_modality(save([[65504.0, 1e-9], [-65504.0, 0.0]], ["a", "b"]), ["[PAD]", "a", "b"], dtype="float16")
    assert modality.values.tolist() == [[0, 0], [65504, 0], [-65504, 0]]


def test_nan_is_named_as_in_float32(save, tmp_path):
    spec = save(np.array([[1.0, np.nan], [3.0, 4.0]], dtype=np.float32), ["a", "b"])
    assert "a (row 0)" in refusal(spec, ["[PAD]", "a", "b"], dtype="float16", cache=tmp_path / "cache")

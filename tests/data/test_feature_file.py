"""Feature and token files: what is read, and what is refused."""

import numpy as np
import pytest

from recbole_ib.data.features import load_modality
from recbole_ib.data.modality_spec import ModalitySpec
from tests.support.features import TWO, refusal


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

"""The float16 copies of the feature tables: what they hold, and when they are made again."""

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recbole_ib.data import feature_file, float16_cache
from recbole_ib.data.features import load_modality
from recbole_ib.errors import FeatureError
from tests.support.datasets import save_features
from tests.support.features import ITEMS, TWO, refusal

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

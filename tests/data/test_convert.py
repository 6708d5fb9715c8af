"""recbole_ib.data.convert: a folder of MMRec's layout becomes a data set that training accepts, or nothing is written."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import yaml

from recbole_ib.config.config import Config
from recbole_ib.data import convert
from recbole_ib.data.convert import convert_mmrec
from recbole_ib.data.dataset import MultimodalDataset
from recbole_ib.errors import ConversionError
from recbole_ib.training.validate import check_dataset

SPLITS = ("train", "valid", "test")
# five users with 4 items each: two to train on, one to validate, one to test
MMREC_ROWS = [(user, (user + j) % 6, label) for user in range(5) for j, label in enumerate((0, 0, 1, 2))]


def write_inter(folder: Path, rows, header="userID\titemID\tx_label") -> None:
    """Replace ``toy.inter``; rows are tuples, or text that is written as it stands."""
    lines = [row if isinstance(row, str) else "\t".join(map(str, row)) for row in rows]
    (folder / "toy.inter").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


@pytest.fixture
def mmrec(tmp_path, monkeypatch) -> Path:
    """A folder of MMRec's layout: toy.inter, image_feat.npy (float32, one row more than items), text_feat.npy (float64)."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "source"
    folder.mkdir()
    write_inter(folder, MMREC_ROWS)
    rng = np.random.default_rng(1)
    np.save(folder / "image_feat.npy", rng.normal(size=(7, 3)).astype(np.float32))
    np.save(folder / "text_feat.npy", rng.normal(size=(6, 2)))
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def built(out: Path, name: str = "toy") -> MultimodalDataset:
    return MultimodalDataset(Config("VBPR", name, config_dict={"data_path": str(out), "use_gpu": False}))


# -- what is written --------------------------------------------------------------------------------------------------


def test_every_interaction_lands_in_its_split(mmrec, tmp_path):
    done = convert_mmrec(mmrec, tmp_path / "out")
    assert (done.name, done.folder, done.users, done.items) == ("toy", tmp_path / "out" / "toy", 5, 6)
    assert done.split_sizes == {"train": 10, "valid": 5, "test": 5}
    assert done.modalities == {"image": (7, 3), "text": (6, 2)}
    dataset = built(tmp_path / "out")
    for label, part in enumerate(dataset.build()):
        users = dataset.id2token("user_id", part.inter_feat["user_id"].numpy())
        items = dataset.id2token("item_id", part.inter_feat["item_id"].numpy())
        expected = [(str(u), str(i)) for u, i, x in MMREC_ROWS if x == label]
        assert sorted(zip(users, items, strict=True)) == sorted(expected)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_features_are_equal_bit_for_bit(mmrec, tmp_path, modality):
    convert_mmrec(mmrec, tmp_path / "out")
    source = mmrec / f"{modality}_feat.npy"
    assert (tmp_path / "out" / "toy" / f"{modality}.npy").read_bytes() == source.read_bytes()
    dataset, values = built(tmp_path / "out"), np.load(source)
    for token, row in zip(dataset.field2id_token["item_id"][1:], dataset.modalities[modality][1:].numpy(), strict=True):
        np.testing.assert_array_equal(row, values[int(token)].astype(np.float32))


def test_yaml_holds_the_settings(mmrec, tmp_path):
    convert_mmrec(mmrec, tmp_path / "out", name="my-set.2")
    folder = tmp_path / "out" / "my-set.2"
    settings = yaml.safe_load((folder / "my-set.2.yaml").read_text(encoding="utf-8"))
    assert settings["benchmark_filename"] == ["train", "valid", "test"]
    assert list(settings["modalities"]) == ["image", "text"]
    for entry in settings["modalities"].values():
        assert {(folder / entry[key]).is_file() for key in ("file", "tokens")} == {True}
    assert {p.name for p in folder.glob("*.inter")} == {f"my-set.2.{split}.inter" for split in SPLITS}


@pytest.mark.parametrize("name", ["toy", "my-set.2", "ml-100k"])
def test_check_accepts_the_result(mmrec, tmp_path, name):
    """Also under the name of RecBole's bundled set, whose own settings must not reach a folder that the user names."""
    done = convert_mmrec(mmrec, tmp_path / "out", name=name)
    report = check_dataset(config_dict={"dataset": name, "data_path": str(tmp_path / "out"), "use_gpu": False})
    assert report.errors == []
    assert report.split_sizes == done.split_sizes
    assert (report.users, report.items) == (5, 6)
    assert {r.spec.name: r.covered for r in report.modalities} == {"image": 6, "text": 6}


def test_order_and_gaps_of_the_source_do_not_matter(mmrec, tmp_path):
    """Rows in any order, and item 2 without an interaction: the feature of item 3 stays that of row 3."""
    rows = [(u, i + (i >= 2), x) for u, i, x in reversed(MMREC_ROWS)]
    write_inter(mmrec, rows)
    np.save(mmrec / "text_feat.npy", np.arange(1.0, 15.0).reshape(7, 2))
    done = convert_mmrec(mmrec, tmp_path / "out")
    assert done.items == 6
    dataset = built(tmp_path / "out")
    for token, row in zip(dataset.field2id_token["item_id"][1:], dataset.modalities["text"][1:].tolist(), strict=True):
        assert row == [2 * int(token) + 1, 2 * int(token) + 2]


def test_extra_numeric_columns_are_kept(mmrec, tmp_path):
    rows = [(u, i, 0.5 * n, x, 1_400_000_000 + n) for n, (u, i, x) in enumerate(MMREC_ROWS)]
    write_inter(mmrec, rows, header="userID\titemID\trating\tx_label\ttimestamp")
    convert_mmrec(mmrec, tmp_path / "out")
    for label, split in enumerate(SPLITS):
        frame = pd.read_csv(tmp_path / "out" / "toy" / f"toy.{split}.inter", sep="\t")
        assert list(frame.columns) == ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
        kept = [(u, i, r, t) for u, i, r, x, t in rows if x == label]
        assert list(frame.itertuples(index=False, name=None)) == kept
    assert check_dataset(config_dict={"dataset": "toy", "data_path": str(tmp_path / "out")}).errors == []


def test_ready_item_graph_is_taken_along(mmrec, tmp_path):
    rng = np.random.default_rng(2)
    dense = (rng.random((7, 7)) * (rng.random((7, 7)) < 0.5)).astype(np.float32)
    sp.save_npz(mmrec / "image_knn10.npz", sp.csr_matrix(dense))
    done = convert_mmrec(mmrec, tmp_path / "out")
    assert done.graphs == ["image"]
    dataset = built(tmp_path / "out")
    assert list(dataset.item_graphs) == ["image"]
    ids = dataset.field2id_token["item_id"][1:].astype(int)
    expected = dense[np.ix_(ids, ids)]
    alone = np.flatnonzero(~expected.any(axis=1))
    expected[alone, alone] = 1.0  # an item without an edge is linked to itself
    np.testing.assert_array_equal(dataset.item_graphs["image"].toarray()[1:, 1:], expected)


def test_id_mappings_are_copied(mmrec, tmp_path):
    (mmrec / "i_id_mapping.csv").write_text("asin\titemID\nB00\t0\n")
    convert_mmrec(mmrec, tmp_path / "out")
    assert (tmp_path / "out" / "toy" / "i_id_mapping.csv").read_text() == "asin\titemID\nB00\t0\n"


def test_source_is_left_as_it_was(mmrec, tmp_path):
    before = tree(mmrec)
    convert_mmrec(mmrec, tmp_path / "out")
    assert tree(mmrec) == before


# -- broken sources ---------------------------------------------------------------------------------------------------


def rows_with(line: int, row) -> list:
    """The rows with another one in this line of the file (the header is line 1)."""
    rows = list(MMREC_ROWS)
    rows[line - 2] = row
    return rows


def inter(rows, header="userID\titemID\tx_label"):
    return lambda folder: write_inter(folder, rows, header)


def feature(values, modality="text"):
    return lambda folder: np.save(folder / f"{modality}_feat.npy", values)


def graph(matrix, file="text_knn10.npz"):
    return lambda folder: sp.save_npz(folder / file, matrix)


def content(file: str, data: bytes):
    return lambda folder: (folder / file).write_bytes(data)


def no_inter(folder):
    (folder / "toy.inter").unlink()


def two_inters(folder):
    shutil.copy(folder / "toy.inter", folder / "other.inter")


def no_features(folder):
    for path in folder.glob("*_feat.npy"):
        path.unlink()


def cut_features(folder):
    (folder / "text_feat.npy").write_bytes((folder / "text_feat.npy").read_bytes()[:150])


def archive_as_npy(folder):
    np.savez(folder / "archive.npz", x=np.ones((6, 2)))
    os.replace(folder / "archive.npz", folder / "text_feat.npy")


def two_graphs(folder):
    graph(sp.eye_array(6))(folder)
    graph(sp.eye_array(6), "text_knn20.npz")(folder)


def nan_at(item: int) -> np.ndarray:
    values = np.ones((6, 2))
    values[item, 1] = np.nan
    return values


BROKEN = {
    "no interactions": (no_inter, ["source:", ".inter", "found none"]),
    "two interaction files": (two_inters, ["toy.inter", "other.inter"]),
    "empty interaction file": (content("toy.inter", b""), ["toy.inter"]),
    "header alone": (inter([]), ["toy.inter", "no interaction"]),
    "no text": (content("toy.inter", b"\xff\xfe\x00"), ["toy.inter", "table"]),
    "a column is missing": (inter(MMREC_ROWS, "userID\titemID\tlabel"), ["toy.inter", "'x_label'", "userID, itemID, label"]),
    "commas": (content("toy.inter", b"userID,itemID,x_label\n0,1,0\n"), ["toy.inter", "'userID'", "tab-separated"]),
    "a ragged line": (inter(rows_with(5, "0\t3\t0\t9")), ["toy.inter", "line 5"]),
    "a word for an item": (inter(rows_with(6, (0, "abc", 0))), ["toy.inter", "'itemID'", "line 6", "'abc'"]),
    "an empty user": (inter(rows_with(3, ("", 1, 0))), ["toy.inter", "'userID'", "line 3"]),
    "a negative user": (inter(rows_with(4, (-1, 2, 0))), ["toy.inter", "'userID'", "line 4", "-1"]),
    "half an item": (inter(rows_with(9, (1, 2.5, 0))), ["toy.inter", "'itemID'", "line 9", "2.5"]),
    "an infinite item": (inter(rows_with(9, (1, "inf", 0))), ["toy.inter", "'itemID'", "line 9"]),
    "a fourth split": (inter(rows_with(7, (1, 2, 3))), ["toy.inter", "'x_label'", "line 7", "(3)"]),
    "no test split": (inter([r for r in MMREC_ROWS if r[2] < 2]), ["toy.inter", "x_label 2", "test"]),
    "no training split": (inter([r for r in MMREC_ROWS if r[2]]), ["toy.inter", "x_label 0", "train"]),
    "trained and tested": (inter([*MMREC_ROWS, (0, 0, 2)]), ["toy.inter", "given twice", "lines 2, 22", "user 0, item 0"]),
    "text in a further column": (
        inter([(*row, "good" if n == 3 else 1) for n, row in enumerate(MMREC_ROWS)], "userID\titemID\tx_label\treview"),
        ["toy.inter", "'review'", "line 5", "'good'"],
    ),
    "a blank line before": (inter(["", "", *rows_with(2, (0, "abc", 0))]), ["toy.inter", "'itemID'", "line 4"]),
    "a column named as ours": (
        inter([(*row, 1) for row in MMREC_ROWS], "userID\titemID\tx_label\tuser_id"),
        ["toy.inter", "'user_id'"],
    ),
    "no feature file": (no_features, ["source:", "_feat.npy"]),
    "no identifier": (feature(np.ones((6, 2)), "my-text"), ["my-text_feat.npy", "'my-text'"]),
    "pickled features": (feature(np.array([{}] * 6, dtype=object)), ["text_feat.npy", "pickled"]),
    "cut features": (cut_features, ["text_feat.npy", "not a readable .npy"]),
    "an archive as .npy": (archive_as_npy, ["text_feat.npy"]),
    "whole numbers": (feature(np.ones((6, 2), dtype=np.int64)), ["text_feat.npy", "int64"]),
    "one number an item": (feature(np.ones(6)), ["text_feat.npy", "(6,)"]),
    "no number an item": (feature(np.ones((6, 0))), ["text_feat.npy", "(6, 0)"]),
    "too few rows": (feature(np.ones((5, 2))), ["text_feat.npy", "5 rows", "item 5", "toy.inter"]),
    "NaN": (feature(nan_at(4)), ["text_feat.npy", "1 rows", "item 4"]),
    "infinity": (feature(np.full((6, 2), np.inf)), ["text_feat.npy", "6 rows", "item 0, 1"]),
    "a graph of nothing": (graph(sp.eye_array(6), "audio_knn5.npz"), ["audio_knn5.npz", "'audio'", "audio_feat.npy"]),
    "two graphs": (two_graphs, ["'text'", "text_knn10.npz", "text_knn20.npz"]),
    "a graph of another size": (graph(sp.eye_array(5)), ["text_knn10.npz", "(5, 5)", "6 rows"]),
    "a graph of NaN": (graph(sp.csr_array(np.full((6, 6), np.nan))), ["text_knn10.npz", "NaN"]),
    "no graph": (content("text_knn10.npz", b"no archive"), ["text_knn10.npz", "sparse"]),
    "half a graph": (content("text_knn10.npz", b"PK\x03\x04 half"), ["text_knn10.npz", "sparse"]),
}


@pytest.mark.parametrize(("break_it", "parts"), BROKEN.values(), ids=BROKEN)
def test_broken_source_is_named_and_nothing_is_written(mmrec, tmp_path, break_it, parts):
    break_it(mmrec)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ConversionError) as caught:
        convert_mmrec(mmrec, out)
    for part in parts:
        assert part in str(caught.value)
    assert list(out.iterdir()) == []


def test_more_fields_than_columns_are_not_shifted(mmrec, tmp_path):
    """pandas makes the first field of such lines an index; user 9's items would become users, its splits items."""
    write_inter(mmrec, [(9, 0, 0, 0), (9, 1, 0, 0), (9, 2, 1, 1), (9, 3, 2, 2)])
    with pytest.raises(ConversionError) as caught:
        convert_mmrec(mmrec, tmp_path / "out")
    assert "toy.inter" in str(caught.value)


def test_missing_folder(tmp_path):
    with pytest.raises(ConversionError, match=r"there is no folder .*nowhere"):
        convert_mmrec(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["a/b", "a b", "../x", "ä", ".", ".."])
@pytest.mark.parametrize("force", [False, True])
def test_names_that_are_no_folder_names(mmrec, tmp_path, name, force):
    (tmp_path / "out").mkdir()
    before = tree(tmp_path)
    with pytest.raises(ConversionError) as caught:
        convert_mmrec(mmrec, tmp_path / "out", name=name, force=force)
    if force:
        assert repr(name) in str(caught.value)
    assert tree(tmp_path) == before


# -- what is there already --------------------------------------------------------------------------------------------


def test_existing_folder_is_refused_and_kept(mmrec, tmp_path):
    folder = tmp_path / "out" / "toy"
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("keep")
    with pytest.raises(ConversionError, match="--force") as caught:
        convert_mmrec(mmrec, tmp_path / "out")
    assert str(folder) in str(caught.value)
    assert tree(tmp_path / "out") == {os.path.join("toy", "mine.txt"): b"keep"}


def test_force_replaces(mmrec, tmp_path):
    convert_mmrec(mmrec, tmp_path / "fresh")
    folder = tmp_path / "out" / "toy"
    folder.mkdir(parents=True)
    (folder / "toy.train.inter").write_text("old")
    (folder / "old.txt").write_text("old")
    convert_mmrec(mmrec, tmp_path / "out", force=True)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"toy"}


def test_force_replaces_no_folder_that_is_no_data_set(mmrec, tmp_path):
    folder = tmp_path / "out" / "toy"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(ConversionError, match="no data set"):
        convert_mmrec(mmrec, tmp_path / "out", force=True)
    assert tree(tmp_path / "out") == {os.path.join("toy", "thesis.tex"): b"mine"}


def test_force_with_a_broken_source_keeps_the_old(mmrec, tmp_path):
    convert_mmrec(mmrec, tmp_path / "out")
    before = tree(tmp_path / "out")
    no_features(mmrec)
    with pytest.raises(ConversionError):
        convert_mmrec(mmrec, tmp_path / "out", force=True)
    assert tree(tmp_path / "out") == before


def test_failing_disk_leaves_the_old_and_no_scratch(mmrec, tmp_path, monkeypatch):
    convert_mmrec(mmrec, tmp_path / "out")
    before = tree(tmp_path / "out")

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(convert.shutil, "copyfile", full)
    with pytest.raises(OSError, match="no space left"):
        convert_mmrec(mmrec, tmp_path / "out", force=True)
    assert tree(tmp_path / "out") == before
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"toy"}


@pytest.mark.parametrize("below", ["", "raw"])
def test_force_does_not_replace_the_source_itself(mmrec, tmp_path, below):
    """``convert mmrec data/toy data --force`` would delete the folder it reads."""
    source = tmp_path / "data" / "toy" / below
    shutil.copytree(mmrec, source)
    before = tree(tmp_path / "data")
    with pytest.raises(ConversionError) as caught:
        convert_mmrec(source, tmp_path / "data", force=True)
    assert str(source) in str(caught.value)
    assert tree(tmp_path / "data") == before


def test_output_path_that_is_a_file(mmrec, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ConversionError) as caught:
        convert_mmrec(mmrec, tmp_path / "out")
    assert str(tmp_path / "out") in str(caught.value)
    assert (tmp_path / "out").read_text() == "mine"

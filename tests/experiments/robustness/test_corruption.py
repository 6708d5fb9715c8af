"""Injected noise: exact shares, nested levels, kept marginals, and a level 0 that is the data set itself."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp

from recbole_ib.cli.main import main
from recbole_ib.errors import ConfigurationError
from recbole_ib.experiments.robustness.corrupted_dataset import read_source, write_corrupted
from recbole_ib.experiments.robustness.corruption import (
    check_level,
    noise_columns,
    permuted_columns,
    permuted_rows,
    rewired_edges,
)
from tests.support.datasets import planted, write_dataset

LEVELS = (0.0, 0.3, 0.6, 1.0)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((40, 20)).astype(np.float32)
    usable = np.ones(40, dtype=bool)
    usable[[3, 17]] = False
    values[~usable] = 0
    return values, usable


def nested(changed: list[np.ndarray]) -> bool:
    return all(not (small & ~large).any() for small, large in itertools.pairwise(changed))


def test_columns_are_replaced_exactly_nested_and_keep_marginals_and_joint_structure(table):
    values, usable = table
    moved = []
    for level in LEVELS:
        out = permuted_columns(values, usable, level, np.random.default_rng(5))
        moved.append((out != values).any(axis=0))
        assert moved[-1].sum() == round(level * 20)
        np.testing.assert_array_equal(out[~usable], 0)
        # no item keeps its own value of a moved column, and one permutation moves them all
        assert (out != values)[np.ix_(usable, moved[-1])].all()
        np.testing.assert_array_equal(np.sort(out, axis=0), np.sort(values, axis=0))
        rows = {row.tobytes() for row in values[:, moved[-1]]}
        assert all(row.tobytes() in rows for row in out[:, moved[-1]])
    assert nested(moved)


def test_rows_are_replaced_exactly_nested_and_stay_whole(table):
    values, usable = table
    keys, moved = np.random.default_rng(1).random(40), []
    for level in LEVELS:
        out = permuted_rows(values, usable, level, keys)
        moved.append((out != values).any(axis=1))
        assert moved[-1].sum() == round(level * usable.sum())
        assert not moved[-1][~usable].any()
        np.testing.assert_array_equal(np.unique(out, axis=0), np.unique(values, axis=0))
    assert nested(moved)
    np.testing.assert_array_equal(permuted_rows(values, usable, 0.02, keys), values)  # a single item has nobody to swap with


def test_edges_are_rewired_exactly_nested_and_to_new_neighbors_alone():
    rng = np.random.default_rng(2)
    rows = np.repeat(np.arange(1, 31), 5)
    others = [rng.choice(np.setdiff1d(np.arange(1, 31), i), 4, replace=False) for i in range(1, 31)]
    cols = np.concatenate([np.r_[i, others[i - 1]] for i in range(1, 31)])
    changed = []
    for level in LEVELS:
        out = rewired_edges(rows, cols, np.arange(1, 31), level, np.random.default_rng(0))
        changed.append(out != cols)
        assert changed[-1].sum() == round(level * 120)
        assert not changed[-1][rows == cols].any()
        for i in range(1, 31):
            ends = out[rows == i]
            assert len(set(ends)) == 5
            assert not set(out[(rows == i) & changed[-1]]) & set(cols[rows == i])
    assert nested(changed)
    with pytest.raises(ConfigurationError, match="smaller knn_k"):
        rewired_edges(rows, cols, np.arange(1, 7), 0.5, np.random.default_rng(0))


def test_rewired_ends_are_uniform():
    rows, cols = np.array([1]), np.array([2])
    ends = [rewired_edges(rows, cols, np.arange(1, 8), 1.0, np.random.default_rng(s))[0] for s in range(1000)]
    counts = np.bincount(ends, minlength=8)[3:]
    assert counts.sum() == 1000
    assert counts.min() > 150
    assert counts.max() < 250


def test_noise_columns_are_prefixes_with_neighbors_of_their_own():
    narrow, wide = noise_columns(300, 20, 0.5, [0, 1]), noise_columns(300, 60, 0.5, [0, 1])
    np.testing.assert_array_equal(narrow, wide[:, :20])
    np.testing.assert_allclose(wide.std(axis=0), 0.5, rtol=1e-4)
    unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -1)
    # clusters: the nearest neighbor is far nearer than one of as many independent rows would be
    assert np.median(similarity.max(axis=1)) > 0.8


@pytest.mark.parametrize(
    ("kind", "level"), [("feature", 0.1), ("features", 1.1), ("edges", -0.1), ("modality", 11), ("rows", True)]
)
def test_other_kinds_and_levels_are_refused(kind, level):
    with pytest.raises(ConfigurationError, match=r"Did you mean|allowed"):
        check_level(kind, level)


@pytest.fixture
def source(tmp_path):
    """Items i50..i59 have no text; the two modalities name their rows in different orders."""
    pairs, modalities, _, _ = planted()
    modalities["text"] = modalities["text"][:50]
    path = write_dataset(tmp_path / "data", "small", pairs, modalities)
    values, folder = modalities["visual"].astype(np.float32), path / "small"
    np.save(folder / "visual.npy", values[::-1])
    (folder / "visual.tokens").write_text("".join(f"i{i}\n" for i in range(60)[::-1]))
    return read_source("small", {"data_path": str(path)})


def features(folder, modality):
    tokens = (folder / f"{modality}.tokens").read_text().split()
    return dict(zip(tokens, np.load(folder / f"{modality}.npy"), strict=True))


@pytest.mark.parametrize("kind", ["features", "rows", "modality", "edges"])
def test_level_zero_is_the_data_set_itself_and_every_level_can_be_read(kind, source, tmp_path, capsys):
    zero = write_corrupted(tmp_path / "out", source, kind, 0, seed=1)
    assert (zero / f"{zero.name}.inter").read_bytes() == (source.folder / "small.inter").read_bytes()
    for m in ("visual", "text"):
        assert (zero / f"{m}.npy").read_bytes() == (source.folder / f"{m}.npy").read_bytes()
        assert (zero / f"{m}.tokens").read_bytes() == (source.folder / f"{m}.tokens").read_bytes()
    assert not list(zero.glob("*.npz")) + list(zero.glob("noise*"))
    half = write_corrupted(tmp_path / "out", source, kind, 0.5, seed=1)
    assert main(["check", f"--dataset={half.name}", f"--data_path={tmp_path / 'out'}"]) == 0
    again = write_corrupted(tmp_path / "again", source, kind, 0.5, seed=1, name=half.name)
    for file in sorted(half.glob("*.npy")):
        assert file.read_bytes() == (again / file.name).read_bytes()


def test_rows_move_alike_in_modalities_with_the_same_items(source, tmp_path):
    pairs, modalities, _, _ = planted()
    path = write_dataset(tmp_path / "full", "full", pairs, modalities)
    folder = write_corrupted(tmp_path / "out", read_source("full", {"data_path": str(path)}), "rows", 0.5, seed=3)
    donors = []
    for m, values in modalities.items():
        clean = {row.astype(np.float32).tobytes(): i for i, row in enumerate(values)}
        donors.append([clean[row.tobytes()] for row in features(folder, m).values()])
    assert donors[0] == donors[1]
    assert sum(i != d for i, d in enumerate(donors[0])) == 30


def test_edges_are_ready_graphs_of_the_items_left(source, tmp_path):
    graphs = {}
    for level in (1e-9, 0.4, 0.8):
        folder = write_corrupted(tmp_path / "out", source, "edges", level, seed=1, knn_k=4)
        for m in ("visual", "text"):
            graphs[m, level] = sp.load_npz(folder / f"{m}_graph.npz").toarray() != 0
    for m, n in (("visual", 60), ("text", 50)):
        clean, some, more = (graphs[m, level] for level in (1e-9, 0.4, 0.8))
        assert clean.shape == (n, n)
        assert (clean.sum(axis=1) == 4).all()
        for graph, level in ((some, 0.4), (more, 0.8)):
            assert (clean & ~graph).sum() == round(level * 3 * n)
            assert (graph.sum(axis=1) == 4).all()
        assert not (clean & more & ~some).any()  # what is lost at .4 is lost at .8


def test_edges_are_searched_as_the_key_says(source, tmp_path):
    with pytest.raises(ConfigurationError, match="knn_search is 'hnsw'"):
        write_corrupted(tmp_path / "out", source, "edges", 0.5, seed=1, knn_k=4, knn_search="hnsw")


def test_the_noise_modality_is_as_wide_as_the_level_says(source, tmp_path):
    folder = write_corrupted(tmp_path / "out", source, "modality", 0.5, seed=1)
    wide = write_corrupted(tmp_path / "out", source, "modality", 2, seed=1)
    narrow, values = np.load(folder / "noise.npy"), np.load(wide / "noise.npy")
    assert narrow.shape == (60, 5)
    assert values.shape == (60, 20)
    np.testing.assert_array_equal(narrow, values[:, :5])
    spread = np.concatenate([m.values[m.has_row].var(axis=0) for m in source.modalities.values()]).mean()
    np.testing.assert_allclose(values.var(axis=0), spread, rtol=1e-3)
    with pytest.raises(ConfigurationError, match="already"):
        write_corrupted(tmp_path / "out", read_source(folder.name, {"data_path": str(folder.parent)}), "modality", 0.5, seed=1)


def test_the_bundled_data_set_at_level_zero_trains_on_the_same_tables(tmp_path):
    from recbole.data import create_dataset

    from recbole_ib.config.config import Config

    folder = write_corrupted(tmp_path, read_source("ml-100k"), "features", 0, seed=0)
    tables = []
    for name, settings in (("ml-100k", {}), (folder.name, {"data_path": str(tmp_path)})):
        data = create_dataset(Config("VBPR", name, config_dict={"state": "ERROR", **settings}))
        tables.append((len(data), [str(t) for t in data.field2id_token["item_id"]], data.modalities, data.inter_feat["item_id"]))
    assert tables[0][:2] == tables[1][:2]
    assert bool((tables[0][3] == tables[1][3]).all())
    for m, values in tables[0][2].items():
        assert bool((values == tables[1][2][m]).all())

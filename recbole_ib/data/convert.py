"""Conversion of other toolkits' layouts to RecBole's atomic files with token-keyed features."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
import yaml

from recbole_ib.data.feature_file import UNREADABLE
from recbole_ib.errors import ConversionError, first_few
from recbole_ib.utils.files import replace_folder

SPLITS = ("train", "valid", "test")
#: of whole numbers from 0 on
REQUIRED_COLUMNS = ("userID", "itemID", "x_label")


@dataclass
class Conversion:
    """Result of a conversion: what it wrote."""

    name: str
    folder: Path
    users: int
    items: int
    split_sizes: dict[str, int]
    modalities: dict[str, tuple[int, ...]]
    graphs: list[str]


def convert_mmrec(
    source: str | Path, out: str | Path, name: str | None = None, force: bool = False
) -> Conversion:
    """Turn a data folder of MMRec's layout into RecBole's.

    Read: one ``*.inter`` (tab-separated; ``userID itemID x_label``, x_label 0 train, 1 valid, 2 test; further
    numeric columns are kept), every ``<modality>_feat.npy`` (row i: item i), every ``<modality>_knn*.npz``
    (a ready item graph of that modality), and id mappings (``*id_mapping.csv``), which are copied.

    Written to ``out/name``: ``name.train.inter``, ``name.valid.inter``, ``name.test.inter``, for each
    modality its ``.npy`` and ``.tokens``, and ``name.yaml`` with the settings. All of it or nothing: it is
    made beside its place and moved.

    Args:
        source: the folder.
        out: the data path to write below.
        name: the data set's name; default: that of the ``.inter`` file.
        force: replace an ``out/name`` that is there.

    Returns:
        What was written.

    Raises:
        ConversionError: what in which file stands in the way; nothing is written then.
    """
    source, out = Path(source), Path(out)
    if not source.is_dir():
        raise ConversionError(f"there is no folder {source}")
    inter_file = _only_inter(source)
    name = name or inter_file.stem
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", name):
        raise ConversionError(
            f"a data set's name is made of letters, digits, '-', '_' and inner '.', got {name!r}"
        )
    folder = out / name
    _check_target(source, out, folder)
    if folder.exists() and not force:
        raise ConversionError(f"{folder} is already there; choose another --name, or replace it with --force")
    if folder.exists() and any(folder.iterdir()) and not any(folder.glob("*.inter")):
        raise ConversionError(
            f"{folder} holds files but no .inter: it is no data set, and not replaced even with --force"
        )
    frame = _read_inter(inter_file)
    features = _read_features(source, int(frame["itemID"].max()), inter_file)
    graphs = _read_graphs(source, features)

    def fill(scratch: Path) -> None:
        _write_splits(frame, scratch, name)
        for modality, (path, shape) in features.items():
            shutil.copyfile(path, scratch / f"{modality}.npy")
            _write_tokens(scratch, modality, range(shape[0]))
        for path in [*graphs.values(), *sorted(source.glob("*id_mapping.csv"))]:
            shutil.copyfile(path, scratch / path.name)
        (scratch / f"{name}.yaml").write_text(_yaml(name, source, features, graphs), encoding="utf-8")

    replace_folder(out, name, fill)
    return Conversion(
        name=name,
        folder=folder,
        users=frame["userID"].nunique(),
        items=frame["itemID"].nunique(),
        split_sizes={split: int((frame["x_label"] == label).sum()) for label, split in enumerate(SPLITS)},
        modalities={m: shape for m, (_, shape) in features.items()},
        graphs=list(graphs),
    )


def _check_target(source: Path, out: Path, folder: Path) -> None:
    for path in (out, folder):
        if path.exists() and not path.is_dir():
            raise ConversionError(f"{path} is a file; a folder is needed there")
    if source.resolve() == folder.resolve() or folder.resolve() in source.resolve().parents:
        raise ConversionError(
            f"{folder} is, or holds, the folder that is read ({source}); choose another OUT or --name"
        )


def _only_inter(source: Path) -> Path:
    files = sorted(source.glob("*.inter"))
    if len(files) != 1:
        what = "none" if not files else ", ".join(p.name for p in files)
        raise ConversionError(f"{source}: one .inter file is needed, found {what}")
    return files[0]


def _read_inter(path: Path) -> pd.DataFrame:
    """Read the interactions: whole numbers ``userID``, ``itemID`` and ``x_label``, and further numbers."""
    frame, lines = _read_lines(path)
    _check_columns(path, frame)
    for column in frame.columns:
        frame[column] = _numbers(path, frame[column], lines)
    _check_splits(path, frame, lines)
    repeated = frame.duplicated(["userID", "itemID"], keep=False)
    if repeated.any():
        pair = tuple(frame.loc[repeated, ["userID", "itemID"]].iloc[0])
        raise ConversionError(
            f"{path}: {int(frame.duplicated(['userID', 'itemID']).sum())} interactions are given twice, so "
            f"that a split may hold what another one tests; first in lines {first_few(lines[repeated])} "
            f"(user {pair[0]}, item {pair[1]}). Keep one of each"
        )
    return frame


def _read_lines(path: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the table as texts, and the number of every row's line."""
    try:
        # index_col=False: a row with one field more than the header would otherwise shift every column by
        # one; skip_blank_lines=False: so that row i stands in line i + 2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.ParserWarning)  # of what is counted and refused below
            frame = pd.read_csv(path, sep="\t", index_col=False, skip_blank_lines=False, dtype=str)
        with path.open(encoding="utf-8") as text:
            fields = next(text).rstrip("\r\n").count("\t")
            wrong = [
                i
                for i, line in enumerate(text, start=2)
                if line.strip() and line.rstrip("\r\n").count("\t") != fields
            ]
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, StopIteration) as error:
        raise ConversionError(f"{path}: not a tab-separated table ({error})") from None
    if wrong:
        raise ConversionError(
            f"{path}: {len(wrong)} lines have another number of fields than the header's {fields + 1}, "
            f"first: line {first_few(wrong)}"
        )
    frame = frame[~frame.isna().all(axis=1)]  # blank lines
    return frame.reset_index(drop=True), frame.index.to_numpy() + 2


def _check_columns(path: Path, frame: pd.DataFrame) -> None:
    for column in ("user_id", "item_id"):
        if column in frame.columns:
            raise ConversionError(
                f"{path}: a column is named {column!r}, which is what userID and itemID become; rename or "
                "drop it"
            )
    for column in REQUIRED_COLUMNS:
        if column not in frame.columns:
            raise ConversionError(
                f"{path}: the column {column!r} is missing; it has: {first_few(frame.columns, 10)} "
                "(tab-separated)"
            )
    if frame.empty:
        raise ConversionError(f"{path}: no interaction below the header")


def _numbers(path: Path, texts: pd.Series, lines: np.ndarray) -> pd.Series:
    """Return a column as numbers, whole ones from 0 on where it is a required column."""
    column = texts.name
    values = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=float)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise ConversionError(
            f"{path}: {bad.size} values of {column!r} are not numbers, first in line {first_few(lines[bad])} "
            f"({texts.iloc[bad[0]]!r})"
        )
    if column not in REQUIRED_COLUMNS:
        return texts
    bad = np.flatnonzero((values < 0) | (values != np.floor(values)))
    if bad.size:
        raise ConversionError(
            f"{path}: {bad.size} values of {column!r} are not whole numbers from 0 on, first in line "
            f"{first_few(lines[bad])} ({texts.iloc[bad[0]]!r})"
        )
    if (values > np.iinfo(np.int64).max // 2).any():
        raise ConversionError(f"{path}: {column!r} goes up to {values.max():g}, more than an id can be")
    return pd.to_numeric(texts, errors="coerce").astype(np.int64)


def _check_splits(path: Path, frame: pd.DataFrame, lines: np.ndarray) -> None:
    bad = np.flatnonzero(~frame["x_label"].isin((0, 1, 2)))
    if bad.size:
        raise ConversionError(
            f"{path}: {bad.size} values of 'x_label' are not 0 (train), 1 (valid) or 2 (test), first in line "
            f"{first_few(lines[bad])} ({frame['x_label'].iloc[bad[0]]})"
        )
    for label, split in enumerate(SPLITS):
        if not (frame["x_label"] == label).any():
            raise ConversionError(
                f"{path}: no interaction has x_label {label} ({split}); every split is needed"
            )


def _read_features(source: Path, last_item: int, inter_file: Path) -> dict[str, tuple[Path, tuple[int, ...]]]:
    features = {}
    for path in sorted(source.glob("*_feat.npy")):
        modality = path.name.removesuffix("_feat.npy")
        if not modality.isidentifier():
            raise ConversionError(f"{path}: {modality!r} cannot name a modality; use letters, digits and '_'")
        try:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        except UNREADABLE as error:
            raise ConversionError(f"{path}: not a readable .npy without pickled objects ({error})") from None
        if not isinstance(values, np.ndarray):
            raise ConversionError(
                f"{path}: an archive (.npz) by another name; a single array saved with numpy.save is needed"
            )
        if values.ndim != 2 or 0 in values.shape or values.dtype not in (np.float16, np.float32, np.float64):
            raise ConversionError(
                f"{path}: float16, float32 or float64 [items, dimensions] is needed, got {values.dtype} "
                f"{values.shape}"
            )
        if values.shape[0] <= last_item:
            raise ConversionError(
                f"{path}: {values.shape[0]} rows, but {inter_file.name} goes up to item {last_item}: row i "
                "must be item i"
            )
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if bad.size:
            raise ConversionError(
                f"{path}: {bad.size} rows hold NaN or infinity, first: item {first_few(bad)}"
            )
        features[modality] = (path, tuple(values.shape))
    if not features:
        raise ConversionError(
            f"{source}: no feature file; a modality is a file <modality>_feat.npy such as image_feat.npy or "
            "text_feat.npy"
        )
    return features


def _read_graphs(source: Path, features: dict[str, tuple[Path, tuple[int, ...]]]) -> dict[str, Path]:
    graphs: dict[str, Path] = {}
    for path in sorted(source.glob("*_knn*.npz")):
        modality = path.name.split("_knn")[0]
        if modality not in features:
            raise ConversionError(
                f"{path}: an item graph of the modality {modality!r}, which has no {modality}_feat.npy"
            )
        if modality in graphs:
            raise ConversionError(
                f"{source}: two item graphs of {modality!r}: {graphs[modality].name} and {path.name}; keep "
                "one"
            )
        try:
            graph = sp.load_npz(path)
        except UNREADABLE as error:
            raise ConversionError(
                f"{path}: not a sparse matrix that scipy.sparse.save_npz wrote ({error})"
            ) from None
        rows = features[modality][1][0]
        if not np.isfinite(graph.data).all():
            raise ConversionError(
                f"{path}: {int((~np.isfinite(graph.data)).sum())} weights are NaN or infinite"
            )
        if graph.shape != (rows, rows):
            raise ConversionError(f"{path}: shape {graph.shape}, but {modality}_feat.npy has {rows} rows")
        graphs[modality] = path
    return graphs


def _write_splits(frame: pd.DataFrame, folder: Path, name: str) -> None:
    extra = [c for c in frame.columns if c not in ("userID", "itemID", "x_label")]
    header = {"userID": "user_id:token", "itemID": "item_id:token", **{c: f"{c}:float" for c in extra}}
    for label, split in enumerate(SPLITS):
        part = frame.loc[frame["x_label"] == label, list(header)].rename(columns=header)
        part.to_csv(folder / f"{name}.{split}.inter", sep="\t", index=False)


def _yaml(name: str, source: Path, features: dict, graphs: dict[str, Path]) -> str:
    entries = {}
    for modality in features:
        entry = {"file": f"{modality}.npy", "tokens": f"{modality}.tokens", "missing": "mean"}
        if modality in graphs:
            entry["item_graph_file"] = graphs[modality].name
        entries[modality] = entry
    settings = {
        "benchmark_filename": list(SPLITS),
        "load_col": {"inter": ["user_id", "item_id"]},
        "modalities": entries,
    }
    head = (
        f"# {name}: converted from MMRec's layout ({source.name}) by `recbole-ib convert mmrec`. The split "
        "is the one of x_label.\n# Say which encoder made a feature file with modalities.<name>.encoder; "
        "`recbole-ib check` prints it.\n"
    )
    return head + yaml.safe_dump(settings, sort_keys=False)


def write_features(folder: Path, modality: str, values: np.ndarray, tokens: Iterable[object]) -> None:
    """Write ``modality.npy`` and ``modality.tokens``: values ``[n, d]``, one token per row."""
    np.save(folder / f"{modality}.npy", values)
    _write_tokens(folder, modality, tokens)


def _write_tokens(folder: Path, modality: str, tokens: Iterable[object]) -> None:
    text = "".join(f"{token}\n" for token in tokens)
    (folder / f"{modality}.tokens").write_text(text, encoding="utf-8")

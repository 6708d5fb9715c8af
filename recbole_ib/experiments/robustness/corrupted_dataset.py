"""Real data sets with injected irrelevance, written where RecBole reads them."""

from __future__ import annotations

import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
import yaml

from recbole_ib.config.config import Config
from recbole_ib.config.layers import dataset_folder_yaml, our_yaml
from recbole_ib.data.convert import write_features
from recbole_ib.data.dataset import MultimodalDataset
from recbole_ib.data.feature_file import read_table
from recbole_ib.data.features import load_modality
from recbole_ib.data.modality_spec import Modality, ModalitySpec
from recbole_ib.errors import ConfigurationError, FeatureError
from recbole_ib.experiments.robustness.corruption import (
    check_level,
    noise_columns,
    permuted_columns,
    permuted_rows,
    replaced_count,
    rewired_edges,
)
from recbole_ib.graph import cosine_knn
from recbole_ib.training.validate import UncheckedDataset
from recbole_ib.utils.files import replace_folder

#: the modality that ``modality`` adds
NOISE_MODALITY = "noise"
#: fields of a ModalitySpec that hold no path
PLAIN = ("missing", "encoder")


@dataclass(frozen=True)
class Source:
    """A data set as its model would see it, and where its files lie."""

    name: str
    folder: Path
    settings: dict  # what its yaml files say, without modalities
    specs: list[ModalitySpec]
    modalities: dict[str, Modality]  # rows by internal id; 0 is padding
    tokens: list[str]  # of the internal ids


def read_source(dataset: str, settings: dict | None = None) -> Source:
    """Return the data set that a name and settings mean, after RecBole's filtering.

    The settings are ``data_path``, filters and ``use_modalities``.

    Raises:
        ConfigurationError: no such data set, or one without modalities.
        FeatureError: feature files that training would refuse.
    """
    settings = {key: value for key, value in (settings or {}).items() if key not in ("model", "dataset")}
    config = Config("VLATTICE", dataset, None, {"state": "ERROR", **settings})
    specs = MultimodalDataset.modality_specs(config)
    if not specs:
        raise ConfigurationError(
            f"the data set {dataset!r} names no modalities; there is nothing to add noise to"
        )
    inside = UncheckedDataset(config)
    tokens = [str(t) for t in inside.field2id_token[inside.iid_field]]
    modalities: dict[str, Modality] = {}
    errors: list[str] = []
    for spec in specs:
        modality, report = load_modality(spec, tokens)
        if modality is not None:
            modalities[spec.name] = modality
        errors += report.errors
    if errors:
        raise FeatureError("\n".join(errors))
    folder = Path(config["data_path"])
    yaml_settings = {
        **our_yaml(f"dataset/{dataset}"),
        **dataset_folder_yaml(dataset, {"data_path": str(folder.parent)}),
    }
    kept = {
        k: v
        for k, v in yaml_settings.items()
        if k not in ("modalities", "use_modalities", "feature_path", "data_path")
    }
    return Source(dataset, folder, kept, specs, modalities, tokens)


def write_corrupted(
    folder: str | Path,
    source: Source,
    kind: str,
    level: float,
    seed: int,
    name: str | None = None,
    knn_k: int = 10,
    knn_search: str = "auto",
) -> Path:
    """Write a data set with noise where RecBole reads it.

    Its interactions are those of the source, byte by byte.

    Args:
        folder: the data path to write below.
        source: see :func:`read_source`.
        kind: ``features`` (columns moved to other items), ``rows`` (items' rows moved), ``modality`` (one
            more modality, of noise alone) or ``edges`` (the cosine graphs rewired, written as ready item
            graphs).
        level: the share of columns, items with features, or edges that is replaced; for ``modality`` the
            width of the noise over that of all other features together. At 0 the features and graphs are
            those of the source.
        seed: of everything drawn.
        name: the data set's name; default: from source, kind, level and seed.
        knn_k: for ``edges``, the neighbors an item, itself included; models with a smaller ``knn_k`` take the
            nearest of them.
        knn_search: for ``edges``, how they are found, see :func:`recbole_ib.graph.cosine_knn`.

    Returns:
        ``folder/name``.

    Raises:
        ConfigurationError: another kind, or a level outside its range.
    """
    check_level(kind, level)
    name = corrupted_name(source.name, kind, level, seed) if name is None else name
    tables = {spec.name: _read(spec) for spec in source.specs}
    union = sorted({token for _, tokens in tables.values() for token in tokens})
    # a number a token, so that every modality moves the same items whatever the order of its rows is
    keys = dict(zip(union, np.random.default_rng(_stream(seed, "rows")).random(len(union)), strict=True))
    if kind == "modality" and NOISE_MODALITY in tables:
        raise ConfigurationError(
            f"{source.name} has a modality {NOISE_MODALITY!r} already; leave it out with use_modalities"
        )

    def fill(target: Path) -> None:
        for path in sorted(source.folder.glob(f"{source.name}.*")):
            if path.suffix != ".yaml" and path.is_file():
                shutil.copyfile(path, target / f"{name}{path.name[len(source.name) :]}")
        entries = {}
        for spec in source.specs:
            values, tokens = tables[spec.name]
            entry = {"file": f"{spec.name}.npy", "tokens": f"{spec.name}.tokens"}
            entry |= {key: getattr(spec, key) for key in PLAIN if getattr(spec, key) is not None}
            graph = _graph(source, spec, tokens, kind, level, seed, knn_k, knn_search)
            if graph is not None:
                entry["item_graph_file"] = f"{spec.name}_graph.npz"
                sp.save_npz(target / entry["item_graph_file"], graph)
            write_features(
                target,
                spec.name,
                _corrupted_values(values, tokens, spec.name, kind, level, seed, keys),
                tokens,
            )
            entries[spec.name] = entry
        if kind == "modality" and level > 0:
            entries[NOISE_MODALITY] = _write_noise(target, source, tables, level, seed)
        text = yaml.safe_dump({**source.settings, "modalities": entries}, sort_keys=False)
        head = (
            f"# {source.name} with {kind} noise of level {level:g}, seed {seed}, by `recbole-ib "
            "robustness`.\n"
        )
        (target / f"{name}.yaml").write_text(head + text, encoding="utf-8")

    return replace_folder(Path(folder), name, fill)


def corrupted_name(dataset: str, kind: str, level: float, seed: int) -> str:
    """Return a name that differs by data set, noise, level and seed."""
    return f"{dataset}-{kind}-{level:g}-s{seed}"


def _stream(seed: int, name: str) -> list[int]:
    return [seed, zlib.crc32(name.encode())]


def _read(spec: ModalitySpec) -> tuple[np.ndarray, list[str]]:
    values, tokens = read_table(spec)
    return np.asarray(values), tokens


def _corrupted_values(
    values: np.ndarray,
    tokens: list[str],
    modality: str,
    kind: str,
    level: float,
    seed: int,
    keys: dict[str, float],
) -> np.ndarray:
    usable = np.asarray(values.any(axis=1))
    if kind == "features":
        return permuted_columns(
            values, usable, level, np.random.default_rng(_stream(seed, f"features {modality}"))
        )
    if kind == "rows":
        return permuted_rows(values, usable, level, np.array([keys[token] for token in tokens]))
    return values


def _graph(
    source: Source,
    spec: ModalitySpec,
    tokens: list[str],
    kind: str,
    level: float,
    seed: int,
    knn_k: int,
    knn_search: str,
) -> sp.csr_array | None:
    """Return the ready item graph in feature-row order, or ``None`` where a model is to compute it."""
    if level == 0 or kind == "modality":
        return None if spec.item_graph_file is None else sp.load_npz(spec.item_graph_file)
    if kind != "edges":
        return None  # a ready graph is one of the clean features
    modality = source.modalities[spec.name]
    if modality.item_graph is not None:
        coo = sp.coo_array(modality.item_graph)
        order = np.lexsort((coo.coords[1], coo.coords[0]))
        rows, cols, weights = (part[order] for part in (*coo.coords, coo.data))
    else:
        neighbors = cosine_knn(
            torch.from_numpy(modality.values), knn_k, torch.from_numpy(modality.has_row), knn_search
        )
        rows, cols, weights = (part.numpy() for part in neighbors)
    items = np.flatnonzero(modality.has_row)
    cols = rewired_edges(rows, cols, items, level, np.random.default_rng(_stream(seed, f"edges {spec.name}")))
    row_of = {token: i for i, token in enumerate(tokens)}
    place = np.array([row_of.get(token, -1) for token in source.tokens])
    place[0] = -1
    rows, cols = place[rows], place[cols]
    keep = (rows >= 0) & (cols >= 0)  # items without a row are linked to themselves when the file is read
    return sp.csr_array((weights[keep], (rows[keep], cols[keep])), shape=(len(tokens), len(tokens)))


def _write_noise(target: Path, source: Source, tables: dict, level: float, seed: int) -> dict:
    total = sum(values.shape[1] for values, _ in tables.values())
    width = max(1, replaced_count(level, total))
    # as large as the other features, so that their scale alone does not hide or favor it
    deviation = np.sqrt(
        np.concatenate(
            [m.values[m.has_row].var(axis=0) for m in source.modalities.values() if m.values is not None]
        ).mean()
    )
    tokens = sorted(source.tokens[1:])
    write_features(
        target,
        NOISE_MODALITY,
        noise_columns(len(tokens), width, deviation, _stream(seed, "modality")),
        tokens,
    )
    return {"file": f"{NOISE_MODALITY}.npy", "tokens": f"{NOISE_MODALITY}.tokens", "encoder": "noise"}

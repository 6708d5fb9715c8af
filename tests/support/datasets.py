"""Small data sets, written as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from recbole_ib.data.features import ModalitySpec


def planted(n_users=80, n_items=60, groups=4, seed=0):
    """Users of a group take half of the group's items: ``text`` tells the group, ``visual`` is noise.

    Returns (pairs, modalities, group of every item, group of every user).
    """
    rng = np.random.default_rng(seed)
    item_group, user_group = np.arange(n_items) % groups, np.arange(n_users) % groups
    same = user_group[:, None] == item_group[None, :]
    taken = rng.random((n_users, n_items)) < np.where(same, 0.6, 0.01)
    text = np.eye(groups)[item_group] + 0.1 * rng.standard_normal((n_items, groups))
    visual = rng.standard_normal((n_items, 6))
    return list(zip(*np.nonzero(taken), strict=True)), {"text": text, "visual": visual}, item_group, user_group


def write_dataset(folder: Path, name: str, pairs, modalities: dict[str, np.ndarray], **settings) -> Path:
    """Atomic files and features; items are the tokens ``i<number>``, users ``u<number>``. Returns the data path."""
    here = folder / name
    here.mkdir(parents=True)
    lines = ["user_id:token\titem_id:token", *(f"u{u}\ti{i}" for u, i in pairs)]
    (here / f"{name}.inter").write_text("\n".join(lines) + "\n")
    entries = {}
    for modality, values in modalities.items():
        np.save(here / f"{modality}.npy", values.astype(np.float32))
        (here / f"{modality}.tokens").write_text("".join(f"i{i}\n" for i in range(values.shape[0])))
        entries[modality] = {"file": f"{modality}.npy", "tokens": f"{modality}.tokens"}
    config = {"load_col": {"inter": ["user_id", "item_id"]}, "modalities": entries, **settings}
    (here / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return folder


def save_features(folder: Path, values, tokens, name: str = "text", **options) -> ModalitySpec:
    """Write ``name.npy`` and ``name.tokens`` and return the spec that names them."""
    file, token_file = folder / f"{name}.npy", folder / f"{name}.tokens"
    np.save(file, np.asarray(values))
    token_file.write_text("".join(f"{t}\n" for t in tokens), encoding="utf-8")
    return ModalitySpec(name, file, token_file, **options)

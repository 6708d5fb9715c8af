"""Linear probes: how much of known factors learned latents hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from recbole.data.dataset import Dataset
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold

from recbole_ib.errors import ConfigurationError
from recbole_ib.experiments.robustness.synthetic import read_truth
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.training.checkpoint import read_checkpoint
from recbole_ib.training.restore import restore_run, run_config, silenced

FOLDS = 5
PENALTIES = tuple(10.0**e for e in range(-4, 5))
#: what the probe columns of a run are named after, and the factors of truth.npz that each holds
PARTS = {
    "unique_visual": ("unique_visual",),
    "unique_text": ("unique_text",),
    "redundant": ("redundant",),
    "synergistic": ("synergistic",),
    "irrelevant": ("irrelevant_visual", "irrelevant_text"),
    "nuisance": ("nuisance",),
}


def heldout_r2(latents: np.ndarray, factors: np.ndarray, seed: int = 0) -> float:
    """Return the held-out R^2 of ridge regression from latents to factors.

    It is how much of the factors a linear read-out recovers.

    Five folds over the items; the penalty is chosen inside the four training folds. Latents are centered and
    divided by their largest standard deviation, so that their common scale does not matter. R^2 is floored at
    0 by factor, and averaged.

    Args:
        latents: ``[n, d]``.
        factors: ``[n, k]``.
        seed: of the folds.

    Raises:
        ConfigurationError: other shapes, or fewer rows than twice the folds.
    """
    latents, factors = _checked(latents, factors)
    scale = latents.std(axis=0).max()
    if scale == 0:
        return 0.0
    latents = (latents - latents.mean(axis=0)) / scale
    predicted = np.empty_like(factors)
    for train, held_out in KFold(FOLDS, shuffle=True, random_state=seed).split(latents):
        model = RidgeCV(PENALTIES, alpha_per_target=True).fit(latents[train], factors[train])
        predicted[held_out] = model.predict(latents[held_out]).reshape(len(held_out), -1)
    residual = ((factors - predicted) ** 2).sum(axis=0) / ((factors - factors.mean(axis=0)) ** 2).sum(axis=0)
    return float(np.maximum(0.0, 1.0 - residual).mean())


def explained_variance(latents: np.ndarray, factors: np.ndarray) -> float:
    """Return the part of the latents' total variance that the factors explain linearly, in [0, 1].

    R^2 of least squares from factors to latents, dimensions weighted by their variance, adjusted for the k
    regressors (1 - (1 - R^2)(n - 1) / (n - k - 1)), floored at 0. Unlike :func:`heldout_r2` it sees scale:
    factors that a latent holds in a direction of little variance count little.

    Args: as of :func:`heldout_r2`.
    """
    latents, factors = _checked(latents, factors)
    n, k = factors.shape
    latents = latents - latents.mean(axis=0)
    total = (latents**2).sum()
    if total == 0 or k == 0:
        return 0.0
    if n <= k + 1:
        raise ConfigurationError(
            f"the variance that {k} factors explain needs more than {k + 1} rows, got {n}"
        )
    regressors = factors - factors.mean(axis=0)
    fitted = regressors @ np.linalg.lstsq(regressors, latents, rcond=None)[0]
    r2 = (fitted**2).sum() / total
    return float(max(0.0, 1.0 - (1.0 - r2) * (n - 1) / (n - k - 1)))


def _checked(latents: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    latents, factors = np.asarray(latents, dtype=np.float64), np.asarray(factors, dtype=np.float64)
    if latents.ndim != 2 or factors.ndim != 2 or len(latents) != len(factors) or len(latents) < 2 * FOLDS:
        raise ConfigurationError(
            f"a probe needs latents [n, d] and factors [n, k] with the same n of at least {2 * FOLDS}, got "
            f"{latents.shape} and {factors.shape}"
        )
    return latents, factors


def probe_rows(rows: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return how much of every planted part is read out of every table of rows.

    Keys are ``<rows>_r2_<part>`` and ``<rows>_share_<part>``; rows are ``[n, d]``, planted parts ``[n, k]``.
    """
    measures = {}
    for name, table in rows.items():
        for part, planted in PARTS.items():
            factors = np.hstack([truth[key] for key in planted])
            if factors.shape[1]:
                measures[f"{name}_r2_{part}"] = heldout_r2(table, factors)
                measures[f"{name}_share_{part}"] = explained_variance(table, factors)
    return measures


def trained_model(checkpoint: str | Path) -> tuple[MultimodalRecommender, Dataset]:
    """Return the model of a checkpoint of ours and its training data set.

    The model has its best weights and is in evaluation mode.
    """
    state = read_checkpoint(checkpoint)
    with silenced():
        run = restore_run(
            checkpoint, state, run_config(state, checkpoint, mmrec_path=state["config"].get("mmrec_path"))
        )
        return cast("MultimodalRecommender", run.network().eval()), run.train._dataset


def item_tables(model: MultimodalRecommender) -> dict[str, np.ndarray]:
    """Return the tables of rows that are probed, ``[n_items, d]``.

    ``latents``: all latents side by side, where a model has some; ``items``: the rows that it scores with.
    """
    with torch.no_grad():
        latents = list(model.training_latents().values())
        tables = {"latents": torch.cat(latents, dim=1)} if latents else {}
        tables["items"] = model()[1]
    return {name: table.double().cpu().numpy() for name, table in tables.items()}


def probe_checkpoint(checkpoint: str | Path, folder: str | Path) -> dict[str, float]:
    """Return :func:`probe_rows` of the best epoch of a run on the planted data set ``folder``.

    The run is of one of our models.
    """
    model, dataset = trained_model(checkpoint)
    return probe_rows(
        *aligned_rows(item_tables(model), dataset.field2id_token[dataset.iid_field], *read_truth(folder))
    )


def aligned_rows(
    tables: dict, dataset_tokens: Sequence[str], truth_tokens: list[str], truth: dict
) -> tuple[dict, dict]:
    """Return rows of tables and truth in one order.

    They are aligned by token, because RecBole renumbers items and may filter some.
    """
    row = {token: i for i, token in enumerate(truth_tokens)}
    ids = [i for i, token in enumerate(dataset_tokens) if i > 0 and str(token) in row]
    rows = [row[str(dataset_tokens[i])] for i in ids]
    return {name: table[ids] for name, table in tables.items()}, {
        part: values[rows] for part, values in truth.items()
    }

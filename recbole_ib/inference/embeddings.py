"""User and item rows whose inner products are a model's scores: found, checked, written as arrays."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor, nn

from recbole_ib.errors import ConfigurationError, first_few
from recbole_ib.model.registry import is_multimodal
from recbole_ib.utils.files import replace_folder

#: where RecBole's models keep their rows; those propagated on a graph come before the parameters that they
#: are made of
TABLES = (("restore_user_e", "restore_item_e"), ("user_embedding", "item_embedding"))
#: users whose scores are compared, fewer where the catalog is so large that they would be more numbers than
#: this
USERS_CHECKED, SCORES_CHECKED = 64, 1 << 24
#: the largest difference, as a part of the largest score: far above float32 rounding, far below a bias or an
#: activation
SAME_SCORE = 1e-4
#: what an export holds
FILES = ("users.npy", "users.tokens", "items.npy", "items.tokens")
FAISS_FILE = "items.faiss"


@dataclass(frozen=True)
class Embeddings:
    """Tables of which <user row, item row> is the score.

    Attributes:
        user_tokens: str ``[n]``.
        user: float32 ``[n, d]``, without padding.
        item_tokens: str ``[m]``.
        item: float32 ``[m, d]``.
    """

    user_tokens: np.ndarray
    user: np.ndarray
    item_tokens: np.ndarray
    item: np.ndarray


@torch.no_grad()
def product_tables(model: AbstractRecommender, score: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Return the tables ``[n_users, d]``, ``[n_items, d]`` whose inner products are a model's scores.

    Args:
        model: one of ours, or of RecBole's with tables that :data:`TABLES` names.
        score: users ``[n]`` -> scores ``[n, n_items]``.

    Raises:
        ConfigurationError: the model has no such tables, or its scores are not their products.
    """
    n_users, name = model.n_users, type(model).__name__
    worst: dict[str, float] = {}
    count = max(1, min(USERS_CHECKED, n_users - 1, SCORES_CHECKED // model.n_items))
    users = torch.linspace(1, n_users - 1, count).round().long().unique()
    # first: RecBole's graph models keep their rows when they score
    scores = score(users)
    for names, user, item in _candidates(model):
        if user.dim() != 2 or item.dim() != 2 or user.shape[1] != item.shape[1]:
            continue
        if (user.shape[0], item.shape[0]) != (n_users, model.n_items):
            continue
        apart = (user[users.to(user.device)] @ item.T).float().cpu()[:, 1:] - scores[:, 1:].cpu()
        worst[names] = float(apart.abs().max()) / max(
            float(scores[:, 1:].abs().max()), torch.finfo(torch.float32).tiny
        )
        if worst[names] <= SAME_SCORE:
            return user.detach().float(), item.detach().float()
    if not worst:
        raise ConfigurationError(
            f"{name} holds no row a user and a row an item to score with, or none that recbole_ib knows of: "
            "it has no embeddings. recommend works for it"
        )
    listed = "; ".join(
        f"of {names} they are off by up to {apart:.1e} of the largest score" for names, apart in worst.items()
    )
    raise ConfigurationError(
        f"the scores of {name} are not inner products of its user and item rows ({listed}): a search for "
        "neighbors among them would not give its recommendations, so it has no embeddings to export or "
        "compare. recommend works for it"
    )


def _candidates(model: AbstractRecommender) -> Iterator[tuple[str, Tensor, Tensor]]:
    if is_multimodal(type(model)) and not hasattr(type(model), "bridged_settings"):
        yield "forward()", *model.embeddings()
    for names in TABLES:
        tables: list[Any] = [getattr(model, name, None) for name in names]
        tables = [table.weight if isinstance(table, nn.Embedding) else table for table in tables]
        if all(torch.is_tensor(table) for table in tables):
            yield " and ".join(names), tables[0], tables[1]


def check_target(folder: Path, force: bool) -> None:
    """Check that an export may be written, before anything is computed for it.

    Raises:
        ConfigurationError: it must not.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(f"{folder} is a file; name a folder to write to")
    if not folder.exists():
        return
    others = sorted({path.name for path in folder.iterdir()} - {*FILES, FAISS_FILE})
    if others:
        raise ConfigurationError(
            f"{folder} holds files that are of no export ({first_few(others)}): it is not replaced, not even "
            "by force. Name another folder"
        )
    if not force:
        raise ConfigurationError(f"{folder} is already there; name another folder, or replace it with force")


def import_faiss() -> ModuleType:
    """Return the module faiss.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise ConfigurationError(
            "items.faiss needs faiss, which is not installed: pip install 'recbole_ib[faiss]'"
        ) from None
    return faiss


def write_embeddings(embeddings: Embeddings, folder: Path, faiss: ModuleType | None = None) -> Path:
    """Write ``users.npy``, ``users.tokens`` (one per line, in row order), ``items.npy``, ``items.tokens``.

    With ``faiss`` also ``items.faiss``. The folder is written as one, and replaces one of its name.

    Raises:
        ConfigurationError: a token that a line cannot hold, or a folder that cannot be written.
    """
    tables = {
        "users": (embeddings.user_tokens, embeddings.user),
        "items": (embeddings.item_tokens, embeddings.item),
    }
    for name, (tokens, _) in tables.items():
        broken = [repr(token) for token in tokens if "\n" in token or "\r" in token]
        if broken:
            raise ConfigurationError(
                f"{len(broken)} tokens of the {name} hold line breaks ({first_few(broken)}), so that a file "
                "with one token a line cannot hold them; take the arrays from embeddings() in Python"
            )

    def fill(scratch: Path) -> None:
        for name, (tokens, rows) in tables.items():
            np.save(scratch / f"{name}.npy", rows)
            with Path(scratch / f"{name}.tokens").open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{token}\n" for token in tokens)
        if faiss is not None:
            index = faiss.IndexFlatIP(embeddings.item.shape[1])
            index.add(np.ascontiguousarray(embeddings.item))
            faiss.write_index(index, str(scratch / FAISS_FILE))

    try:
        return replace_folder(folder.parent, folder.name, fill)
    except (OSError, shutil.Error) as error:
        raise ConfigurationError(f"cannot write {folder}: {error}") from None

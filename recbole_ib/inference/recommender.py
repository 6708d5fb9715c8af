"""Recommendations, similar items and embeddings of a trained model, by the user's own ids."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType
from torch import Tensor

from recbole_ib.data.eval_loader import ItemsByUser
from recbole_ib.data.sampler import InteractionIndex
from recbole_ib.errors import CheckpointError, ConfigurationError, first_few, nearest
from recbole_ib.inference.embeddings import (
    Embeddings,
    check_target,
    import_faiss,
    product_tables,
    write_embeddings,
)
from recbole_ib.ops.topk import blocks, stable_topk
from recbole_ib.training.restore import TrainedRun, read_checkpoint_any, restore_run, run_config, silenced

#: pairs that a model which scores them one by one gets at a time
PAIRS_AT_ONCE = 1 << 16


class FewerItemsWarning(UserWarning):
    """Warning that somebody gets fewer rows than were asked for."""


def load(
    checkpoint: str | Path,
    device: str | torch.device | None = None,
    data_path: str | Path | None = None,
    mmrec_path: str | Path | None = None,
) -> Recommender:
    """Load a trained model, ready to recommend.

    Its data set is read, and checked to be the one that it was trained on.

    Args:
        checkpoint: the ``.pth`` file of a run, of our models or RecBole's own general ones.
        device: such as ``cpu`` or ``cuda``; default: a GPU if there is one.
        data_path: the folder where data sets lie now; default: where they lay at the run.
        mmrec_path: for a model ``mmrec:NAME`` the checkout that its class is imported from.

    Raises:
        CheckpointError: the file cannot be read or trusted, or the data are gone or have changed.
        ConfigurationError: the model does not rank all items for a user id, or the device is not there.
    """
    with silenced():
        state = read_checkpoint_any(checkpoint)
        config = run_config(state, checkpoint, device, data_path, mmrec_path)
        if config["MODEL_TYPE"] not in (ModelType.GENERAL, ModelType.TRADITIONAL):
            raise ConfigurationError(
                f"{checkpoint} is of {config['model']}, a {config['MODEL_TYPE'].name.lower()} recommender: "
                "it needs more than a user id to rank items. recommend takes general recommenders"
            )
        run = restore_run(checkpoint, state, config)
        return Recommender(run, run.network())


class Recommender:
    """Trained model that takes and returns tokens of its data set; made by :func:`load`.

    Attributes:
        user_tokens: all users of the (filtered) data set, a str array in the order of its ids.
        item_tokens: all items, likewise.
        user_field: the name of the users' column, ``USER_ID_FIELD`` of the run.
        item_field: the name of the items' column, ``ITEM_ID_FIELD`` of the run.
    """

    def __init__(self, run: TrainedRun, model: AbstractRecommender):
        dataset = run.dataset
        self.checkpoint, self.config, self.model = run.path, run.config, model.eval()
        self.user_field, self.item_field = dataset.uid_field, dataset.iid_field
        self.user_tokens, self.item_tokens = (
            np.array([str(token) for token in dataset.field2id_token[field][1:]], dtype=object)
            for field in (self.user_field, self.item_field)
        )
        self._taken = InteractionIndex.of(dataset)

    def __repr__(self) -> str:
        return (
            f"Recommender({self.config['model']} on {self.config['dataset']}: {len(self.user_tokens)} users, "
            f"{len(self.item_tokens)} items)"
        )

    def recommend(
        self, users: Iterable[str] | str | None = None, k: int = 20, keep_seen: bool = False
    ) -> pd.DataFrame:
        """Return the k items that score highest for each user.

        Equal scores stand in the order of the item ids.

        Args:
            users: tokens, or one; default: all. A user named twice is answered once.
            k: rows per user. One who has fewer items left gets those, and a warning says how many such users
                there are.
            keep_seen: rank the items of the user's own interactions too. Otherwise all interactions of the
                data set are left out, those for validation and test as well; those that the data set's
                filtering dropped are not known.

        Returns:
            One row per item, with user token and item token (str, under the names of the data set's fields),
            ``rank`` from 1, ``score``.

        Raises:
            ConfigurationError: a user who is not in the data set, or a wrong k.
            CheckpointError: scores that are not finite.
        """
        k = _positive(k)
        ids = np.arange(1, len(self.user_tokens) + 1) if users is None else 1 + self._rows(users, "user")
        size, width = len(self.item_tokens), min(k, len(self.item_tokens))
        parts = [_nothing(width)]
        for block in blocks(ids, size + 1):
            scores = self._scores(torch.from_numpy(block))[:, 1:]
            self._check_finite(scores, block)
            if not keep_seen:
                rows, items = ItemsByUser(self._taken).pairs(block)
                scores[rows.to(scores.device), (items - 1).to(scores.device)] = -torch.inf
            parts.append((block - 1, *(top.cpu().numpy() for top in stable_topk(scores, width))))
        counts = np.concatenate([np.isfinite(values).sum(axis=1) for _, values, _ in parts])
        self._warn_of_short(counts, k, "users", "items left to recommend")
        return self._frame(self.user_field, self.user_tokens, self.item_field, parts)

    def similar(self, items: Iterable[str] | str, k: int = 20) -> pd.DataFrame:
        """Return the k items nearest to each item by the cosine of their embeddings, itself left out.

        Args:
            items: tokens, or one.
            k: rows per item; fewer, and a warning, where the data set has fewer.

        Returns:
            One row per neighbor, with item token (under the name of the data set's field), ``similar_item``,
            ``rank`` from 1, ``score``.

        Raises:
            ConfigurationError: an item that is not in the data set or has a row of zeros, a wrong k,
                or a model without embeddings.
        """
        k = _positive(k)
        wanted = self._rows(items, "item")
        _, table = self._tables
        norms = table.norm(dim=1, keepdim=True)
        empty = [self.item_tokens[i] for i in wanted if norms[i + 1] == 0]
        if empty:
            raise ConfigurationError(
                f"{len(empty)} items have an embedding of zeros, which no cosine has: {first_few(empty)}"
            )
        # a row of zeros is as far from any item as an unrelated one
        table = (table / norms.clamp_min(torch.finfo(table.dtype).tiny))[1:]
        width = min(k, len(table))
        parts = [_nothing(width)]
        for block in blocks(wanted, len(table)):
            at = torch.from_numpy(block).to(table.device)
            scores = table[at] @ table.T
            scores[torch.arange(len(block), device=table.device), at] = -torch.inf
            parts.append((block, *(top.cpu().numpy() for top in stable_topk(scores, width))))
        self._warn_of_short(
            np.full(len(wanted), min(k, len(table) - 1)), k, "items", "other items in the data set"
        )
        return self._frame(self.item_field, self.item_tokens, "similar_item", parts)

    def embeddings(self) -> Embeddings:
        """Return the rows whose inner products are the scores.

        Raises:
            ConfigurationError: a model that scores in another way.
        """
        user, item = (table[1:].cpu().numpy().copy() for table in self._tables)
        return Embeddings(self.user_tokens, user, self.item_tokens, item)

    def export(self, folder: str | Path, faiss_index: bool = False, force: bool = False) -> Path:
        """Write the embeddings as one folder, whole or not at all.

        ``users.npy``, ``users.tokens``, ``items.npy``, ``items.tokens``.

        Args:
            folder: where to; it must not exist.
            faiss_index: also write ``items.faiss``, a faiss ``IndexFlatIP`` of the item rows.
            force: replace an export that is there.

        Raises:
            ConfigurationError: the folder is there, faiss is not installed, or the model has no embeddings.
        """
        folder = Path(folder).expanduser().resolve()
        check_target(folder, force)
        faiss = import_faiss() if faiss_index else None
        return write_embeddings(self.embeddings(), folder, faiss)

    # -- inside ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _scores(self, users: Tensor) -> Tensor:
        """Return scores of all items and padding for user ids ``[n]``: float ``[n, n_items]``, a copy."""
        batch = Interaction({self.user_field: users}).to(self.config["device"])
        n_items = len(self.item_tokens) + 1
        try:
            scores = self.model.full_sort_predict(batch)
        except NotImplementedError:
            # as RecBole's evaluator does: a model that scores pairs gets every pair
            pairs = torch.cartesian_prod(users, torch.arange(n_items)).split(PAIRS_AT_ONCE)
            fields = [Interaction({self.user_field: p[:, 0], self.item_field: p[:, 1]}) for p in pairs]
            scores = torch.cat([self.model.predict(pair.to(self.config["device"])) for pair in fields])
        return torch.as_tensor(scores).reshape(len(users), n_items).float().clone()

    def _check_finite(self, scores: Tensor, users: np.ndarray) -> None:
        # a sum is not finite where a score is not; twenty times as fast as a look at each
        bad = torch.nonzero(~torch.isfinite(scores.sum(dim=1))).flatten()
        bad = bad[~torch.isfinite(scores[bad]).all(dim=1)]
        if bad.numel():
            first = self.user_tokens[users[int(bad[0])] - 1]
            raise CheckpointError(
                f"{self.checkpoint}: the scores of {bad.numel()} users are not all finite, the first: "
                f"{first!r}. Its training has diverged; train again with a lower learning_rate"
            )

    @cached_property
    def _tables(self) -> tuple[Tensor, Tensor]:
        return product_tables(self.model, self._scores)

    @cached_property
    def _row_of(self) -> dict[str, dict[str, int]]:
        tokens = {"user": self.user_tokens, "item": self.item_tokens}
        return {kind: {token: row for row, token in enumerate(names)} for kind, names in tokens.items()}

    def unknown(self, tokens: Sequence[str], kind: str) -> list[int]:
        """Return the positions of the tokens that are no ``user`` (or ``item``) of the data set."""
        return [at for at, token in enumerate(tokens) if token not in self._row_of[kind]]

    def hint(self, token: str, kind: str) -> str:
        """Return what a message says of an unknown token: the nearest ones that the data set has."""
        return nearest(token, self._row_of[kind])

    def _rows(self, tokens: Iterable[str] | str, kind: str) -> np.ndarray:
        """Return positions in ``user_tokens`` or ``item_tokens``, each once."""
        tokens = [tokens] if isinstance(tokens, str) else [str(token) for token in tokens]
        missing = [tokens[at] for at in self.unknown(tokens, kind)]
        if missing:
            raise ConfigurationError(
                f"{len(missing)} of {len(tokens)} {kind}s are not in the data set {self.config['dataset']!r} "
                "of the run (its filtering may have left them out): "
                f"{first_few(map(repr, missing))}.{self.hint(missing[0], kind)}"
            )
        return np.array([self._row_of[kind][token] for token in dict.fromkeys(tokens)], dtype=np.int64)

    @staticmethod
    def _warn_of_short(counts: np.ndarray, k: int, who: str, what: str) -> None:
        short = int((counts < k).sum())
        if short:
            text = (
                f"{short} of {len(counts)} {who} have fewer than {k} {what} (the fewest: {counts.min()}): "
                "they get that many rows"
            )
            warnings.warn(text, FewerItemsWarning, stacklevel=3)

    def _frame(
        self, first: str, tokens: np.ndarray, second: str, parts: list[tuple[np.ndarray, ...]]
    ) -> pd.DataFrame:
        """Make the table of parts (positions of the first column, values, positions of items).

        A value of -inf gives no row.
        """
        columns: dict[str, list[np.ndarray]] = {first: [], second: [], "rank": [], "score": []}
        for of, values, items in parts:
            kept = np.isfinite(values)
            columns[first].append(np.repeat(tokens[of], kept.sum(axis=1)))
            columns[second].append(self.item_tokens[items[kept]])
            columns["rank"].append(np.broadcast_to(np.arange(1, values.shape[1] + 1), values.shape)[kept])
            columns["score"].append(values[kept])
        return pd.DataFrame({name: np.concatenate(parts) for name, parts in columns.items()})


def _nothing(width: int) -> tuple[np.ndarray, ...]:
    """The part of a frame that has no row, for an empty request."""
    ids = np.empty((0, width), dtype=np.int64)
    return np.empty(0, dtype=np.int64), ids.astype(np.float32), ids


def _positive(k: object) -> int:
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise ConfigurationError(f"k must be a whole number of at least 1, got {k!r}")
    return int(k)

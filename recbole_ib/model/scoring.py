"""Scores as inner products of user and item embeddings, which are computed once per evaluation."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender
from torch import Tensor


class EmbeddingScorer(GeneralRecommender):
    """RecBole's ``GeneralRecommender``, for a ``forward()`` that returns all user and item embeddings."""

    def __init__(self, config: Any, dataset: Any):
        super().__init__(config, dataset)
        self._embeddings: tuple[Tensor, Tensor] | None = None

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """Return ``[n_users, D]`` and ``[n_items, D]``; an evaluation keeps them until weights may change."""
        if self.training:
            return self.forward()
        if self._embeddings is None:
            with torch.no_grad():
                self._embeddings = self.forward()
        return self._embeddings

    def predict(self, interaction: Interaction) -> Tensor:
        """Return the scores of the given user-item pairs, ``[n]``."""
        user, item = self.embeddings()
        return (user[interaction[self.USER_ID]] * item[interaction[self.ITEM_ID]]).sum(dim=1)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Return all items' scores for some users, ``[n * n_items]``, as RecBole's evaluator takes them."""
        user, item = self.embeddings()
        return (user[interaction[self.USER_ID]] @ item.T).flatten()

    def forget_embeddings(self) -> None:
        """Drop the embeddings of the last evaluation."""
        self._embeddings = None

    def train(self, mode: bool = True) -> EmbeddingScorer:
        """Set the mode, and drop the embeddings."""
        self.forget_embeddings()
        return super().train(mode)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load weights, and drop the embeddings."""
        self.forget_embeddings()
        return super().load_state_dict(*args, **kwargs)

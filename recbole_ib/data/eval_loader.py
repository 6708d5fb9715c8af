"""RecBole's full-ranking loader on arrays: the same batches, sooner and in less memory."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataloader.general_dataloader import FullSortEvalDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.sampler.sampler import AbstractSampler
from recbole.utils import ModelType
from torch import Tensor

from recbole_ib.data.protocol import MMREC
from recbole_ib.data.sampler import InteractionIndex, array_of
from recbole_ib.utils.types import ConfigLike

#: users a batch, where the default ``eval_batch_size`` holds fewer
LEAST_USERS = 64


class ItemsByUser:
    """Known items by user, as RecBole's loaders hold them (its case studies read it).

    ``items[user]`` is a tensor, ``items[users]`` an array of tensors.
    """

    def __init__(self, known: InteractionIndex):
        self.known = known

    def __len__(self) -> int:
        return len(self.known)

    def __getitem__(self, users: Any) -> Tensor | np.ndarray:
        if np.ndim(users):
            return array_of(self, users)
        return torch.from_numpy(self.known.items_of(int(users)))

    def pairs(self, users: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return the items of the given users in one go.

        Returns:
            the position of the user in ``users``, and the item, int64 ``[n]`` each.
        """
        starts, ends = self.known.starts[users], self.known.starts[users + 1]
        sizes = ends - starts
        rows = np.repeat(np.arange(len(users)), sizes)
        offsets = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        keys = self.known.keys[offsets + np.repeat(starts, sizes)]
        items = keys - np.repeat(users, sizes) * self.known.n_items
        return torch.from_numpy(rows), torch.from_numpy(items)


class FullRankingLoader(FullSortEvalDataLoader):
    """RecBole's ``FullSortEvalDataLoader`` for general models whose sampler holds an InteractionIndex."""

    step: int

    def __init__(self, config: Config, dataset: Dataset, sampler: AbstractSampler, shuffle: bool = False):
        if config["MODEL_TYPE"] == ModelType.SEQUENTIAL or not isinstance(
            getattr(sampler, "used_ids", None), InteractionIndex
        ):
            super().__init__(config, dataset, sampler, shuffle=shuffle)
            return
        self.logger = getLogger()
        self.uid_field, self.iid_field, self.is_sequential = dataset.uid_field, dataset.iid_field, False
        # RecBole's loader does so too, and case studies rely on it
        dataset.sort(by=self.uid_field, ascending=True)
        positive = InteractionIndex.of(dataset)
        history = sampler.used_ids.keys
        if config["protocol"] != MMREC:
            # MMRec leaves out a training item even where it is a test item too, and so can never find it
            history = np.setdiff1d(history, positive.keys, assume_unique=True)
        self.uid2positive_item = ItemsByUser(positive)
        self.uid2history_item = ItemsByUser(InteractionIndex(history, positive.n_users, positive.n_items))
        self.uid2items_num = positive.counts()
        self.uid_list = torch.from_numpy(np.flatnonzero(self.uid2items_num))
        self.user_df = dataset.join(Interaction({self.uid_field: self.uid_list}))
        self.sample_size = len(self.user_df)
        AbstractDataLoader.__init__(self, config, dataset, sampler, shuffle=False)

    def _init_batch_size_and_step(self) -> None:
        super()._init_batch_size_and_step()
        if is_overall_default(self.config, "eval_batch_size") and self.step < LEAST_USERS:
            # few users against a large catalog: every batch would read the whole table of item embeddings for
            # them
            self.step = LEAST_USERS
            self.set_batch_size(self.step * self._dataset.item_num)

    def collate_fn(self, index: Sequence[int]) -> tuple:
        """Return a batch: users, pairs of the history, and pairs of the items that count."""
        if not isinstance(getattr(self, "uid2positive_item", None), ItemsByUser):
            return super().collate_fn(index)
        users = self.user_df[np.array(index)]
        ids = users[self.uid_field].numpy()
        return users, self.uid2history_item.pairs(ids), *self.uid2positive_item.pairs(ids)


def is_overall_default(config: ConfigLike, key: str) -> bool:
    """Return whether a setting comes from our overall.yaml.

    Then no file, data set or user named it, and nothing has changed it since.
    """
    # a Config of RecBole's own for one of its own models has none of ours
    overall = getattr(config, "overall_defaults", {})
    return key in overall and config[key] == overall[key]

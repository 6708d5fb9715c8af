"""RecBole's full-ranking loader, with arrays in place of a set and a tensor a user: the same batches, sooner and in less memory."""

from __future__ import annotations

from logging import getLogger

import numpy as np
import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataloader.general_dataloader import FullSortEvalDataLoader
from recbole.data.interaction import Interaction
from recbole.utils import ModelType
from torch import Tensor

from recbole_ib.data.sampler import InteractionIndex, array_of

#: users a batch, where the default ``eval_batch_size`` holds fewer
LEAST_USERS = 64


class ItemsByUser:
    """``items[user]``: a tensor; ``items[users]``: an array of them, as RecBole's loaders hold them (its case studies read it)."""

    def __init__(self, known: InteractionIndex):
        self.known = known

    def __len__(self) -> int:
        return len(self.known)

    def __getitem__(self, users):
        if np.ndim(users):
            return array_of(self, users)
        return torch.from_numpy(self.known.items_of(int(users)))

    def pairs(self, users: np.ndarray) -> tuple[Tensor, Tensor]:
        """The items of the given users in one go: the position of the user in ``users``, and the item; int64 ``[n]`` each."""
        starts, ends = self.known.starts[users], self.known.starts[users + 1]
        sizes = ends - starts
        rows = np.repeat(np.arange(len(users)), sizes)
        at = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(starts, sizes)
        return torch.from_numpy(rows), torch.from_numpy(self.known.keys[at] - np.repeat(users, sizes) * self.known.n_items)


class FullRankingLoader(FullSortEvalDataLoader):
    """RecBole's ``FullSortEvalDataLoader`` for general models whose sampler holds :class:`InteractionIndex`."""

    def __init__(self, config, dataset, sampler, shuffle=False):
        if config["MODEL_TYPE"] == ModelType.SEQUENTIAL or not isinstance(getattr(sampler, "used_ids", None), InteractionIndex):
            super().__init__(config, dataset, sampler, shuffle=shuffle)
            return
        self.logger = getLogger()
        self.uid_field, self.iid_field, self.is_sequential = dataset.uid_field, dataset.iid_field, False
        # RecBole's loader does so too, and case studies rely on it
        dataset.sort(by=self.uid_field, ascending=True)
        positive = InteractionIndex.of(dataset)
        history = np.setdiff1d(sampler.used_ids.keys, positive.keys, assume_unique=True)
        self.uid2positive_item = ItemsByUser(positive)
        self.uid2history_item = ItemsByUser(InteractionIndex(history, positive.n_users, positive.n_items))
        self.uid2items_num = positive.counts()
        self.uid_list = torch.from_numpy(np.flatnonzero(self.uid2items_num))
        self.user_df = dataset.join(Interaction({self.uid_field: self.uid_list}))
        self.sample_size = len(self.user_df)
        AbstractDataLoader.__init__(self, config, dataset, sampler, shuffle=False)

    def _init_batch_size_and_step(self):
        super()._init_batch_size_and_step()
        if is_overall_default(self.config, "eval_batch_size") and self.step < LEAST_USERS:
            # few users against a large catalog: every batch would read the whole table of item embeddings for them
            self.step = LEAST_USERS
            self.set_batch_size(self.step * self._dataset.item_num)

    def collate_fn(self, index):
        if not isinstance(getattr(self, "uid2positive_item", None), ItemsByUser):
            return super().collate_fn(index)
        users = self.user_df[np.array(index)]
        ids = users[self.uid_field].numpy()
        return users, self.uid2history_item.pairs(ids), *self.uid2positive_item.pairs(ids)


def is_overall_default(config, key: str) -> bool:
    """Whether a setting comes from our overall.yaml: no file, data set or user named it, and nothing has changed it since."""
    # a Config of RecBole's own for one of its own models has none of ours
    overall = getattr(config, "overall_defaults", {})
    return key in overall and config[key] == overall[key]

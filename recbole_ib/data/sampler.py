"""RecBole's negative sampler without its Python loops: the same random numbers, the same negatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from recbole.data.dataset import Dataset
from recbole.sampler import Sampler
from torch import Tensor

from recbole_ib.errors import DataError


class ByUser(Protocol):
    """Something that is known of every user."""

    def __getitem__(self, user: int) -> object: ...


def array_of(by_user: ByUser, users: Sequence[int]) -> np.ndarray:
    """Return ``by_user[user]`` of each of the users, as an array of objects."""
    chosen = np.empty(len(users), dtype=object)
    chosen[:] = [by_user[int(user)] for user in users]
    return chosen


class InteractionIndex:
    """Items of every user as sorted keys: a membership test of a whole batch at once.

    Memory is linear in the interactions. It reads like RecBole's array of sets: ``used[user]`` is a set,
    ``used[users]`` an array of them.

    Args:
        keys: user * n_items + item, int64, sorted and distinct.
        n_users: the number of users, the padding included.
        n_items: the number of items, the padding included.
    """

    def __init__(self, keys: np.ndarray, n_users: int, n_items: int):
        self.keys, self.n_users, self.n_items = keys, n_users, n_items
        self.starts = np.searchsorted(keys, np.arange(n_users + 1, dtype=np.int64) * n_items)

    @classmethod
    def of(cls, dataset: Dataset, before: InteractionIndex | None = None) -> InteractionIndex:
        """Return the interactions of a data set, and those of ``before``."""
        users, items = (
            dataset.inter_feat[field].numpy().astype(np.int64)
            for field in (dataset.uid_field, dataset.iid_field)
        )
        keys = users * dataset.item_num + items
        known = keys if before is None else np.concatenate([before.keys, keys])
        return cls(np.unique(known), dataset.user_num, dataset.item_num)

    def __len__(self) -> int:
        return self.n_users

    def __getitem__(self, users: Any) -> set[int] | np.ndarray:
        if users is None:  # RecBole's own loader asks so before the first user, and drops the answer
            return set()
        if np.ndim(users):
            return array_of(self, users)
        return set(self.items_of(users).tolist())

    def items_of(self, user: int) -> np.ndarray:
        """Return a user's items in ascending order, int64.

        Raises:
            IndexError: no such user.
        """
        user = int(user)
        if not -self.n_users <= user < self.n_users:
            raise IndexError(f"user {user} of {self.n_users}")
        user %= self.n_users
        return self.keys[self.starts[user] : self.starts[user + 1]] - user * self.n_items

    def counts(self) -> np.ndarray:
        """Return the number of items per user, ``[n_users]``."""
        return np.diff(self.starts)

    def contains(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return whether the user of every pair has the item, bool ``[n]``."""
        if not self.keys.size:
            return np.zeros(len(users), dtype=bool)
        keys = users * self.n_items + items
        positions = np.minimum(np.searchsorted(self.keys, keys), self.keys.size - 1)
        return self.keys[positions] == keys


class FastSampler(Sampler):
    """RecBole's ``Sampler``, faster: from the same state of ``numpy.random`` it draws the same items.

    RecBole holds a set of Python numbers per user and phase and looks every draw up in a loop; here a phase
    is one sorted array.
    """

    def get_used_ids(self) -> dict[str, InteractionIndex]:
        """Return phase -> the items of that phase and those before it.

        Raises:
            DataError: a user has interacted with every item, so that no negative is left.
        """
        used: dict[str, InteractionIndex] = {}
        for phase, dataset in zip(self.phases, self.datasets, strict=True):
            used[phase] = InteractionIndex.of(
                dataset, used[previous] if (previous := next(reversed(used), None)) else None
            )
        everything = np.flatnonzero(used[self.phases[-1]].counts() + 1 >= self.item_num)
        if everything.size:
            token = self.datasets[0].id2token(self.uid_field, int(everything[0]))
            raise DataError(
                f"{everything.size} users have interacted with all {self.item_num - 1} items (the first: "
                f"{str(token)!r}), so there is no negative item to sample for them. Leave them out with "
                f"user_inter_num_interval: '[0,{self.item_num - 1})'"
            )
        return used

    def sample_by_key_ids(self, key_ids: Sequence[int], num: int) -> Tensor:
        """Draw ``num`` items per user that the user has not interacted with, int64 ``[num * n_users]``.

        Raises:
            IndexError: no such user.
        """
        if not isinstance(self.used_ids, InteractionIndex):  # a subclass, or somebody's own used_ids
            return super().sample_by_key_ids(key_ids, num)
        users = np.asarray(key_ids, dtype=np.int64)
        if users.size and not 0 <= users.min() <= users.max() < self.user_num:
            raise IndexError("a user id is out of range")
        users = np.tile(users, num)
        values = np.zeros(users.size, dtype=np.int64)
        left = np.arange(users.size)
        while left.size:
            values[left] = drawn = self.sampling(left.size)
            left = left[self.used_ids.contains(users[left], drawn)]
        return torch.from_numpy(values)

    def _build_alias_table(self) -> None:
        super()._build_alias_table()
        items = np.array(list(self.prob), dtype=np.int64)
        self._table = (
            items,
            np.array(list(self.prob.values())),
            np.array([self.alias[i] for i in self.prob], dtype=np.int64),
        )

    def _pop_sampling(self, sample_num: int) -> np.ndarray:
        items, probability, alias = self._table
        cells = np.random.randint(0, len(items), sample_num)
        return np.where(probability[cells] > np.random.random(sample_num), items[cells], alias[cells])

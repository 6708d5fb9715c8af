"""Training batches made on the training device: no batch is copied to a GPU, and none waits for the host."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data.dataloader.general_dataloader import TrainDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.sampler.sampler import AbstractSampler
from recbole.utils import InputType, ModelType
from torch import Tensor

from recbole_ib.data.sampler import InteractionIndex
from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.utils.types import ConfigLike

RECBOLE, DEVICE = "recbole", "device"
#: values of the yaml key ``sampling``
SAMPLINGS = (RECBOLE, DEVICE)


class FreeItems:
    """Items that every user has NOT taken, to draw from uniformly, without rejection.

    Of a user's taken items i_0 < i_1 < .., i_j - 1 - j free items lie below i_j. The free item of
    rank r = 0, 1, .. is therefore 1 + r + #{j: i_j - 1 - j <= r}, and one binary search over all users' such
    numbers finds it: the same work for a user with one free item as for one with all, and nothing that the
    host would have to wait for.

    Args:
        taken: items from 1 on; every user to draw for has a free one left
            (:class:`recbole_ib.data.sampler.FastSampler` sees to it).
        device: where to draw.
    """

    def __init__(self, taken: InteractionIndex, device: torch.device):
        self.n_items = taken.n_items
        starts, counts = taken.starts[:-1], taken.counts()
        # user * n_items + (i_j - 1 - j): ascending, as the keys are
        below = taken.keys - 1 - (np.arange(taken.keys.size) - np.repeat(starts, counts))
        self.below, self.starts, self.n_free = (
            torch.from_numpy(values).to(device) for values in (below, starts, taken.n_items - 1 - counts)
        )

    def draw(self, users: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one free item of each user, int64 ``[n]``; users may come several times."""
        # 63 random bits: the remainder's bias is below n_items / 2^63
        rank = torch.empty_like(users).random_(generator=generator) % self.n_free[users]
        taken_below = (
            torch.searchsorted(self.below, users * self.n_items + rank, right=True) - self.starts[users]
        )
        return 1 + rank + taken_below


class DeviceTrainLoader(TrainDataLoader):
    """RecBole's ``TrainDataLoader`` with data, order and negatives on ``config["device"]``.

    The negatives have the same distribution, and are other numbers. An epoch is shuffled and its negatives
    are drawn when its first batch is asked for, by ``generator``; batches are slices of it. They have the
    fields of RecBole's: all columns of the interactions, those of users and items where the data set has any,
    and the negatives' (none with ``train_neg_sample_args: ~``).

    Attributes:
        generator: of the device, seeded with ``seed``; its state between two epochs is all that the following
            ones depend on.

    Raises:
        ConfigurationError: a run that needs batches of another kind, see :func:`check_device_sampling`.
    """

    def __init__(self, config: Config, dataset: Dataset, sampler: AbstractSampler, shuffle: bool = False):
        check_device_sampling(config, type(self))
        super().__init__(config, dataset, sampler, shuffle=shuffle)
        device = torch.device(config["device"])
        self.generator = torch.Generator(device).manual_seed(config["seed"])
        self._columns = _on(device, dataset.inter_feat)
        joined = ((self.uid_field, dataset.user_feat), (self.iid_field, dataset.item_feat))
        self._features = {field: _on(device, table) for field, table in joined if table is not None}
        self._free: FreeItems | None = None
        if self.neg_sample_args["distribution"] != "none":
            taken = getattr(sampler, "used_ids", None)
            if not isinstance(taken, InteractionIndex):
                raise _refusal(
                    f"the sampler {type(sampler).__name__} does not hold the users' items as recbole_ib's "
                    "does"
                )
            self._free = FreeItems(taken, device)

    def share_draws(self, other: DeviceTrainLoader) -> None:
        """Draw from the other loader's generator and table of free items.

        Both are over the same users' items.
        """
        self.generator, self._free = other.generator, other._free

    def __len__(self) -> int:
        return math.ceil(self.sample_size / self.step)

    def __iter__(self) -> Iterator[Interaction]:
        positive, negative = self._epoch()
        for start in range(0, self.sample_size, self.step):
            rows = slice(start, start + self.step)
            batch = self._join({field: column[rows] for field, column in positive.items()})
            if negative is not None:
                drawn = self._join({self.iid_field: negative[rows]})
                batch.update({self.neg_prefix + field: column for field, column in drawn.items()})
            yield Interaction(batch)

    def _epoch(self) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return the columns of all interactions in a new order, and their negatives."""
        n, generator = self.sample_size, self.generator
        device = generator.device
        order = (
            torch.randperm(n, generator=generator, device=device)
            if self.shuffle
            else torch.arange(n, device=device)
        )
        # copies, also where nothing is shuffled: what a model does to its batch must not reach the data
        positive = {field: column[order] for field, column in self._columns.items()}
        if self._free is None:
            return positive, None
        return positive, self._free.draw(self._columns[self.uid_field], generator)[order]

    def _join(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add the columns of the batch's users and items: ``Dataset.join`` on the device."""
        for field, table in self._features.items():
            if field in batch:
                ids = batch[field]
                batch.update({name: column[ids] for name, column in table.items()})
        return batch


def _on(device: torch.device, table: Interaction) -> dict[str, Tensor]:
    return {field: column.to(device) for field, column in table.interaction.items()}


def train_loader(config: ConfigLike, recboles: type) -> type:
    """Return the class that makes a run's training batches, by the key ``sampling``.

    Args:
        config: of the run.
        recboles: the class that RecBole would take.

    Raises:
        ConfigurationError: an unknown value, or ``device`` where it does not apply.
    """
    value = RECBOLE if config["sampling"] is None else config["sampling"]
    if value not in SAMPLINGS:
        raise ConfigurationError(
            f"sampling is {value!r}.{nearest(str(value), SAMPLINGS)} Allowed: {', '.join(SAMPLINGS)}"
        )
    if value == RECBOLE:
        return recboles
    check_device_sampling(config, recboles)
    return DeviceTrainLoader


def check_device_sampling(config: ConfigLike, loader: type) -> None:
    """Check that :class:`DeviceTrainLoader` can make a run's training batches.

    Args:
        config: of the run.
        loader: the class that RecBole would take, or ours.

    Raises:
        ConfigurationError: batches of another kind.
    """
    _check_model(config, loader)
    _check_negatives(config["train_neg_sample_args"])
    _check_settings(config)


def _check_model(config: ConfigLike, loader: type) -> None:
    model, kind = config["model"], config["MODEL_TYPE"]
    if kind != ModelType.GENERAL:
        raise _refusal(f"{model} is a {kind.name} recommender")
    if not issubclass(loader, TrainDataLoader):
        raise _refusal(f"{model} is trained on batches of RecBole's {loader.__name__}")
    if config["MODEL_INPUT_TYPE"] != InputType.PAIRWISE:
        raise _refusal(f"{model} is trained on {config['MODEL_INPUT_TYPE'].name} batches")


def _check_negatives(negatives: Mapping[str, Any]) -> None:
    distribution, number = negatives["distribution"], negatives.get("sample_num")
    if distribution not in ("uniform", "none"):
        raise _refusal(
            f"train_neg_sample_args asks for the distribution {distribution!r}", "distribution: uniform there"
        )
    if distribution == "uniform" and number != 1:
        raise _refusal(f"train_neg_sample_args asks for sample_num {number!r}", "sample_num: 1 there")
    if negatives.get("dynamic"):
        raise _refusal("train_neg_sample_args asks for dynamic negatives", "dynamic: False there")


def _check_settings(config: ConfigLike) -> None:
    for key in ("repeatable", "transform"):
        if config[key]:
            raise _refusal(f"{key} is {config[key]!r}, which it does not know", f"leave {key} out")
    if not config["single_spec"]:
        raise _refusal(
            "RecBole's multi-process mode deals out the rows itself", "start processes with torchrun"
        )
    saved = Path(config["checkpoint_dir"]) / f"{config['dataset']}-for-{config['model']}-dataloader.pth"
    for key in ("save_dataloaders", "dataloaders_save_path"):
        if config[key]:
            raise _refusal(f"{key} is set, and RecBole's saved loaders are its own", f"leave {key} out")
    if saved.is_file():
        raise _refusal(f"RecBole would take its own saved loaders from {saved}", "move the file away")


def _refusal(what: str, instead: str = "") -> ConfigurationError:
    return ConfigurationError(
        f"sampling: {DEVICE} draws one uniform negative an interaction, or none, for general pairwise "
        f"recommenders; {what}. Set sampling: {RECBOLE}{instead and f', or {instead}'}"
    )

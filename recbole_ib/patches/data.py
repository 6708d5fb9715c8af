"""RecBole's samplers and loaders: the key ``protocol``, and the faster classes of :mod:`recbole_ib.data`."""

from __future__ import annotations

import functools
from typing import Any

import recbole.data.utils
from recbole.config import Config
from recbole.data.dataloader.general_dataloader import FullSortEvalDataLoader
from recbole.data.dataset import Dataset

from recbole_ib.data.eval_loader import FullRankingLoader
from recbole_ib.data.protocol import MMREC, check_protocol
from recbole_ib.data.sampler import FastSampler, InteractionIndex
from recbole_ib.data.train_loader import train_loader
from recbole_ib.model.types import Phase


def patch_samplers() -> None:
    """Let RecBole's samplers follow the key ``protocol``, for every entry point and every general model.

    At validation both protocols leave out the training items. At test RecBole leaves out the training and
    validation items, MMRec the training items alone.
    """
    original = recbole.data.utils.create_samplers
    if getattr(original, "_recbole_ib", False):
        return

    @functools.wraps(original)
    def create_samplers(config: Config, dataset: Dataset, built_datasets: list[Dataset]) -> Any:
        train, valid, test = original(config, dataset, built_datasets)
        if config["protocol"] == MMREC:
            check_protocol(config)
            trained = InteractionIndex.of(built_datasets[0])
            for sampler, phase in ((valid, "valid"), (test, "test")):
                if sampler is not None and config["eval_args"]["mode"][phase] == "full":
                    sampler.used_ids = trained
        return train, valid, test

    create_samplers._recbole_ib = True  # type: ignore[attr-defined]
    recbole.data.utils.create_samplers = create_samplers


def patch_loaders() -> None:
    """Let RecBole's ``data_preparation`` use the faster sampler and loader, and read the key ``sampling``."""
    if recbole.data.utils.Sampler is FastSampler:
        return
    recbole.data.utils.Sampler = FastSampler
    original = recbole.data.utils.get_dataloader

    @functools.wraps(original)
    def get_dataloader(config: Config, phase: Phase) -> Any:
        loader = original(config, phase)
        if phase == "train":
            return train_loader(config, loader)
        return FullRankingLoader if loader is FullSortEvalDataLoader else loader

    recbole.data.utils.get_dataloader = get_dataloader

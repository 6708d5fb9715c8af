"""RecBole's saved data sets and loaders, which are pickles: reading one can run any code.

RecBole looks for them at every start, in ``checkpoint_dir`` too, which may have come from somebody else. Here
it reads those that this process wrote, and others where the user says so (:data:`TRUST_VARIABLE`).
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from functools import wraps
from logging import getLogger
from pathlib import Path
from types import ModuleType
from typing import Any

import recbole.data.utils
import torch
from recbole.data.dataset import Dataset

from recbole_ib.errors import CheckpointError
from recbole_ib.patches import own_files
from recbole_ib.patches.compat import TRUST_VARIABLE

#: the setting that names a file of each kind; without it RecBole looks in ``checkpoint_dir``
KEYS = {"create_dataset": "dataset_save_path", "load_split_dataloaders": "dataloaders_save_path"}


def patch() -> None:
    """Guard RecBole's reading of pickles, once."""
    if isinstance(recbole.data.utils.pickle, _GuardedPickle):
        return
    recbole.data.utils.pickle = _GuardedPickle("pickle")
    save, save_loaders = Dataset.save, recbole.data.utils.save_split_dataloaders

    @wraps(save)
    def remembered(self: Dataset) -> None:
        save(self)
        name = f"{self.config['dataset']}-{self.__class__.__name__}.pth"
        own_files.remember(Path(self.config["checkpoint_dir"]) / name)

    @wraps(save_loaders)
    def remembered_loaders(config: Any, dataloaders: Any) -> None:
        save_loaders(config, dataloaders)
        name = f"{config['dataset']}-for-{config['model']}-dataloader.pth"
        own_files.remember(Path(config["checkpoint_dir"]) / name)

    Dataset.save, recbole.data.utils.save_split_dataloaders = remembered, remembered_loaders


class _GuardedPickle(ModuleType):
    """The module pickle for RecBole's eyes: ``load`` reads what may be read."""

    def __getattr__(self, name: str) -> Any:
        return getattr(pickle, name)

    @staticmethod
    def load(file: Any) -> Any:
        """Read a pickle of this process or a trusted one.

        Another one is a data set of other settings, which RecBole makes anew.

        Raises:
            CheckpointError: a setting names the file, and nothing says that it is trusted.
        """
        path, caller = Path(file.name), sys._getframe(1)
        if os.environ.get(TRUST_VARIABLE) == "1" or own_files.is_own(path):
            return pickle.load(file)  # noqa: S301  (trusted)
        config = caller.f_locals.get("config")
        key = KEYS.get(caller.f_code.co_name, "")
        why = (
            f"{path} is a pickle of RecBole's, and reading one can run any code. If you know who made it, "
            f"set the environment variable {TRUST_VARIABLE}=1"
        )
        if config is not None and key and config[key]:
            raise CheckpointError(f"{key}: {why} and start again")
        getLogger().warning(f"{why}; without, the data are read from their files")
        return _OtherData()


class _OtherData:
    """Stands for a saved data set, or three loaders, of settings that no run has."""

    class _Config:
        def __getitem__(self, key: str) -> object:
            return object()

    config = _Config()

    def __iter__(self) -> Iterator[tuple[Any, torch.Tensor]]:
        for _ in range(3):
            loader = _OtherData()
            loader.sampler = _OtherData()  # type: ignore[attr-defined]
            yield loader, torch.Generator().get_state()

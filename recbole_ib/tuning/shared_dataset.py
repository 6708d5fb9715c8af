"""Model, settings and data set that all trials of a search share, prepared once."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from recbole.data import create_dataset
from recbole.data.dataset import Dataset

from recbole_ib.config.config import Config, absolute_paths
from recbole_ib.config.serialize import quoted
from recbole_ib.data.digest import table_digest
from recbole_ib.model.registry import ensure_known
from recbole_ib.training.run import split_seed


@dataclass(frozen=True)
class BaseSettings:
    """Settings of every trial: a model, a data set's name, and settings as plain values."""

    model: str | type
    dataset: str
    settings: dict

    def config(self, changes: dict | None = None) -> Config:
        """Return the Config of a run with these settings, ``changes`` on top."""
        if isinstance(self.model, type):
            ensure_known(self.model)
        return Config(self.model, self.dataset, config_dict=quoted({**self.settings, **(changes or {})}))


def read_base_settings(
    model: str | type | None,
    dataset: Dataset,
    config_file_list: Sequence[str] | None = None,
    config_dict: dict | None = None,
    argv: Sequence[str] = (),
    changes: dict | None = None,
) -> BaseSettings:
    """Merge files < ``config_dict`` < ``argv`` < ``changes``, with paths that hold in any working directory.

    Raises:
        ConfigurationError: a wrong model, data set or setting.
    """
    if isinstance(model, type):
        ensure_known(model)
    config = Config(model, dataset, config_file_list, {**(config_dict or {}), **(changes or {})}, argv=argv)
    settings = dict(config.external_config_dict)
    settings.update(changes or {})
    named = settings.pop("model", None), settings.pop("dataset", None)
    settings.pop("config_files", None)
    settings = absolute_paths(settings, config)
    name = model if model is not None else named[0]
    if settings.pop("bottleneck", None) and isinstance(name, str):
        # the name says it: best.yaml is read for other models too
        name = config["model"]
    # all trials share one split, and so does a run of best.yaml with another seed
    settings["split_seed"] = split_seed(config)
    return BaseSettings(name, config.dataset, settings)


@dataclass(frozen=True)
class SharedDataset:
    """Data set before its split: RecBole's object, without its Config, and the features as arrays.

    Ray maps arrays into every worker of a machine: the features are there once, and no worker reads their
    files.
    """

    dataset: Dataset
    features: dict = field(default_factory=dict)

    def digest(self) -> str:
        """Return a digest of its interactions and features, in their order."""
        digest, frame = hashlib.sha256(), self.dataset.inter_feat
        for column in sorted(frame.columns):
            values = frame[column].to_numpy()
            digest.update(column.encode())
            digest.update(
                repr(list(values)).encode() if values.dtype == object else np.ascontiguousarray(values).data
            )
        for column in (self.dataset.uid_field, self.dataset.iid_field):
            digest.update("\n".join(map(str, self.dataset.field2id_token[column])).encode())
        for name, values in self.features.items():
            digest.update(name.encode())
            digest.update(table_digest(torch.from_numpy(values)).encode())
        return digest.hexdigest()

    def copy(self, config: Config) -> Dataset:
        """Return a data set for one run: splitting changes it in place; the features are shared."""
        dataset = copy.deepcopy(self.dataset)
        dataset.config = config
        if self.features:
            with warnings.catch_warnings():
                # a worker's arrays are read-only, and no model writes to the data set's features
                warnings.filterwarnings("ignore", message=".*not writable.*")
                dataset.modalities = {
                    name: torch.from_numpy(values) for name, values in self.features.items()
                }
        return dataset


def prepare(config: Config) -> SharedDataset:
    """Read and check a configuration's data set."""
    dataset = create_dataset(config)
    dataset.config = None
    tables = getattr(dataset, "modalities", None) or {}
    if hasattr(dataset, "modalities"):
        dataset.modalities = {}
    return SharedDataset(dataset, {name: table.numpy() for name, table in tables.items()})

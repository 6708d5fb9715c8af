"""What all trials of a search share: the model, the settings and the data set, prepared once."""

from __future__ import annotations

import copy
import hashlib
import warnings
from dataclasses import dataclass, field

import numpy as np
import torch
from recbole.data import create_dataset

from recbole_ib.config.config import Config, absolute_paths
from recbole_ib.config.serialize import quoted
from recbole_ib.data.digest import table_digest
from recbole_ib.model.registry import ensure_known
from recbole_ib.training.run import split_seed


@dataclass(frozen=True)
class Given:
    """What the user asks of every trial: a model, a data set's name, and settings as plain values."""

    model: str | type
    dataset: str
    settings: dict

    def config(self, changes: dict | None = None) -> Config:
        """The Config of a run with these settings, ``changes`` on top."""
        if isinstance(self.model, type):
            ensure_known(self.model)
        return Config(self.model, self.dataset, config_dict=quoted({**self.settings, **(changes or {})}))


def read_given(model, dataset, config_file_list=None, config_dict=None, argv=(), changes: dict | None = None) -> Given:
    """Files < ``config_dict`` < ``argv`` < ``changes``, with paths that hold in any working directory.

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
    return Given(name, config.dataset, settings)


@dataclass(frozen=True)
class Data:
    """A data set before its split: RecBole's object, without its Config, and the features as arrays.

    Ray maps arrays into every worker of a machine: the features are there once, and no worker reads their files.
    """

    dataset: object
    features: dict = field(default_factory=dict)

    def digest(self) -> str:
        """What interactions and features it holds, in their order."""
        found, frame = hashlib.sha256(), self.dataset.inter_feat
        for column in sorted(frame.columns):
            values = frame[column].to_numpy()
            found.update(column.encode())
            found.update(repr(list(values)).encode() if values.dtype == object else np.ascontiguousarray(values).data)
        for column in (self.dataset.uid_field, self.dataset.iid_field):
            found.update("\n".join(map(str, self.dataset.field2id_token[column])).encode())
        for name, values in self.features.items():
            found.update(name.encode())
            found.update(table_digest(torch.from_numpy(values)).encode())
        return found.hexdigest()

    def copy(self, config: Config):
        """A data set of its own for a run: splitting changes it in place; the features are shared."""
        made = copy.deepcopy(self.dataset)
        made.config = config
        if self.features:
            with warnings.catch_warnings():
                # a worker's arrays are read-only, and no model writes to the data set's features
                warnings.filterwarnings("ignore", message=".*not writable.*")
                made.modalities = {name: torch.from_numpy(values) for name, values in self.features.items()}
        return made


def prepare(config: Config) -> Data:
    """Read and check a configuration's data set."""
    dataset = create_dataset(config)
    dataset.config = None
    tables = getattr(dataset, "modalities", None) or {}
    if hasattr(dataset, "modalities"):
        dataset.modalities = {}
    return Data(dataset, {name: table.numpy() for name, table in tables.items()})

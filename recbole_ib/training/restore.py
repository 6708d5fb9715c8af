"""A finished run from its checkpoint: settings, data, split and network."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config as RecBoleConfig
from recbole.data import create_dataset, data_preparation
from recbole.data.dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset
from recbole.utils import get_model, init_seed
from torch import nn

from recbole_ib.config.checks import check_dataset_name
from recbole_ib.config.config import Config
from recbole_ib.config.serialize import config_from_plain, plain_config
from recbole_ib.data.digest import data_digest, interactions_digests
from recbole_ib.errors import CheckpointError, ConfigurationError, PickledCheckpointError, RecBoleIBError
from recbole_ib.patches import compat
from recbole_ib.training.checkpoint import (
    UNREAD_PICKLES,
    own_code,
    random_state,
    read_checkpoint,
    restore_random_state,
)
from recbole_ib.training.manifest import read_manifest
from recbole_ib.training.resume import LATER_KEYS
from recbole_ib.training.run import split_seed

#: settings of the training run that would write files or speak to a server, and those by which RecBole would
#: unpickle a data set or loaders that lie beside the checkpoint: reading a checkpoint runs no code that lies
#: there
QUIET = {
    "log_wandb": False,
    "save_dataset": False,
    "save_dataloaders": False,
    "show_progress": False,
    "resume_checkpoint": None,
    **UNREAD_PICKLES,
}


@contextmanager
def silenced() -> Iterator[None]:
    """Write no log below an error, and leave the random state as it was.

    Every rebuilt model would repeat what the training run has said.
    """
    level, state = logging.root.manager.disable, random_state(None)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
        restore_random_state(state, None)


def read_checkpoint_any(checkpoint: str | Path) -> dict:
    """Return what a checkpoint holds, of our models or RecBole's own; its ``config`` as plain settings.

    Raises:
        CheckpointError: no such file, damaged, no checkpoint, or one of RecBole's own models that the
            caller does not trust.
    """
    try:
        return read_checkpoint(checkpoint)
    except PickledCheckpointError:
        state: Any = compat.read_pickled_checkpoint(checkpoint)
    config = state.get("config") if isinstance(state, dict) else None
    if not isinstance(config, RecBoleConfig) or "state_dict" not in state:
        raise CheckpointError(
            f"{checkpoint} is no checkpoint: it holds no configuration and weights of a run"
        )
    plain = plain_config(config)
    if not isinstance(config, Config):
        # a run of RecBole's own command never saw our defaults
        plain["defaults"] = "recbole"
    return {**state, "config": plain}


def run_config(
    state: dict,
    checkpoint: str | Path,
    device: str | torch.device | None = None,
    data_path: str | Path | None = None,
    mmrec_path: str | Path | None = None,
) -> Config:
    """Return the configuration of a run as it is used again.

    Args:
        state: from :func:`read_checkpoint_any`.
        checkpoint: the file; RecBole's caches go beside it.
        device: where the network is to live; default: a GPU if there is one.
        data_path: where data sets lie now; default: where they lay.
        mmrec_path: the checkout of MMRec that the model's class is imported from. A checkpoint may come from
            anybody, so the folder that it names is never imported.

    Raises:
        ConfigurationError: a device that is not there.
        CheckpointError: a model of a checkout of MMRec, without ``mmrec_path``.
    """
    # RecBole sets CUDA_VISIBLE_DEVICES to gpu_id: the GPUs that the host process sees stay those it sees
    gpus = ",".join(str(i) for i in range(torch.cuda.device_count()))
    changes = {
        **QUIET,
        "checkpoint_dir": str(Path(checkpoint).parent),
        "gpu_id": os.environ.get("CUDA_VISIBLE_DEVICES", gpus),
    }
    if data_path is not None:
        changes["data_path"] = str(data_path)
    settings = {**LATER_KEYS, **own_code(state["config"], checkpoint, mmrec_path)}
    # what a version did not know yet, it trained without: not with today's default
    config = config_from_plain(settings, **changes)
    if device is not None:
        config["device"] = _device(device)
    return config


def _device(wanted: str | torch.device) -> torch.device:
    try:
        device = torch.device(wanted)
    except (RuntimeError, TypeError) as error:
        raise ConfigurationError(f"device is {wanted!r}: {error}") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(
            f"device is {str(wanted)!r}, but torch sees {torch.cuda.device_count()} GPUs here; use cpu"
        )
    return device


@dataclass(frozen=True)
class TrainedRun:
    """Data of a run as it split them, and its weights; see :func:`restore_run`.

    Attributes:
        dataset: all interactions, before the split.
        train: RecBole's loader; empty ones are as RecBole has them.
        valid: the same.
        test: the same.
    """

    path: str
    state: dict
    config: Config
    dataset: Dataset
    train: AbstractDataLoader
    valid: AbstractDataLoader
    test: AbstractDataLoader

    def seed(self) -> None:
        """Set the random numbers as the run did."""
        init_seed(self.config["seed"], self.config["reproducibility"])

    def network(self, dataset: Dataset | None = None) -> nn.Module:
        """Return the model with the checkpoint's weights, built from the training data.

        Args:
            dataset: to be used in the place of the training data.

        Raises:
            CheckpointError: the weights do not fit.
        """
        self.seed()
        dataset = self.train._dataset if dataset is None else dataset
        network = get_model(self.config["model"])(self.config, dataset).to(self.config["device"])
        try:
            network.load_state_dict(self.state["state_dict"])
        except RuntimeError as error:
            raise CheckpointError(
                f"{self.path} does not fit {self.config['model']} on its data set: {error}"
            ) from None
        # no parameters of the network: nothing moves them to its device
        others = self.state.get("other_parameter") or {}
        network.load_other_parameter(
            {k: v.to(self.config["device"]) if torch.is_tensor(v) else v for k, v in others.items()}
        )
        return network


def restore_run(checkpoint: str | Path, state: dict, config: Config) -> TrainedRun:
    """Read the data of a run and split them as it did.

    Args:
        checkpoint: the file, for messages.
        state: from :func:`read_checkpoint_any`.
        config: from :func:`run_config`.

    Raises:
        CheckpointError: the data are not there, cannot be read, or are not those of the run, as the
            checkpoint and the manifest beside it tell. Without its manifest a checkpoint of one of RecBole's
            own models holds nothing of them but the numbers of users and items.
        ConfigurationError: there is no such data set.
    """
    check_dataset_name(config)
    if not Path(config["data_path"]).is_dir():
        raise CheckpointError(
            f"the data set {config['dataset']!r} of {checkpoint} is not in {config['data_path']}; data_path "
            "says where data sets lie now"
        )
    init_seed(split_seed(config), config["reproducibility"])
    try:
        dataset = create_dataset(config)
        train, valid, test = data_preparation(config, dataset)
    except RecBoleIBError:
        raise
    except (ValueError, KeyError, OSError) as error:
        raise CheckpointError(
            f"the data set {config['dataset']!r} in {config['data_path']} cannot be read as the run of "
            f"{checkpoint} read it: {error}"
        ) from error
    run = TrainedRun(str(checkpoint), state, config, dataset, train, valid, test)
    changed = "data_digest" in state and data_digest(train, valid) != state["data_digest"]
    if changed or _differs_from_manifest(run):
        raise CheckpointError(
            f"the interactions or features of {config['dataset']!r} in {config['data_path']} are not those "
            f"that {checkpoint} was trained on; put back the files of its run, or train again"
        )
    return run


def _differs_from_manifest(run: TrainedRun) -> bool:
    """Return whether the manifest beside the checkpoint names other interactions in any part.

    A checkpoint of one of RecBole's own models holds no digest, and one of ours none of the test set.
    """
    path = Path(run.path).with_suffix(".json")
    if not path.is_file():
        return False
    try:
        manifest = read_manifest(path)
    except ConfigurationError:
        return False  # somebody's own file
    if manifest.get("checkpoint") != Path(run.path).name:
        return False
    parts = manifest.get("data") or {}
    kept = {name: parts[name].get("digest") for name in ("train", "valid", "test") if name in parts}
    kept = {name: digest for name, digest in kept.items() if digest}
    return interactions_digests({name: getattr(run, name)._dataset for name in kept}) != kept

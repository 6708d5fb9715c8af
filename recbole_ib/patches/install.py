"""The one entry to all changes of RecBole: its compatibility, its Config, its loaders, and the catalog."""

from __future__ import annotations

import importlib

from recbole.utils.argument_list import dataset_arguments

from recbole_ib.model.registry import CATALOG, DATASET_KEYS, register_model
from recbole_ib.patches import collector, data, loader, pickles, recbole_config


def register_all() -> None:
    """Register the catalog, and let RecBole's Config read our yaml for its models."""
    for entry in CATALOG.values():
        register_model(getattr(importlib.import_module(f"recbole_ib.model.{entry.module}"), entry.name))
    dataset_arguments.extend(key for key in DATASET_KEYS if key not in dataset_arguments)
    recbole_config.patch()
    loader.patch()
    pickles.patch()
    data.patch_samplers()
    data.patch_loaders()
    collector.patch()

"""The settings that the yaml of a data set may hold: what describes the data, and how models fit them.

A folder of data may come from anybody. Settings that name files to be unpickled, folders to write to or code
to import are the run's own, and so is what says where and how it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_ib.errors import ConfigurationError, first_few

#: settings of a run
RUN_SETTINGS = frozenset({
    "model", "dataset", "data_path", "config_files", "bottleneck", "defaults", "save_dataset",
    "save_dataloaders", "checkpoint_dir", "resume_checkpoint", "log_wandb", "wandb_project", "gpu_id",
    "use_gpu", "nproc", "ip", "port", "world_size", "group_offset", "local_rank", "offset", "worker", "state",
    "show_progress", "per_user", "save_last", "diagnostics", "mmrec_modalities", "threads",
})  # fmt: skip
#: how the names of other files and folders end; features lie below the data's own folder
PATHS = ("_path", "_file", "_dir", "_checkpoint")
DATA_PATHS = frozenset({"feature_path"})


def check_folder_settings(path: Path, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of ``data_path/NAME/NAME.yaml``.

    Args:
        path: of the file.
        settings: what it holds.

    Raises:
        ConfigurationError: settings of a run among them.
    """
    refused = [key for key in settings if is_of_run(str(key))]
    if not refused:
        return settings
    raise ConfigurationError(
        f"{path} sets {first_few(refused)}, which the yaml of a data set may not: it comes with the data and "
        "says what they are, and a run says what is read, written and imported. Give it on the command "
        "line, in a config file or in config_dict"
    )


def is_of_run(key: str) -> bool:
    """Return whether a setting belongs to runs alone."""
    return key in RUN_SETTINGS or (key.endswith(PATHS) and key not in DATA_PATHS)

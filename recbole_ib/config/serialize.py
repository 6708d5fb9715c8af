"""A configuration as plain values, for checkpoints, and back."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

from recbole_ib.config.config import Config

# -- plain values, for checkpoints ---------------------------------------------------------------------------

#: what Config derives from the rest, or what belongs to the machine and not to the run
DERIVED_KEYS = {
    "MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type", "device", "single_spec", "local_rank",
    "valid_metric_bigger",
    "valid_neg_sample_args", "test_neg_sample_args", "gpu_id", "use_gpu", "resume_checkpoint",
    "feature_fingerprint",
}  # fmt: skip


def plain_config(config: Any) -> dict[str, Any]:
    """Return the settings of a run as plain values, enough for :func:`config_from_plain`."""
    values = {
        k: v for k, v in config.final_config_dict.items() if k not in DERIVED_KEYS and not isinstance(v, Enum)
    }
    data_path = Path(values["data_path"])
    values["data_path"] = str(data_path.parent.resolve())
    sampling = values.get("train_neg_sample_args")
    if isinstance(sampling, dict) and sampling.get("distribution") == "none":
        values["train_neg_sample_args"] = None
    return plain_value(values)


def plain_value(value: Any) -> Any:
    """Return a setting as JSON and a checkpoint can hold it.

    What is neither number, text, list nor mapping becomes its text.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(k): plain_value(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain_value(v) for v in value]
    return value.item() if hasattr(value, "item") else str(value)


def quoted(values: dict) -> dict:
    """Return settings that are values already as ``config_dict`` takes them: a Config parses texts."""
    return {key: repr(value) if isinstance(value, str) else value for key, value in values.items()}


def config_from_plain(values: dict[str, Any], **changes: Any) -> Config:
    """Return a Config from :func:`plain_config`'s values, with changed settings on top."""
    settings = quoted(values)
    settings.update(changes)
    for key in ("model", "dataset"):
        settings.pop(key)
    return Config(model=values["model"], dataset=values["dataset"], config_dict=settings, check_keys=False)

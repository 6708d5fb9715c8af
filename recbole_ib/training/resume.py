"""The checkpoint that a run is resumed from: read, and checked to be of the same run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recbole.config import Config

from recbole_ib.config.serialize import plain_config
from recbole_ib.errors import CheckpointError
from recbole_ib.model.layers.feature_scaling import scaling_word
from recbole_ib.training.checkpoint import read_checkpoint
from recbole_ib.training.distributed import ProcessGroup, SingleProcess

#: settings that a resumed run may change without becoming another run
FREE_KEYS = {
    "epochs", "stopping_step", "stopping_batches", "state", "show_progress", "checkpoint_dir", "data_path",
    "config_files", "save_last", "eval_batch_size", "log_wandb", "wandb_project", "save_dataset",
    "dataset_save_path", "gpu_id", "protocol", "metrics", "topk", "diagnostics", "diagnostics_items",
    "diagnostics_users", "kernel_memory", "per_user", "threads",
}  # fmt: skip

#: settings that came after the first checkpoints, and what those ran with
LATER_KEYS = {
    "knn_search": "auto",
    "feature_dtype": "float32",
    "sampling": "recbole",
    "feature_encoder": "linear",
    "encoder_hidden_size": 64,
    "stopping_batches": 0,
    "fib_estimator": "biased",
    "contrastive_negatives": "batch",
    "contrastive_correction": False,
    "contrastive_condition": "none",
    "gib_estimator": "biased",
    "gate": "concrete",
    "gate_self_loops": True,
    "gate_rows": "free",
    "gate_prior_weight": 0.0,
    "neighbors_weight": 0.0,
    "neighbors_temperature": 0.2,
    "gate_prior": 0.7,
    "rate_estimator": "kl",
    "kl_reduction": "sum",
    "kl_warmup": 0,
    "free_bits": 0.0,
    "noise_input": "features",
    "redundancy_condition": "none",
    "unique_likelihood": "bpr",
    "unique_temperature": 0.2,
    "hsic_items": 0,
    "least_init_std": 0.0,
    "contrast_pairs": 0,
}

#: settings whose values have several spellings, and what makes one of them
ONE_SPELLING: dict[str, Callable[[Any], Any]] = {
    "normalize_features": scaling_word,
    "contrastive_condition": lambda value: value or "none",
    "redundancy_condition": lambda value: value or "none",
}


def check_same_settings(resume_file: str, old: dict, config: Config) -> None:
    """Check that a checkpoint's run had the settings of this one.

    Args:
        resume_file: the checkpoint, for the message.
        old: the plain settings in it.
        config: of this run.

    Raises:
        CheckpointError: they differ in another key than :data:`FREE_KEYS`.
    """
    # a key that a version did not know yet is one that was not set
    new = plain_config(config)
    old = {**{key: value for key, value in LATER_KEYS.items() if key in new}, **old}
    values = {k: (_spelled(k, old.get(k)), _spelled(k, new.get(k))) for k in sorted({*old, *new} - FREE_KEYS)}
    differing = [f"{k}: {then!r} then, {now!r} now" for k, (then, now) in values.items() if then != now]
    if differing:
        raise CheckpointError(
            f"{resume_file} is of a run with other settings, and would not continue to its numbers: "
            f"{'; '.join(differing)}. These may change: {', '.join(sorted(FREE_KEYS))}"
        )


def _spelled(key: str, value: Any) -> Any:
    return ONE_SPELLING[key](value) if key in ONE_SPELLING else value


def read_resumable(path: str, config: Config, processes: SingleProcess | ProcessGroup) -> tuple[dict, str]:
    """Read the checkpoint that a run is resumed from.

    Args:
        path: the best or the last epoch's file.
        config: of the run that goes on.
        processes: of that run; the first one alone reads.

    Returns:
        its content, and the path of the best epoch's file.

    Raises:
        CheckpointError: not readable, of another model or data set, of a run with other settings, or without
            its best epoch's file.
    """
    if config["save_dataloaders"] or config["dataloaders_save_path"]:
        raise CheckpointError(
            "a run with saved dataloaders cannot be resumed: RecBole drops their random state when it saves "
            "them"
        )
    state = processes.from_first(lambda: read_checkpoint(path))
    for key in ("model", "dataset"):
        if state[key] != config[key]:
            raise CheckpointError(f"{path} is of the {key} {state[key]!r}, this run of {config[key]!r}")
    check_same_settings(path, state["config"], config)
    if state["kind"] != "last":
        return state, path
    name = str(state["best_file"])
    if not name or name in (".", "..") or name != Path(name).name or "\\" in name:
        # it is overwritten by the next better epoch: never a file elsewhere
        raise CheckpointError(
            f"{path} names {name!r} as its best epoch's file, which is no name of a file beside it"
        )
    best = str(Path(path).with_name(name))
    try:
        processes.from_first(lambda: read_checkpoint(best)["epoch"])
    except CheckpointError as error:
        raise CheckpointError(f"{path} needs the best epoch's file beside it: {error}") from None
    return state, best

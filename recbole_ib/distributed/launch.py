"""The processes that torchrun starts: its environment, and the device of each."""

from __future__ import annotations

import os

import torch

from recbole_ib.errors import ConfigurationError

#: what torchrun sets in every process
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")

COMMAND = "torchrun --nproc_per_node=2 -m recbole_ib --model=VLATTICE --dataset=ml-100k"


def launched() -> bool:
    """Return whether torchrun started this process beside others."""
    return all(name in os.environ for name in VARIABLES) and int(os.environ["WORLD_SIZE"]) > 1


def rank() -> int:
    """Return the number of this process among all, 0 for one alone."""
    return int(os.environ["RANK"]) if launched() else 0


def refuse_recboles(settings: dict) -> None:
    """Refuse RecBole's own multi-process mode.

    Raises:
        ConfigurationError: settings ask for it.
    """
    for key in ("nproc", "world_size"):
        if settings.get(key) not in (None, 1, -1):
            raise ConfigurationError(
                f"{key} is {settings[key]}: {RECBOLES_MODE}. Leave {key} out and start the processes with "
                f"torchrun: {COMMAND}"
            )


RECBOLES_MODE = (
    "RecBole's multi-process mode needs NCCL and one loss a step, and gives other results than one process"
)


# -- devices -------------------------------------------------------------------------------------------------


def visible_devices() -> str:
    """Return the GPUs of this machine's processes, as RecBole's ``gpu_id``."""
    size, visible = os.environ.get("LOCAL_WORLD_SIZE", "1"), os.environ.get("CUDA_VISIBLE_DEVICES")
    # set and empty: the GPUs are hidden on purpose
    return ",".join(str(i) for i in range(int(size))) if visible is None else visible


def own_device(device: torch.device) -> torch.device:
    """Return the device of this process, from the run's; on CUDA every process of a machine has its own GPU.

    Raises:
        ConfigurationError: the machine has fewer visible GPUs than processes.
    """
    if not launched() or device.type != "cuda":
        return device
    number, available = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= available:
        raise ConfigurationError(
            f"this machine runs more processes than it has visible GPUs ({available}); start torchrun with "
            f"--nproc_per_node={available}, leave gpu_id out, or train on the CPU with --use_gpu=False"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)

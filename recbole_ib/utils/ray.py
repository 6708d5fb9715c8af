"""What many runs share: Ray, started or joined quietly, and what a worker must know of its task."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recbole_ib.errors import ConfigurationError

#: read by Ray when it starts, unless the user has set them
ENVIRONMENT = {
    # workers at lower priority than everything else on the machine would take many times as long on a busy one
    "RAY_worker_niceness": "0",
    # no report of use to Ray's makers, no message about it
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    # a worker sees the devices that its task asked for, and one that asked for none is left alone
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
#: bytes of shared memory of a local Ray; what does not fit goes to the disk
OBJECT_STORE = 1 << 30


@contextmanager
def ray_session(address: str | None = None, cpus: int | None = None, object_store: int = OBJECT_STORE) -> Iterator[None]:
    """A connection to Ray for the time of the block; a Ray that was there before is used and left running.

    Args:
        address: of a cluster (``auto``: the one of this machine); ``None`` starts a Ray on this machine that ends with the block, and with
            this process however that ends.
        cpus: of a Ray that is started here; all cores if not given.
        object_store: bytes of shared memory of a Ray that is started here.

    Raises:
        ConfigurationError: no cluster at the address.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    common = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    try:
        if address is None:
            # local: without it Ray would join whatever cluster this machine or the environment knows of
            started = {"num_cpus": cpus or os.cpu_count(), "object_store_memory": object_store, "include_dashboard": False}
            ray.init(address="local", **started, **common)
        else:
            _knock(address)
            ray.init(address=address, **common)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"no Ray cluster answers at {address!r}: {error}. Start one with `ray start --head`, or leave --address out for this machine "
            "alone"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError where nothing listens: Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def use_share(cpus: float) -> dict:
    """Let this Ray worker compute with the threads and the GPU of its task; the settings that tell RecBole so."""
    import torch

    import ray

    torch.set_num_threads(max(1, int(cpus)))
    devices = ray.get_runtime_context().get_accelerator_ids().get("GPU", []) if ray.is_initialized() else []
    # RecBole's Config writes gpu_id into CUDA_VISIBLE_DEVICES, whatever Ray has put there
    return {"gpu_id": ",".join(devices)} if devices else {"use_gpu": False}


@contextmanager
def working_in(folder: str | Path) -> Iterator[None]:
    """Another working directory for the time of the block: RecBole writes log/ and log_tensorboard/ wherever it is."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    """A folder, made where needed, for this process alone: two commands that write the same files would destroy each other's.

    Raises:
        ConfigurationError: another process has it, or it is no folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigurationError(f"{folder} is, or lies in, a file; name a folder with --out") from None
    try:
        import fcntl
    except ImportError:  # no such locks on Windows
        yield
        return
    with open(folder / ".lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(f"another command is writing into {folder}; wait for it, or give another --out") from None
        yield


def check_resources(cpus: float, gpus: float, what: str) -> None:
    """Raise ConfigurationError for what no machine of the connected Ray could ever give one task."""
    import ray

    for name, wanted, key in (("cpus", cpus, "CPU"), ("gpus", gpus, "GPU")):
        most = max((node["Resources"].get(key, 0) for node in ray.nodes() if node["Alive"]), default=0)
        if wanted > most:
            raise ConfigurationError(
                f"{name}-per-{what} is {wanted:g}, and no machine of Ray's has more than {most:g} {key}: no {what} could ever start"
            )

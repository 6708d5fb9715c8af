"""Ray: started or joined quietly, the resources of a worker, and the folders that commands lock."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from recbole_ib.errors import ConfigurationError
from recbole_ib.utils.threads import usable_cores

#: read by Ray when it starts, unless the user has set them
ENVIRONMENT = {
    # workers at lower priority than everything else on the machine would take many times as long on a busy
    # one
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
def ray_session(
    address: str | None = None, cpus: int | None = None, object_store: int = OBJECT_STORE
) -> Iterator[None]:
    """Connect to Ray for the time of the block; a Ray that was there before is used and left running.

    Args:
        address: of a cluster (``auto``: the one of this machine); ``None`` starts a Ray on this machine that
            ends with the block, and with this process however that ends.
        cpus: of a Ray that is started here; all cores that this process may use if not given.
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
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    try:
        if address is None:
            # local: without it Ray would join whatever cluster this machine or the environment knows of
            local: dict[str, Any] = {
                "num_cpus": cpus or usable_cores(),
                "object_store_memory": object_store,
                "include_dashboard": False,
            }
            ray.init(address="local", **local, **common)
        else:
            probe(address)
            ray.init(address=address, **common)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"no Ray cluster answers at {address!r}: {error}. Start one with `ray start --head`, or leave "
            "--address out for this machine alone"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def probe(address: str) -> None:
    """Check that something listens at an address: Ray would try for minutes.

    Raises:
        OSError: nothing does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def apply_resources(cpus: float) -> dict:
    """Let this Ray worker compute with the threads and the GPU of its task.

    Returns:
        the settings that make RecBole do the same.
    """
    import ray

    threads = max(1, int(cpus))
    torch.set_num_threads(threads)
    devices = ray.get_runtime_context().get_accelerator_ids().get("GPU", []) if ray.is_initialized() else []
    # RecBole's Config writes gpu_id into CUDA_VISIBLE_DEVICES, whatever Ray has put there
    return {"threads": threads, **({"gpu_id": ",".join(devices)} if devices else {"use_gpu": False})}


@contextmanager
def chdir(folder: str | Path) -> Iterator[None]:
    """Change the working directory for the time of the block.

    RecBole writes log/ and log_tensorboard/ wherever it is.
    """
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def lock_directory(folder: Path) -> Iterator[None]:
    """Hold a folder, made where needed, for this process alone.

    Two commands that write the same files would destroy each other's.

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
    with Path(folder / ".lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"another command is writing into {folder}; wait for it, or give another --out"
            ) from None
        yield


def check_resources(cpus: float, gpus: float, what: str) -> None:
    """Check that a machine of the connected Ray can give one task what it asks for.

    Raises:
        ConfigurationError: none ever could.
    """
    import ray

    for name, wanted, key in (("cpus", cpus, "CPU"), ("gpus", gpus, "GPU")):
        most = max((node["Resources"].get(key, 0) for node in ray.nodes() if node["Alive"]), default=0)
        if wanted > most:
            raise ConfigurationError(
                f"{name}-per-{what} is {wanted:g}, and no machine of Ray's has more than {most:g} {key}: no "
                f"{what} could ever start"
            )

"""Ray, started or joined, quietly: what many runs share."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

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
def connected(address: str | None = None, cpus: int | None = None, object_store: int = OBJECT_STORE) -> Iterator[None]:
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
            # a cluster that the environment names is joined only where it is asked for
            named = os.environ.pop("RAY_ADDRESS", None)
            ray.init(num_cpus=cpus or os.cpu_count(), include_dashboard=False, object_store_memory=object_store, **common)
            if named is not None:
                os.environ["RAY_ADDRESS"] = named
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

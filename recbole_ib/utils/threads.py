"""Threads of a process: how they wait for each other, and how many find a core of their own.

It imports no torch: OpenMP reads how to wait when torch is loaded.
"""

from __future__ import annotations

import os
import time

import joblib
import psutil

#: where a user has said how OpenMP's threads wait
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
#: rounds of a waiting thread of GNU's OpenMP before it sleeps: some tenth of a millisecond
SPINS = "5000"
#: the load of the machine is that of so many seconds at least
LEAST_SECONDS = 0.3


def wait_briefly() -> None:
    """Let OpenMP's threads wait awake for a moment and then sleep; to be called before torch is imported.

    By default a thread that waits runs in a circle for milliseconds, on a core that another process may need:
    beside one busy process on two cores a step on two threads took three to four times as long as on one
    (docs/speed.md). Threads that sleep at once make the short steps of small data sets slower than one
    thread does. An environment that says how to wait is left as it is.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = SPINS


def usable_cores() -> int:
    """Return the cores that this process may use, by its affinity and the limits of its container."""
    return max(1, joblib.cpu_count())


class Load:
    """What other processes do on the cores of this one."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._since = self._now()

    def _now(self) -> tuple[float, float, float]:
        """Return a clock, the busy seconds of this process's cores, and its own."""
        times = psutil.cpu_times(percpu=True)
        try:
            mine = [times[i] for i in self._process.cpu_affinity()]
        except (AttributeError, IndexError):  # no such call on macOS; a container that renumbers its cores
            mine = times
        busy = sum(sum(t) - t.idle - getattr(t, "iowait", 0.0) - getattr(t, "guest", 0.0) for t in mine)
        own = self._process.cpu_times()
        return time.monotonic(), busy, own.user + own.system

    def elsewhere(self) -> float:
        """Return how many cores others keep busy, in the mean since the last call or the start."""
        wait = LEAST_SECONDS - (time.monotonic() - self._since[0])
        if wait > 0:
            time.sleep(wait)
        before, self._since = self._since, self._now()
        seconds, busy, own = (now - then for now, then in zip(self._since, before, strict=True))
        return max(0.0, (busy - own) / seconds)


LOAD = Load()


def free_threads(cores: int, busy: float) -> int:
    """Return how many threads find a core of their own.

    Example:
        >>> free_threads(4, 0.2), free_threads(4, 1.1), free_threads(2, 5.0)
        (4, 3, 1)
    """
    return max(1, int(cores - busy + 0.5))

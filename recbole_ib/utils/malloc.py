"""How the process asks the system for memory, and how much it has held."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import cache
from pathlib import Path

#: set to 1 to leave glibc's allocator as it is
VARIABLE = "RECBOLE_IB_DEFAULT_MALLOC"
#: mallopt's parameters, from glibc's malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
TOP_PAD = 64 << 20


@cache
def tune_malloc() -> bool:
    """Let glibc keep freed blocks for the next step, whatever their size.

    By default a block above 32 MiB is a mapping of its own: freed, it goes back to the system, and the next
    step pays a page fault for every 4 KiB of it again. With gradients and scores of that size a third of an
    epoch on the CPU is spent so. A process then holds on to the most it has needed at once. Other systems
    than Linux with glibc are left alone, and so is a process whose environment sets
    ``RECBOLE_IB_DEFAULT_MALLOC`` or glibc's own ``MALLOC_...`` variables.

    Returns:
        ``True`` where that is in force; decided at the first call.
    """
    chosen = any(name.startswith("MALLOC_") for name in os.environ) or os.environ.get(VARIABLE, "") not in (
        "",
        "0",
    )
    if chosen or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    values = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, TOP_PAD))
    results = [mallopt(name, value) for name, value in values]
    return min(results) == 1


def forget_peak() -> bool:
    """Let :func:`peak_memory` count from now on.

    Returns:
        ``False`` where the system cannot, and it counts from the process's start.
    """
    try:
        # 5 resets the high-water mark, see proc(5)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_memory() -> int:
    """Return the most memory that the process has held at once, in bytes.

    It is resident memory, and counts what is shared with other processes.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
    except (OSError, StopIteration):
        import resource  # not on Windows, which has neither

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak

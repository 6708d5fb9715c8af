"""How the process asks the system for memory."""

from __future__ import annotations

import ctypes
import os
import platform

#: set to 1 to leave glibc's allocator as it is
VARIABLE = "RECBOLE_IB_DEFAULT_MALLOC"
#: mallopt's parameters, from glibc's malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
TOP_PAD = 64 << 20

_kept = False


def keep_freed_memory() -> bool:
    """Let glibc keep freed blocks for the next step, whatever their size; ``True`` where that is in force.

    By default a block above 32 MiB is a mapping of its own: freed, it goes back to the system, and the next step pays a page fault
    for every 4 KiB of it again. With gradients and scores of that size a third of an epoch on the CPU is spent so. A process then
    holds on to the most it has needed at once. Other systems than Linux with glibc are left alone, and so is a process whose
    environment sets ``RECBOLE_IB_DEFAULT_MALLOC`` or glibc's own ``MALLOC_...`` variables.
    """
    global _kept
    if _kept:
        return True
    chosen = any(name.startswith("MALLOC_") for name in os.environ) or os.environ.get(VARIABLE, "") not in ("", "0")
    if chosen or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    values = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, TOP_PAD))
    done = [mallopt(name, value) for name, value in values]
    _kept = min(done) == 1
    return _kept

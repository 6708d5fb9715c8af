"""The allocator's setting: in force where it can be, and left alone where somebody chose."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: page faults of five blocks of 48 MiB that are filled and freed, one after another
FAULTS = """
import resource, sys, types
import torch
# the package without what it imports: this module needs nothing of it
package = sys.modules["recbole_ib"] = types.ModuleType("recbole_ib")
package.__path__ = [{package!r}]
from recbole_ib.utils.malloc import tune_malloc
kept = tune_malloc()
assert tune_malloc() is kept
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(12 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for _ in range(12):  # blocks are cut for alignment at first
    faults()
print(kept, sum(faults() for _ in range(5)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's setting")
@pytest.mark.parametrize("variables", [{}, {"RECBOLE_IB_DEFAULT_MALLOC": "1"}, {"MALLOC_ARENA_MAX": "2"}])
def test_freed_memory_is_used_again_unless_the_environment_says_otherwise(variables):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "RECBOLE_IB_DEFAULT_MALLOC"}
    env = {**clean, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(package=str(ROOT / "recbole_ib"))],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    kept, count = done.stdout.split()
    if kept == "True":
        assert not variables
        assert int(count) < 5 * 12_288 / 2
    else:
        # 5 blocks of 12,288 pages, fewer where the system hands out huge ones
        assert variables
        assert int(count) > 20

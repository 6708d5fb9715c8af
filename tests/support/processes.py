"""Python in other processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]

#: the start of a script that loads compat alone (as ``module``), under a package that is empty otherwise; format it with the
#: folder of the package
COMPAT_ALONE = """
import importlib.util, json, sys, types
package = types.ModuleType("recbole_ib")
package.__path__ = [{package!r}]
sys.modules["recbole_ib"] = package
for name in ("errors", "patches.compat"):
    spec = importlib.util.spec_from_file_location("recbole_ib." + name, {package!r} + "/" + name.replace(".", "/") + ".py")
    module = sys.modules["recbole_ib." + name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
"""


def environment(**more: str) -> dict[str, str]:
    """This process's, for another one that imports this checkout and computes with one thread."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def fresh_python(
    *words, cwd=None, env: dict[str, str] | None = None, timeout: int = 300, cold: bool = False
) -> subprocess.CompletedProcess:
    """``python WORDS`` (``-c CODE``, ``-m MODULE ...`` or ``SCRIPT.py ...``) where nothing of RecBole or recbole_ib is imported.

    As subprocess.run gives it, with text, but not from a cold start: forked from a process that has imported torch, pandas and the
    like, which takes longer than many a test. All such processes have one hash seed, another one than this process's; with ``cold``
    a process has its own, and imports everything itself.
    """
    env = environment() if env is None else env
    if cold or not hasattr(os, "fork") or sys.platform == "darwin":
        command = [sys.executable, *map(str, words)]
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout, check=False)
    server = _prepared()
    with TemporaryDirectory() as folder:
        request = {"words": list(map(str, words)), "cwd": str(cwd or os.getcwd()), "env": env, "timeout": timeout}
        for name in ("stdout", "stderr"):
            request[name] = str(Path(folder, name))
            Path(request[name]).touch()
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        status = json.loads(server.stdout.readline())
        return subprocess.CompletedProcess(
            request["words"], status, *(Path(request[n]).read_text() for n in ("stdout", "stderr"))
        )


@cache
def _prepared() -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("prepared.py"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip


def end_prepared() -> None:
    """End the prepared process, if one was started."""
    if _prepared.cache_info().currsize:
        server = _prepared()
        _prepared.cache_clear()
        server.stdin.close()
        server.wait()

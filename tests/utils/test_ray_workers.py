"""Workers of a comparison."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: a command with two runs that would sleep for long; it prints their processes
COMMAND = """
import os, sys, time
from recbole_ib.utils.ray import ray_session

def sleep(file):
    with open(file, "w") as content:
        content.write(str(os.getpid()))
    time.sleep(300)

with ray_session(None, 2):
    import ray
    sleeping = [ray.remote(sleep).remote(f"{sys.argv[1]}/{i}") for i in range(2)]
    while not all(os.path.exists(f"{sys.argv[1]}/{i}") and os.path.getsize(f"{sys.argv[1]}/{i}") for i in range(2)):
        time.sleep(0.05)
    print(*(open(f"{sys.argv[1]}/{i}").read() for i in range(2)), flush=True)
    time.sleep(300)
"""


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # one that nobody waited for is gone, whatever its entry says
    status = Path(f"/proc/{process}/stat")
    return not (status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def test_workers_end_with_a_command_that_is_killed(tmp_path):
    (tmp_path / "command.py").write_text(COMMAND)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "command.py", str(tmp_path)], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True
    ) as running:
        workers = [int(word) for word in running.stdout.readline().split()]
        assert len(workers) == 2
        running.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))

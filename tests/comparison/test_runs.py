"""Workers of a comparison."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: a command with two workers that would sleep for long; it prints their numbers
COMMAND = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from recbole_ib.experiments.robustness.runs import _start_worker
if __name__ == "__main__":
    pool = ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=_start_worker)
    asleep = [pool.submit(time.sleep, 300) for _ in range(2)]
    for future in asleep:
        while not future.running():
            time.sleep(0.05)
    print(*pool._processes, flush=True)
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
    with subprocess.Popen([sys.executable, "command.py"], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as running:
        workers = [int(word) for word in running.stdout.readline().split()]
        assert len(workers) == 2
        running.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))

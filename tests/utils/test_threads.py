"""How threads wait, and how many find a core of their own."""

import os
from types import SimpleNamespace

import psutil
import pytest

from recbole_ib.utils import threads
from tests.support.processes import fresh_python


def test_threads_wait_briefly_unless_the_user_has_chosen(monkeypatch):
    for name in threads.WAITING:
        monkeypatch.delenv(name, raising=False)
    threads.wait_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == threads.SPINS
    for name, value in (("OMP_WAIT_POLICY", "ACTIVE"), ("KMP_BLOCKTIME", "200"), ("GOMP_SPINCOUNT", "1000")):
        for other in threads.WAITING:
            monkeypatch.delenv(other, raising=False)
        monkeypatch.setenv(name, value)
        threads.wait_briefly()
        assert {n: os.environ[n] for n in threads.WAITING if n in os.environ} == {name: value}


def test_the_package_says_so_before_torch_is_loaded():
    seen = (
        "import os, sys\n"
        "for name in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT', 'KMP_BLOCKTIME'): os.environ.pop(name, None)\n"
        "class Watch:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'torch': print(os.environ.get('GOMP_SPINCOUNT')); sys.meta_path.remove(self)\n"
        "sys.meta_path.insert(0, Watch())\n"
        "import recbole_ib"
    )
    assert fresh_python("-c", seen, cold=True).stdout.split() == [threads.SPINS]


@pytest.mark.parametrize(
    ("cores", "busy", "number"), [(2, 0.0, 2), (2, 0.4, 2), (2, 0.6, 1), (2, 1.0, 1), (2, 7.0, 1), (1, 0.0, 1), (16, 3.2, 13)]
)
def test_a_thread_for_every_free_core(cores, busy, number):
    assert threads.free_threads(cores, busy) == number


def test_the_load_is_that_of_others_on_the_cores_of_this_process(monkeypatch):
    clock, own = [0.0], [0.0]
    # core 0: 10 s, of which 4 idle; core 1: 10 s, idle; core 2, not ours: busy
    cores = [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]

    class Times(tuple):
        __slots__ = ()
        idle, iowait = property(lambda s: s[1]), property(lambda s: s[2])

    class Process:
        def cpu_affinity(self):
            return [0, 1]

        def cpu_times(self):
            return SimpleNamespace(user=own[0], system=0.0)

    monkeypatch.setattr(psutil, "Process", Process)
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [Times(c) for c in cores])
    monkeypatch.setattr(threads.time, "monotonic", lambda: clock[0])
    slept = []
    monkeypatch.setattr(threads.time, "sleep", slept.append)
    load = threads.Load()
    clock[0], own[0] = 10.0, 2.0
    cores[:] = [[6.0, 3.0, 1.0], [0.0, 10.0, 0.0], [10.0, 0.0, 0.0]]
    assert load.elsewhere() == pytest.approx((6.0 - 2.0) / 10.0)
    # from the last call on, and never below 0
    clock[0], own[0] = 12.0, 4.5
    cores[0] = [8.0, 3.0, 1.0]
    assert load.elsewhere() == 0.0
    assert slept == []
    clock[0] += 0.1
    monkeypatch.setattr(threads.time, "sleep", lambda seconds: (slept.append(seconds), clock.__setitem__(0, clock[0] + seconds)))
    load.elsewhere()
    assert slept == [pytest.approx(0.2)]


def test_the_cores_are_those_of_the_affinity():
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert 1 <= threads.usable_cores() <= allowed

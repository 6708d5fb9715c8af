"""Every input of the table is refused in clear words, or read right: no traceback, no silence, nothing run."""

import pickle
from pathlib import Path

import pytest

from tests.faults import folders, hostile, interactions, settings
from tests.faults.case import run

CASES = [*interactions.cases(), *settings.cases(), *folders.cases()]


@pytest.mark.parametrize("case", [pytest.param(c, id=c.id, marks=[pytest.mark.slow] if c.slow else []) for c in CASES])
def test_it_is_refused_in_clear_words(case, tmp_path):
    outcome = run(case, tmp_path)
    assert outcome.kind == "clear", f"{outcome.status}\n{outcome.out[-2000:]}\n{outcome.error[-2000:]}"
    missing = [word for word in case.words if word not in outcome.error + outcome.out]
    assert not missing, f"{missing} not in:\n{outcome.out[-1500:]}\n{outcome.error[-1500:]}"
    # what is no checkpoint at all is nothing to be trusted
    assert case.group != "no checkpoints" or "TRUST" not in outcome.error


@pytest.mark.parametrize("case", [pytest.param(c, id=c.id) for c in hostile.refused()])
def test_a_hostile_file_is_refused_and_nothing_of_it_runs(case, tmp_path):
    outcome = run(case, tmp_path)
    assert not (tmp_path / hostile.MARK).exists()
    assert outcome.kind == "clear", f"{outcome.status}\n{outcome.out[-2000:]}\n{outcome.error[-2000:]}"
    missing = [word for word in case.words if word not in outcome.error + outcome.out]
    assert not missing, f"{missing} not in:\n{outcome.out[-1500:]}\n{outcome.error[-1500:]}"


@pytest.mark.parametrize("case", [pytest.param(c, id=c.id) for c in hostile.passed_by()])
def test_a_hostile_file_beside_a_run_is_passed_by(case, tmp_path):
    outcome = run(case, tmp_path)
    assert not (tmp_path / hostile.MARK).exists()
    assert outcome.status == 0, outcome.error[-2000:]


def test_the_payloads_would_run(tmp_path):
    """Otherwise the tests above would show nothing."""
    for data in (hostile.pickled(4), hostile.PAYLOADS["a pickle of protocol 2"]):
        pickle.loads(data)
        assert Path(hostile.MARK).exists()
        Path(hostile.MARK).unlink()

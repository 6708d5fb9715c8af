"""``recbole-ib tune``: its words, before anything is trained."""

from __future__ import annotations

import pytest

import recbole_ib.tuning.search as search_module
from recbole_ib.cli.main import main
from recbole_ib.errors import TrainingInterrupted
from tests.support.processes import fresh_python


@pytest.fixture
def asked(monkeypatch):
    """What the command asks of :func:`recbole_ib.tune`."""
    found = []

    class Stop(BaseException):
        pass

    def tune(*args, **kwargs):
        found.append((args, kwargs))
        raise Stop

    monkeypatch.setattr(search_module, "tune", tune)

    def ask(*words):
        with pytest.raises(Stop):
            main(["tune", *words])
        return found.pop()

    return ask


@pytest.mark.parametrize("form", [["--model", "BPR", "--samples", "3"], ["--model=BPR", "--samples=3"]])
def test_both_forms_of_the_commands_own_words(form, asked):
    (model, dataset, space, files), more = asked(
        *form, "--learning_rate=0.1", "--out", "o", "--heatmap", "a,b", "--keep-checkpoints"
    )
    assert (model, dataset, space, files) == ("BPR", "ml-100k", None, [])
    assert more["samples"] == 3
    assert more["argv"] == ["--learning_rate=0.1"]
    assert (more["out"], more["heatmaps"], more["keep_checkpoints"], more["gpus_per_trial"]) == ("o", ("a,b",), True, None)


def test_config_files_name_model_and_data(asked):
    (model, dataset, _, files), _ = asked("--config_files", "A.yaml B.yaml", "C.yaml", "--epochs=2")
    assert (model, dataset, files) == (None, None, ["A.yaml", "B.yaml", "C.yaml"])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--sample=3"], "unknown setting 'sample'"),
        (["--keep-checkpoint"], "cannot read '--keep-checkpoint'. Did you mean --keep-checkpoints"),
        (["--gpus-per-trail=1"], "Did you mean --gpus-per-trial"),
        (["stray"], "cannot read 'stray'"),
        (["--search=gird"], "Did you mean grid"),
        (["--search=grid"], "fib_weight: a grid goes through values one by one"),
        (["--model=IBMRek"], "Did you mean IBMRec"),
        (["--space=nowhere.yaml"], "there is no config file nowhere.yaml"),
        (["--epochs=5", "--grace=6"], "grace is 6 epochs, and a trial trains at most 5"),
        (["--eval_step=0"], "eval_step must be between 1 and epochs"),
        (["--heatmap=fib_weight,sigma"], "'sigma' is not searched. Did you mean sigma2"),
    ],
)
def test_what_is_wrong_is_said_before_ray_starts(words, text, capsys, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("Ray was started")

    monkeypatch.setattr(search_module, "ray_session", refuse)
    assert main(["tune", *words]) == 1
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (KeyboardInterrupt(), "Interrupted. The search had not begun: the same command begins it\n"),
        (TrainingInterrupted("The same command with --resume goes on"), "Interrupted. The same command with --resume goes on\n"),
    ],
)
def test_ctrl_c_says_how_to_go_on(stop, text, monkeypatch, capsys):
    def tune(*_, **__):
        raise stop

    monkeypatch.setattr(search_module, "tune", tune)
    assert main(["tune"]) == 130
    assert capsys.readouterr().err.endswith(text)


def test_help_says_the_words(capsys):
    assert main(["tune", "--help"]) == 0
    assert "--resume" in capsys.readouterr().out


def test_plain_training_does_not_import_ray_tune_through_us():
    script = "import sys, recbole_ib, recbole_ib.cli.main; print([m for m in sys.modules if m.startswith('recbole_ib.tuning')])"
    done = fresh_python("-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("[]")

"""What a command does with an error: one line for what is known, a file for what is not."""

import errno

import pytest

from recbole_ib.training import run
from recbole_ib_cli import main


def crash(error):
    def run(**_):
        raise error

    return run


def test_other_errors_are_bugs_whose_traceback_is_kept(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(run, "run_recbole_ib", crash(ZeroDivisionError("by zero")))
    assert main.main(["train", "--seed=3"]) == 1
    error = capsys.readouterr().err
    (kept,) = tmp_path.glob("recbole-ib-error-*.txt")
    assert error.startswith("recbole-ib: this is a bug")
    assert "ZeroDivisionError: by zero" in error
    assert str(kept) in error
    assert "Traceback" not in error
    assert "Traceback" in kept.read_text()
    assert "train --seed=3" in kept.read_text()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "saved/x.pth"),
            ["No space left on device: saved/x.pth", "free some space"],
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), ["Permission denied: /root/x", "checkpoint_dir"]),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "saved"), ["Not a directory: saved", "a file lies where"]),
    ],
)
def test_what_the_system_refuses_is_one_line(monkeypatch, capsys, error, words):
    monkeypatch.setattr(run, "run_recbole_ib", crash(error))
    assert main.main(["train"]) == 1
    said = capsys.readouterr().err
    assert all(word in said for word in words)
    assert said.count("\n") == 1

"""recbole_ib.tuning.options: what is refused, and what a folder may take."""

from __future__ import annotations

import pytest

from recbole_ib.errors import ConfigurationError
from recbole_ib.tuning.options import Options, claim
from recbole_ib.utils.ray import lock_directory

DESCRIPTION = {"format": "x", "model": "VLATTICE", "samples": 3, "space": {"a": {"choice": [1, 2]}}}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"search": "tpe"}, "search is 'tpe'. Allowed: optuna, random, grid"),
        ({"search": "gird"}, "Did you mean grid"),
        ({"scheduler": "pbt"}, "scheduler is 'pbt'"),
        ({"samples": 0}, "samples must be at least 1"),
        ({"cpus_per_trial": 0}, "cpus_per_trial must be at least"),
        ({"gpus_per_trial": -1}, "gpus_per_trial must be at least 0"),
        ({"reduction": 1}, "reduction must be at least"),
        ({"grace": 0}, "grace must be at least 1"),
        ({"search": "grid", "samples": 4}, "a grid goes through every combination"),
        ({"scheduler": "none", "grace": 4}, "grace is for the scheduler asha"),
        ({"address": "auto", "cpus": 2}, "cpus is for a Ray that the search starts here"),
        ({"resume": True, "fresh": True}, "give one of them"),
    ],
)
def test_wrong_options(words, text):
    with pytest.raises(ConfigurationError, match=text):
        Options(**words)


def test_defaults():
    assert (Options().trials, Options(samples=3).trials, Options(search="grid").trials) == (20, 3, 1)


def test_a_new_folder_is_taken_and_the_same_search_goes_on(tmp_path):
    assert claim(tmp_path, DESCRIPTION, Options()) is False
    assert claim(tmp_path, DESCRIPTION, Options(resume=True)) is True
    # what does not decide the search may differ
    assert claim(tmp_path, {**DESCRIPTION, "command": "other"}, Options(resume=True)) is True


def test_resuming_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"there is no search in .*new to go on with"):
        claim(tmp_path / "new", DESCRIPTION, Options(resume=True))


def test_a_folder_with_a_search_needs_a_word(tmp_path):
    (tmp_path / "search.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"--resume goes on with it, --fresh deletes it"):
        claim(tmp_path, DESCRIPTION, Options())


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", ["trials", "ray", "best.pth", "trials.csv", "heatmap-a-b.png"])
def test_files_that_no_search_is_known_to_have_written_are_left_alone(name, resume, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigurationError, match=rf"holds no search\.json, but files that a search would replace \({name}\)"):
        claim(tmp_path, DESCRIPTION, Options(resume=resume))
    assert (tmp_path / name).read_text() == "mine"


def test_another_search_is_named_key_by_key(tmp_path):
    claim(tmp_path, DESCRIPTION, Options())
    other = {**DESCRIPTION, "samples": 4, "space": {"a": {"choice": [1, 3]}}}
    with pytest.raises(ConfigurationError, match=r'samples: 3 then, 4 now; space: \{"a": \{"choice": \[1, 2\]\}\} then') as found:
        claim(tmp_path, other, Options(resume=True))
    assert "model" not in str(found.value).partition("go on with it")[2]


def test_a_damaged_note_is_refused(tmp_path):
    (tmp_path / "search.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"search\.json is damaged .* --fresh starts over"):
        claim(tmp_path, DESCRIPTION, Options(resume=True))


def test_fresh_deletes_what_a_search_wrote_and_nothing_else(tmp_path):
    claim(tmp_path, DESCRIPTION, Options())
    (tmp_path / "trials" / "a").mkdir(parents=True)
    for name in ("best.yaml", "heatmap-a-b.png", "mine.txt", "trials/a/trial.json"):
        (tmp_path / name).write_text("x")
    assert claim(tmp_path, DESCRIPTION, Options(fresh=True)) is False
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt", "search.json"}


def test_one_folder_is_searched_into_by_one_process(tmp_path):
    out = tmp_path / "out"
    with lock_directory(out), pytest.raises(ConfigurationError, match="another command is writing into"), lock_directory(out):
        pass
    with lock_directory(tmp_path / "out"):
        pass

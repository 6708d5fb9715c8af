"""Files written whole or not at all."""

from __future__ import annotations

import pytest

from recbole_ib.utils.files import atomic_write


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "table.csv"
    with atomic_write(path) as scratch:
        scratch.write_text("a\n")
        assert not path.exists()
        assert scratch.suffix == ".csv"
    assert path.read_text() == "a\n"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_an_exception_leaves_the_old_file_and_no_scratch(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old\n")

    def write_half():
        with atomic_write(path) as scratch:
            scratch.write_text("ne")
            raise RuntimeError("half")

    with pytest.raises(RuntimeError, match="half"):
        write_half()
    assert path.read_text() == "old\n"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]

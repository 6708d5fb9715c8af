"""The pages of docs/how-to/, run as they stand, on a planted data set in the place of ml-100k."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from recbole_ib.model import bottleneck, registry
from recbole_ib.model.layers import encoder
from tests.support.processes import fresh_python

ROOT = Path(__file__).resolve().parents[1]
HOW_TO = ROOT / "docs" / "how-to"
PAGES = {
    "add-a-backbone": ["SumMF", "SumMF+fib"],
    "add-a-bottleneck": ["VBPR+adversary"],
    "add-an-encoder": ["IBMRec"],
}
FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', flags=re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of a page: a file of the reader's where it has a title, otherwise what is run."""

    language: str
    title: str
    text: str


def blocks(page: str) -> list[Block]:
    """A page's blocks in order, on the planted data."""
    text = (HOW_TO / f"{page}.md").read_text(encoding="utf-8").replace("ml-100k", "planted")
    return [Block(*fields) for fields in FENCE.findall(text)]


def command_lines(page: str) -> list[list[str]]:
    """The words behind ``python`` of a page's commands."""
    lines = [shlex.split(line) for block in blocks(page) if block.language == "bash" for line in block.text.splitlines()]
    assert {words[0] for words in lines} == {"python"}
    return [words[1:] for words in lines]


@pytest.fixture
def write_page(planted_path, monkeypatch):
    """``write_page(page)`` puts a page's files and the data into the working directory; what it registers is forgotten afterwards."""
    tables = [bottleneck.BOTTLENECKS, encoder.ENCODERS, registry._registered, registry._aliases]
    before, modules = [dict(table) for table in tables], set(sys.modules)
    Path("dataset").symlink_to(planted_path)
    monkeypatch.syspath_prepend(str(Path.cwd()))

    def write(page: str) -> None:
        for block in blocks(page):
            if block.title:
                Path(block.title).write_text(block.text, encoding="utf-8")

    yield write
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)
    for name in set(sys.modules) - modules:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == Path.cwd():
            del sys.modules[name]


def test_the_pages_are_all_of_the_folder():
    assert sorted(PAGES) == sorted(path.stem for path in HOW_TO.glob("*.md"))


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_is_written_or_run(page):
    text = (HOW_TO / f"{page}.md").read_text(encoding="utf-8")
    assert 2 * len(blocks(page)) == len(re.findall(r"^```", text, flags=re.MULTILINE))
    assert {(block.language, bool(block.title)) for block in blocks(page)} == {
        ("python", True),
        ("python", False),
        ("bash", False),
    }


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs(page, write_page, monkeypatch, capsys):
    write_page(page)
    for block in blocks(page):
        if block.language == "python" and not block.title:
            exec(compile(block.text, f"{page}.md", "exec"), {"__name__": "page"})
    capsys.readouterr()
    for words, model in zip(command_lines(page), PAGES[page], strict=True):
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(words[0], run_name="__main__")
        output = capsys.readouterr()
        assert stop.value.code == 0, output.err[-3000:]
        assert f"{model} on planted" in output.out


def test_a_command_in_a_process_of_its_own_finds_the_bottleneck(write_page):
    write_page("add-a-bottleneck")
    (words,) = command_lines("add-a-bottleneck")
    result = fresh_python(*words)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "VBPR+adversary on planted" in result.stdout

"""The pages: links, dotted paths and files that they name are there."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
import yaml

import recbole_ib
from recbole_ib import deprecated
from recbole_ib.config.checks import RUN_KEYS, our_keys
from recbole_ib.config.recbole_keys import recbole_keys
from recbole_ib_cli.main import read_words

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*(ROOT / "docs").rglob("*.md"), *(ROOT / "results").rglob("*.md"), *ROOT.glob("*.md"))
)
FENCED = re.compile(r"^```.*?^```$", flags=re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
DOTTED = re.compile(r"(?<![\w/.])recbole_ib(?:_cli)?(?:\.[A-Za-z_]\w*)+")
FILE = re.compile(r"`((?:recbole_ib|recbole_ib_cli|tests|docs|properties|results|benchmarks)/[\w./-]+)`")
#: results tell what was measured with the code of their day, and the changelog what was renamed
HISTORY = ("CHANGELOG.md", "results/")
CURRENT = [page for page in PAGES if not page.startswith(HISTORY)]
#: they import with a warning
OLD = (*deprecated.MODULES, *deprecated.NAMES)


def text_of(page: str) -> str:
    """A page's text."""
    return (ROOT / page).read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def resolve(dotted: str) -> object:
    """What a dotted path names: a module, or an attribute of one.

    Raises:
        AttributeError, ModuleNotFoundError: nothing.
    """
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        try:
            found = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not name.startswith(str(error.name)):
                raise
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(dotted)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
    for link in LINK.findall(FENCED.sub("", text_of(page))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", CURRENT)
def test_dotted_paths_and_files_exist(page):
    text = text_of(page)
    for dotted in DOTTED.findall(text):
        resolve(dotted)
        assert not [old for old in OLD if f"{dotted}.".startswith(f"recbole_ib.{old}.")], dotted
    for name in FILE.findall(text):
        assert "NAME" in name or (ROOT / name).exists(), name


def test_the_architecture_names_every_folder_and_files_that_exist():
    text, package = text_of("docs/architecture.md"), ROOT / "recbole_ib"
    folders = sorted(path.parent.name for path in package.glob("*/__init__.py"))
    for folder in folders:
        assert re.search(rf"^\| \d+ \| `{folder}/` \|", text, flags=re.MULTILINE), folder
    files = re.findall(rf"`((?:{'|'.join(folders)})/[\w./]+)`", text)
    assert len(files) > 30
    assert [name for name in files if not (package / name).exists() and name != "model/backbones/x.py"] == []


def test_a_path_that_is_gone_is_found():
    with pytest.raises(AttributeError):
        resolve("recbole_ib.model.base.ItemView")
    with pytest.raises(AttributeError):
        resolve("recbole_ib.nothing.at_all")
    assert "quick_start" in OLD


def test_the_public_api_is_in_the_reference():
    entries = re.findall(r"^::: (recbole_ib[.\w]+)$", text_of("docs/reference.md"), flags=re.MULTILINE)
    described = [resolve(entry) for entry in entries]
    missing = [name for name in recbole_ib.__all__ if getattr(recbole_ib, name) not in described]
    assert missing == ["__version__"]


def test_every_page_is_in_the_navigation():
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    listed = set(re.findall(r"[\w/-]+\.md", yaml.safe_dump(navigation)))
    assert {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")} <= listed


def test_the_readme_fits_on_a_screen_or_two():
    lines = text_of("README.md").splitlines()
    assert len(lines) <= 90
    assert max(map(len, lines)) < 300


def command_lines(page: str) -> list[list[str]]:
    """The words of a page's ``recbole-ib`` commands, without the first."""
    lines = []
    for fence in re.findall(r"^```(?:bash)?\n(.*?)^```$", text_of(page), flags=re.MULTILINE | re.DOTALL):
        for line in re.sub(r"\\\n\s*", " ", fence).splitlines():
            for part in line.split(" && "):
                words = shlex.split(part, comments=True) if part.lstrip().startswith("recbole-ib ") else []
                if words and "..." not in words and "COMMAND" not in words:
                    lines.append(words[1:])
    return lines


@pytest.mark.parametrize("page", [page for page in CURRENT if command_lines(page)])
def test_commands_are_words_that_the_command_line_reads(page):
    known = our_keys() | recbole_keys() | RUN_KEYS
    for words in command_lines(page):
        if words[0].startswith(("--help", "--version", "--print")):
            continue
        args = read_words(words)
        keys = {word.partition("=")[0].removeprefix("--") for word in getattr(args, "settings", ())}
        assert keys <= known, (words, keys - known)

"""Hooks of the site: it has pages from outside docs/, and links hold in the repository and in the site."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
#: what the site shows beside docs/
OTHERS = (
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *(f"results/**/*.{kind}" for kind in ("md", "png", "html", "yaml")),
)
FENCED = re.compile(r"(^```.*?^```$)", flags=re.MULTILINE | re.DOTALL)
ROLE = re.compile(r":(?:mod|class|func|meth|data|attr):(<code>)~?")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages outside docs/ under their paths in the repository."""
    for pattern in OTHERS:
        for path in sorted(ROOT.glob(pattern)):
            files.append(
                File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=os.fspath(path))
            )
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:  # noqa: ARG001
    """Rewrite links for the site; one to a file that it lacks, such as source code, becomes its text."""
    source = page.file.src_uri
    place = source if page.file.generated_by else f"docs/{source}"

    def rewrite(match: re.Match[str]) -> str:
        text, link = match.groups()
        path, _, anchor = link.partition("#")
        if not path or re.match(r"[a-z]+:", link):
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), path))
        if not (ROOT / target).exists():
            return match[0]  # the strict build names it
        target = target.removeprefix("docs/")
        if files.get_file_from_path(target) is None:
            return text
        relative = posixpath.relpath(target, posixpath.dirname(source) or ".")
        return f"[{text}]({relative}{'#' if anchor else ''}{anchor})"

    parts = FENCED.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(rewrite, part) for part in parts)


def on_page_content(html: str, **_: Any) -> str:
    """Leave out the Sphinx roles of docstrings."""
    return ROLE.sub(r"\1", html)

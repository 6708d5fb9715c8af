"""What lint-imports and ruff do not see of the package's layout."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(path for name in ("recbole_ib", "recbole_ib_cli") for path in (ROOT / name).rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_is_short_and_imports_no_private_name_of_another(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 400
    imported = [
        alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("recbole_ib")
        for alias in node.names
    ]
    assert [name for name in imported if name.startswith("_") and not name.startswith("__")] == []


def test_no_file_of_the_tests_or_the_benchmarks_is_long():
    files = [path for name in ("tests", "benchmarks") for path in (ROOT / name).rglob("*.py")]
    assert len(files) > 100
    assert [path.relative_to(ROOT).as_posix() for path in files if len(path.read_text(encoding="utf-8").splitlines()) > 400] == []

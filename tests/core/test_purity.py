"""Below the line there is no I/O, no clock, no thread and no chance; and the tests of it need none."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BELOW_THE_LINE = (
    "protocol",
    "filters",
    "rts",
    "backoff",
    "sasl",
    "xmlstream",
    "serialize",
    "stanza",
    "events",
    "config",
    "errors",
    "jid",
    "namespaces",
)
FORBIDDEN = {"asyncio", "socket", "ssl", "sqlite3", "threading", "time", "random", "secrets"}


def imported(path: Path) -> set[str]:
    """The top-level modules that a file imports, wherever in it."""
    names: set[str] = set()
    for statement in ast.walk(ast.parse(path.read_text())):
        if isinstance(statement, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            names.add(statement.module.partition(".")[0])
        elif (
            isinstance(statement, ast.Call)
            and ast.unparse(statement.func) in ("__import__", "import_module", "importlib.import_module")
            and isinstance(statement.args[0], ast.Constant)
        ):
            names.add(str(statement.args[0].value).partition(".")[0])
    return names


def sources(name: str) -> list[Path]:
    place = ROOT / "src" / "pcj" / name
    return sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


@pytest.mark.parametrize("name", BELOW_THE_LINE)
def test_a_module_below_the_line_imports_nothing_of_the_world(name: str) -> None:
    files = sources(name)
    assert files
    for path in files:
        assert not imported(path) & FORBIDDEN, path


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.rglob("*.py")), ids=lambda path: path.name)
def test_the_tests_of_it_import_no_loop_and_no_socket(path: Path) -> None:
    assert not imported(path) & {"asyncio", "socket"}


@pytest.mark.parametrize(
    "text",
    ["import socket", "import asyncio.events", "from time import monotonic", "def f():\n  __import__('random')"],
)
def test_the_check_sees_an_import(text: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(text)
    assert imported(tmp_path / "module.py") & FORBIDDEN

"""Rules that no linter knows: where the environment is read, where everything is caught, how tests wait."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.architecture.sources import ROOT, python_files, shown, tracked, tree

BOUNDARIES = 4
"""Broad ``except`` clauses that src may hold: the work queue's worker, questions to
engines (which may be plug-ins), the supervisor, HTTP 500."""

REGISTRY_HOSTS = tuple(
    ".".join(parts)
    for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("debian", "org"))
)
"""Written in pieces, so that this file does not name them."""


def _attribute(node: ast.AST) -> str:
    """A dotted name as written, empty for other nodes."""
    if isinstance(node, ast.Attribute):
        return f"{_attribute(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def test_only_the_settings_read_the_environment() -> None:
    readers = {
        shown(path, node.lineno)
        for path in python_files("src")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and _attribute(node) in {"os.environ", "os.getenv", "os.environb"}
    }
    assert {name for name in readers if not name.startswith("src/roost/config.py")} == set()


def test_a_broad_except_stands_at_boundaries_only() -> None:
    broad = [
        shown(path, node.lineno)
        for path in python_files("src")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type) and not _passes_on(node)
    ]
    assert len(broad) <= BOUNDARIES, broad


def _is_broad(kind: ast.expr | None) -> bool:
    if kind is None:
        return True
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(_attribute(each) in {"Exception", "BaseException"} for each in kinds)


def _passes_on(handler: ast.ExceptHandler) -> bool:
    """Whether it cleans up and raises the same exception again: that catches nothing."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def test_tests_use_fakes_and_events_not_mocks_and_sleeps() -> None:
    found = []
    for path in python_files("tests"):
        for node in ast.walk(tree(path)):
            name = _attribute(node)
            if name in {"time.sleep", "monkeypatch.setattr", "mock.patch", "MagicMock", "AsyncMock"}:
                found.append(f"{shown(path, getattr(node, 'lineno', 0))} {name}")
            if isinstance(node, ast.ImportFrom | ast.Import):
                names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
                if any(name.startswith(("unittest.mock", "pytest_mock")) for name in names):
                    found.append(f"{shown(path, node.lineno)} mock")
    assert found == []


def test_no_file_names_a_package_registry() -> None:
    pattern = re.compile("|".join(re.escape(host) for host in REGISTRY_HOSTS))
    named = [
        f"{shown(path, number)} {match.group()}"
        for path in tracked()
        for number, line in enumerate(_lines(path), start=1)
        if (match := pattern.search(line))
    ]
    assert named == []


def test_dependencies_are_pinned_by_constraints_not_by_a_lock_with_addresses() -> None:
    names = {path.name for path in tracked()}
    assert "constraints.txt" in names
    assert not names & {"uv.lock", "poetry.lock", "Pipfile.lock"}
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==\S+", line) for line in _lines(ROOT / "constraints.txt") if line)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except UnicodeDecodeError:
        return []  # not text

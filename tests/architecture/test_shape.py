"""Sizes, names and docstrings."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Iterator

from tests.architecture.sources import functions, python_files, shown, tracked, tree

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 50
CODE = ("src", "tests", "benchmarks", "examples")

CALLBACKS = {name for name in dir(asyncio.Protocol) if not name.startswith("_")}

FORBIDDEN_NAME = re.compile(r"(?i)^_?(utils?|helpers?|common|core|misc|managers?)$")
FORBIDDEN_CLASS = re.compile(r"(Utils?|Helpers?|Manager|Misc)$")


def test_there_is_code_to_look_at() -> None:
    assert len(python_files("src")) > 30
    assert any(list(functions(path)) for path in python_files("src"))


def test_files_are_short() -> None:
    counts = {shown(path): len(path.read_text().splitlines()) for path in python_files(*CODE)}
    assert {name: lines for name, lines in counts.items() if lines > MAX_FILE_LINES} == {}


def test_functions_are_short() -> None:
    long = {}
    for path in python_files(*CODE):
        for function in functions(path):
            lines = _body_lines(function)
            if lines > MAX_FUNCTION_LINES:
                long[shown(path, function.lineno)] = f"{function.name}: {lines} lines"
    assert long == {}


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of what a function does: without its signature (the flags of a command are one) and its docstring."""
    first = function.body[1 if ast.get_docstring(function) and len(function.body) > 1 else 0]
    return (function.end_lineno or first.lineno) - first.lineno + 1


def test_nothing_is_called_by_a_word_that_says_nothing() -> None:
    parts = {shown(path) for path in tracked() for part in path.parts if FORBIDDEN_NAME.match(part.split(".")[0])}
    classes = {
        f"{shown(path, node.lineno)} {node.name}"
        for path in python_files(*CODE)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and FORBIDDEN_CLASS.search(node.name)
    }
    assert parts | classes == set()


def test_modules_say_what_they_are() -> None:
    silent = [shown(path) for path in python_files("src") if not ast.get_docstring(tree(path))]
    assert [name for name in silent if not name.endswith("__init__.py")] == []


def test_what_is_public_has_a_docstring() -> None:
    silent = [
        f"{shown(path, node.lineno)} {node.name}"
        for path in python_files("src")
        for node in _public(tree(path))
        if not ast.get_docstring(node)
    ]
    assert silent == []


def _public(scope: ast.Module | ast.ClassDef) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Public classes, functions and methods, but for the contract suites' cases, whose names say what they check, and
    the callbacks of asyncio's protocols, which asyncio documents."""
    for node in scope.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith(("_", "test_")) or (isinstance(scope, ast.ClassDef) and node.name in CALLBACKS):
                continue
            yield node
            if isinstance(node, ast.ClassDef):
                yield from _public(node)

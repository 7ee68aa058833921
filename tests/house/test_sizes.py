"""Files and functions stay small enough to be read in one go."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.tree import PROJECT, python_files

FILE_LINES = 400
FUNCTION_LINES = 50
HANDLER_LINES = 150
POSITIONAL_ARGUMENTS = 5


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method that `path` defines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", python_files(), ids=str)
def test_file_is_short(path: Path) -> None:
    limit = HANDLER_LINES if path.parts[0] == "storage_handlers" else FILE_LINES
    assert len((PROJECT / path).read_text().splitlines()) <= limit


@pytest.mark.parametrize("path", python_files(), ids=str)
def test_functions_are_short(path: Path) -> None:
    long = {
        node.name: (node.end_lineno or node.lineno) - node.lineno + 1
        for node in functions(PROJECT / path)
        if (node.end_lineno or node.lineno) - node.lineno + 1 > FUNCTION_LINES
    }
    assert not long


@pytest.mark.parametrize("path", python_files(), ids=str)
def test_functions_take_few_positional_arguments(path: Path) -> None:
    greedy = {
        node.name: len(node.args.args)
        for node in functions(PROJECT / path)
        if len([a for a in node.args.args if a.arg not in ("self", "cls")]) > POSITIONAL_ARGUMENTS
        and path.parts[0] != "tests"  # a test's arguments are its fixtures
    }
    assert not greedy

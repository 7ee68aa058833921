"""The linters and type checkers, run as tests, so that one command says yes or no."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

COMMANDS = {
    "ruff-lint": [str(BIN / "ruff"), "check", "."],
    "ruff-format": [str(BIN / "ruff"), "format", "--check", "."],
    "mypy": [str(BIN / "mypy")],
    "import-contracts": [str(BIN / "lint-imports"), "--no-cache"],
    "generated-api-page": [sys.executable, "docs/generate_api.py", "--check"],
    "generated-protos": [sys.executable, "protos/generate.py", "--check"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_tool_has_no_complaint(name: str) -> None:
    done = subprocess.run(COMMANDS[name], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(COMMANDS[name])}\n{done.stdout}{done.stderr}"

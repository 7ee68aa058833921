"""The project's own files, as the house tests look at them."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
LEFT_OUT = {
    ".git",
    ".venv",
    "build",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".hypothesis",
    "__pycache__",
}


def project_files() -> list[Path]:
    """Every file of the project, relative to its root, without what the verbs of the Makefile build."""
    found = []
    for path in PROJECT.rglob("*"):
        relative = path.relative_to(PROJECT)
        if path.is_file() and not LEFT_OUT.intersection(relative.parts):
            found.append(relative)
    return sorted(found)


def python_files() -> list[Path]:
    """Every Python source file of the project."""
    return [path for path in project_files() if path.suffix == ".py"]

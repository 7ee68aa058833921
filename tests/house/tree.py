"""The project's own files, as the house tests look at them."""

from __future__ import annotations

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
# What the verbs of the Makefile and the tools make; it is not walked into.
LEFT_OUT = {".git", ".venv", "build", "__pycache__"}


def project_files() -> list[Path]:
    """Every file of the project, relative to its root, without what tools and the Makefile build."""
    found: list[Path] = []
    for parent, directories, names in os.walk(PROJECT):
        directories[:] = [d for d in directories if d not in LEFT_OUT and not d.endswith("_cache")]
        found += [Path(parent, name).relative_to(PROJECT) for name in names]
    return sorted(path for path in found if ".hypothesis" not in path.parts)


def python_files() -> list[Path]:
    """Every Python source file of the project."""
    return [path for path in project_files() if path.suffix == ".py"]

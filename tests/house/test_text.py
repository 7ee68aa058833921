"""What the project's text must not contain, and the links that must lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.tree import PROJECT, project_files, python_files

TEXT = [
    path
    for path in project_files()
    if path.suffix in {".py", ".md", ".toml", ".txt", ".proto", ".pyi", ".sh", ".json", ".service"}
    or path.name in {"Makefile", "run", "clean-room", "install-packages"}
]
# Package indexes are reached through each client's own configuration, never named here.
INDEX_HOST = re.compile(
    r"https?://[^\s)\"']*(?:pypi|pythonhosted|crates|proxy\.golang|deb\.debian)[^\s)\"']*"
)
DRAWERS = {"utils", "helpers", "common", "misc", "manager", "util", "helper"}
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("path", TEXT, ids=str)
def test_no_package_index_is_named(path: Path) -> None:
    assert INDEX_HOST.findall((PROJECT / path).read_text()) == []


@pytest.mark.parametrize("path", python_files(), ids=str)
def test_no_module_is_a_drawer(path: Path) -> None:
    assert path.stem not in DRAWERS


@pytest.mark.parametrize("path", [p for p in TEXT if p.suffix == ".md"], ids=str)
def test_links_lead_to_files_of_the_project(path: Path) -> None:
    targets = [t for t in LINK.findall((PROJECT / path).read_text()) if "://" not in t]
    missing = [t for t in targets if not (PROJECT / path.parent / t).exists()]
    assert missing == []


@pytest.mark.parametrize("path", python_files(), ids=str)
def test_type_ignores_say_why(path: Path) -> None:
    marks = re.findall(r"# type: ignore(?!\[[a-z-]+\]\s+#\s\S)[^\n]*", (PROJECT / path).read_text())
    assert [mark for mark in marks if path.name != Path(__file__).name] == []

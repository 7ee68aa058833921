"""Run and data directories of the test's own, so that no command sees the machine's."""

from __future__ import annotations

from pathlib import Path

import pytest

from host.state import SandboxStore


@pytest.fixture(autouse=True)
def directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYKATA_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("PYKATA_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def store(directories: Path) -> SandboxStore:
    return SandboxStore(directories / "run")

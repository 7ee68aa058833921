"""Where the daemon is looked for, which cargo builds it, and what a failed build says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from host.errors import HostError, ToolMissing
from host.vm import vsock_daemon
from host.vm.vsock_daemon import build_daemon, find_cargo, find_daemon


def program(path: Path, text: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with none of the programs; returns a directory on its PATH."""
    monkeypatch.setattr(vsock_daemon, "BUILT", tmp_path / "built")
    monkeypatch.setattr(vsock_daemon, "_SYSTEM_CARGO", tmp_path / "no-cargo")
    monkeypatch.delenv(vsock_daemon.DAEMON_VARIABLE, raising=False)
    monkeypatch.delenv("CARGO", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(shutil, "which", _which_in(tmp_path / "bin"))
    return tmp_path / "bin"


def _which_in(directory: Path) -> Callable[[str], str | None]:
    """A stand-in for shutil.which that looks into `directory` alone."""
    return lambda name: str(directory / name) if (directory / name).exists() else None


def test_daemon_order(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = program(bare / "vhost-device-vsock", "")
    assert find_daemon() == on_path
    built = program(tmp_path / "built", "")
    assert find_daemon() == built
    named = program(tmp_path / "named", "")
    monkeypatch.setenv(vsock_daemon.DAEMON_VARIABLE, str(named))
    assert find_daemon() == named


def test_an_old_cargo_is_refused(bare: Path) -> None:
    program(bare / "cargo", "echo 'cargo 1.63.0 (fd9c4297c 2022-07-01)'")
    with pytest.raises(ToolMissing, match=r"cargo is 1\.63\).*apt-get install cargo-web"):
        find_cargo()


@pytest.mark.usefixtures("bare")
def test_no_cargo() -> None:
    with pytest.raises(ToolMissing, match=r"no cargo of version 1\.74 or later was found: run"):
        find_cargo()


def test_a_recent_cargo_behind_an_old_one(bare: Path, tmp_path: Path) -> None:
    program(bare / "cargo", "echo cargo 1.63.0")
    (tmp_path / ".cargo").mkdir()
    recent = program(tmp_path / ".cargo/bin/cargo", "echo cargo 1.95.0")
    assert find_cargo() == recent


def test_build(bare: Path, tmp_path: Path) -> None:
    install = f"""
[ "$1" = --version ] && {{ echo cargo 1.95.0; exit; }}
echo "$@" >> {tmp_path}/calls
mkdir -p "$6/bin" && echo daemon > "$6/bin/vhost-device-vsock" && chmod 755 "$6/bin/vhost-device-vsock"
"""
    program(bare / "cargo", install)
    destination = tmp_path / "out" / "vhost-device-vsock"
    assert build_daemon(destination) == destination
    assert build_daemon(destination) == destination
    assert destination.read_text() == "daemon\n"
    [call] = (tmp_path / "calls").read_text().splitlines()
    assert call.startswith("install --locked --version 0.3.0 --root ")
    assert call.endswith(" --no-track vhost-device-vsock")


def test_a_failed_build_says_why(bare: Path, tmp_path: Path) -> None:
    program(
        bare / "cargo", '[ "$1" = --version ] && { echo cargo 1.95.0; exit; }; echo no network >&2; exit 101'
    )
    destination = tmp_path / "out"
    with pytest.raises(HostError, match=r"cargo could not build vhost-device-vsock 0\.3\.0: no network"):
        build_daemon(destination)
    assert not destination.exists()

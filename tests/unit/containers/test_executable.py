"""Which commands the kernel would refuse, seen beneath a root filesystem."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest

from agent.containers.executable import check_command
from agent.errors import LaunchFailed

OWN_PROGRAM = Path("/proc/self/exe").read_bytes()[:256]


def elf(machine: int, *, big_endian: bool = False) -> bytes:
    order = ">" if big_endian else "<"
    identity = b"\x7fELF\x02" + (b"\x02" if big_endian else b"\x01") + bytes(10)
    return identity + struct.pack(order + "HH", 2, machine) + bytes(44)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "root"
    for name in ("bin", "opt", "usr/bin"):
        (place / name).mkdir(parents=True)
    return place


def put(root: Path, name: str, content: bytes, mode: int = 0o755) -> None:
    (root / name).write_bytes(content)
    (root / name).chmod(mode)


def command(name: str, **fields: Any) -> dict[str, Any]:
    return {"args": [name], "cwd": "/", "env": ["PATH=/usr/bin:/bin"], **fields}


@pytest.mark.parametrize(
    ("content", "exit_code"),
    [
        (OWN_PROGRAM, None),
        (b"#!/bin/sh\n", None),
        (b"#! /bin/sh -e\n", None),
        (b"#!sh\n", None),  # relative to a directory that only the container knows
        (b"#!/bin/nonexistent\necho\n", 127),
        (b"", 126),
        (b"echo no interpreter named\n", 126),
        (b"MZ\x90", 126),
        (b"\x7fELF", 126),
        (elf(22, big_endian=True), 126),
        (elf(243), 126),
    ],
)
def test_formats(root: Path, content: bytes, exit_code: int | None) -> None:
    put(root, "bin/sh", OWN_PROGRAM)
    put(root, "bin/tool", content)
    if exit_code is None:
        check_command(str(root), command("tool"), [])
        return
    with pytest.raises(LaunchFailed, match=f"^exit status {exit_code}: /bin/tool: ") as caught:
        check_command(str(root), command("/bin/tool"), [])
    assert caught.value.exit_code == exit_code


def test_what_is_missing_is_left_to_the_runtime(root: Path) -> None:
    put(root, "bin/plain", b"foreign", 0o644)
    for name in ("nonexistent", "/bin/nonexistent", "/bin/plain/x"):
        check_command(str(root), command(name), [])


def test_what_cannot_be_executed(root: Path) -> None:
    put(root, "bin/plain", b"foreign", 0o644)
    os.mkfifo(root / "bin/fifo", 0o755)
    for name in ("plain", "/bin/plain", "/bin", "/bin/fifo"):
        with pytest.raises(LaunchFailed, match=r"^exit status 126: /bin.*: permission denied") as caught:
            check_command(str(root), command(name), [])
        assert caught.value.exit_code == 126
    put(root, "bin/script", b"#!/bin/plain\n")
    with pytest.raises(LaunchFailed, match=r"^exit status 126: .* interpreter /bin/plain cannot be executed"):
        check_command(str(root), command("script"), [])


def test_the_search_goes_on_past_files_that_cannot_be_executed(root: Path) -> None:
    put(root, "usr/bin/tool", b"foreign", 0o644)
    put(root, "bin/tool", b"foreign")
    with pytest.raises(LaunchFailed, match="/bin/tool: exec format error"):
        check_command(str(root), command("tool"), [])
    put(root, "usr/bin/tool", OWN_PROGRAM)
    check_command(str(root), command("tool"), [])


def test_relative_commands_and_a_missing_path_variable(root: Path) -> None:
    put(root, "opt/tool", b"foreign")
    put(root, "bin/tool", b"foreign")
    with pytest.raises(LaunchFailed, match=r"/opt/\./tool"):
        check_command(str(root), command("./tool", cwd="/opt"), [])
    with pytest.raises(LaunchFailed, match="/bin/tool"):
        check_command(str(root), command("tool", env=None), [])


def test_mounts_of_the_container_cannot_be_judged(root: Path) -> None:
    put(root, "opt/tool", b"covered")
    for mounts in (["/opt"], ["/opt/"], ["/opt/tool"], ["/"]):
        check_command(str(root), command("/opt/tool"), mounts)
    put(root, "bin/script", b"#!/opt/nonexistent\n")
    check_command(str(root), command("script"), ["/opt"])
    with pytest.raises(LaunchFailed):
        check_command(str(root), command("/opt/tool"), ["/op"])


def test_links_lead_nowhere_but_into_the_root(root: Path, tmp_path: Path) -> None:
    put(tmp_path, "outside", b"foreign")
    (root / "bin/escape").symlink_to("../../outside")
    check_command(str(root), command("escape"), [])
    (root / "bin/absolute").symlink_to("/opt/tool")
    put(root, "opt/tool", b"foreign")
    with pytest.raises(LaunchFailed, match="/bin/absolute"):
        check_command(str(root), command("absolute"), [])

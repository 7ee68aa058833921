"""The fixture that looks for leaks finds each kind it looks for: one is planted, and caught."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from agent.linux.mount import mount, umount
from tests.leaks import Footprint, lasting_leaks


@contextlib.contextmanager
def leaked_process(_directory: Path) -> Iterator[None]:
    child = subprocess.Popen(["sleep", "60"])
    try:
        yield
    finally:
        child.kill()
        child.wait()


@contextlib.contextmanager
def leaked_mount(directory: Path) -> Iterator[None]:
    mount("pykata-leak", str(directory), "tmpfs")
    try:
        yield
    finally:
        umount(str(directory))


@contextlib.contextmanager
def leaked_loop_device(directory: Path) -> Iterator[None]:
    image = directory / "disk"
    image.write_bytes(bytes(1 << 20))
    node = subprocess.run(
        ["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        yield
    finally:
        subprocess.run(["losetup", "--detach", node], check=True)


@contextlib.contextmanager
def leaked_socket(directory: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "pykata-leak.sock"))
        listener.listen()
        yield


@contextlib.contextmanager
def leaked_cgroup(_directory: Path) -> Iterator[None]:
    cgroup = Path("/sys/fs/cgroup/pids") / f"pykata-leak-{os.getpid()}"
    cgroup.mkdir()
    try:
        yield
    finally:
        cgroup.rmdir()


@contextlib.contextmanager
def leaked_file(_directory: Path) -> Iterator[None]:
    path = Path(f"/tmp/pykata-leak-{os.getpid()}")
    path.touch()
    try:
        yield
    finally:
        path.unlink()


PLANTED: dict[str, Callable[[Path], AbstractContextManager[None]]] = {
    "processes": leaked_process,
    "mounts": leaked_mount,
    "loop_devices": leaked_loop_device,
    "sockets": leaked_socket,
    "cgroups": leaked_cgroup,
    "files": leaked_file,
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_leak_is_found(kind: str, tmp_path: Path) -> None:
    before = Footprint.take()
    with PLANTED[kind](tmp_path):
        assert kind in lasting_leaks(before, patience_s=1)
    assert kind not in Footprint.take().leaks_since(before)

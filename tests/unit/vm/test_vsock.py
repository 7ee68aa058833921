"""The two vsock devices: the kernel's context ids, and a daemon of the machine's own."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import sys
from pathlib import Path

import pytest

from host.errors import HostError, ToolMissing, VmFailed
from host.vm import vsock, vsock_daemon
from host.vm.vsock import DaemonVsock, DaemonVsockChannel, KernelVsock, KernelVsockChannel, open_vsock

_DAEMON = """#!{python}
import socket, sys
path = next(word.partition("=")[2] for word in sys.argv if word.startswith("--socket="))
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(1)
print(*sys.argv[1:], flush=True)
listener.accept()
"""


def program(path: Path, text: str) -> Path:
    """An executable script."""
    path.write_text(text)
    path.chmod(0o755)
    return path


class FakeVhost:
    """A vhost-vsock driver in which some context ids are taken."""

    def __init__(self, taken: set[int], error: int = errno.EADDRINUSE) -> None:
        self.taken, self.error = taken, error
        self.asked: list[int] = []

    def ioctl(self, _fd: int, request: int, argument: bytes) -> int:
        assert request == 0x4008AF60
        cid = int.from_bytes(argument, sys.byteorder)
        self.asked.append(cid)
        if cid in self.taken:
            raise OSError(self.error, os.strerror(self.error))
        return 0


@pytest.fixture
def vhost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeVhost:
    device = tmp_path / "vhost-vsock"
    device.touch()
    fake = FakeVhost({10, 11})
    monkeypatch.setattr(vsock, "_VHOST_VSOCK", device)
    monkeypatch.setattr(random, "randint", lambda _low, _high: 10)
    monkeypatch.setattr(fcntl, "ioctl", fake.ioctl)
    return fake


async def test_the_kernels_device_is_preferred(vhost: FakeVhost, tmp_path: Path) -> None:
    channel = await open_vsock(tmp_path)
    assert isinstance(channel, KernelVsockChannel)
    assert isinstance(channel.device, KernelVsock)
    assert vhost.asked == [10, 11, 12]
    assert channel.address(1024) == "vsock://12:1024"
    assert channel.pids() == {}
    os.fstat(channel.device.fd)
    await channel.close()
    await channel.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(channel.device.fd)


async def test_search_goes_downwards_too(vhost: FakeVhost, tmp_path: Path) -> None:
    vhost.taken = set(range(10, 2000))
    channel = await open_vsock(tmp_path)
    assert channel.address(1) == "vsock://9:1"
    await channel.close()


async def test_no_context_id_left(vhost: FakeVhost, tmp_path: Path) -> None:
    vhost.taken = set(range(3000))
    open_files = len(os.listdir("/proc/self/fd"))
    with pytest.raises(HostError, match="no vsock context id is free"):
        await open_vsock(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == open_files


async def test_other_errors_of_the_driver_are_not_hidden(vhost: FakeVhost, tmp_path: Path) -> None:
    vhost.error = errno.EINVAL
    with pytest.raises(OSError, match="Invalid argument"):
        await open_vsock(tmp_path)


@pytest.fixture
def no_vhost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vsock, "_VHOST_VSOCK", tmp_path / "absent")


@pytest.mark.usefixtures("no_vhost")
async def test_the_daemon_listens_when_open_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = program(tmp_path / "daemon", _DAEMON.format(python=sys.executable))
    monkeypatch.setenv(vsock_daemon.DAEMON_VARIABLE, str(daemon))
    channel = await open_vsock(tmp_path)
    try:
        assert isinstance(channel, DaemonVsockChannel)
        socket_path = tmp_path / "vhost-vsock.sock"
        assert channel.device == DaemonVsock(socket_path)
        assert vsock._is_listening(socket_path)
        assert channel.address(1024) == f"hvsock://{tmp_path}/vsock.sock:1024"
        [pid] = channel.pids().values()
        assert Path(f"/proc/{pid}").exists()
    finally:
        await channel.close()
    assert not Path(f"/proc/{pid}").exists()
    assert not socket_path.exists()


@pytest.mark.usefixtures("no_vhost")
async def test_a_daemon_that_ends_is_told_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = program(tmp_path / "daemon", "#!/bin/sh\necho no such option; exit 2\n")
    monkeypatch.setenv(vsock_daemon.DAEMON_VARIABLE, str(daemon))
    with pytest.raises(VmFailed, match="ended before it served its socket: no such option"):
        await open_vsock(tmp_path)


@pytest.mark.usefixtures("no_vhost")
async def test_no_daemon_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(vsock_daemon.DAEMON_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(ToolMissing, match="which is no program"):
        await open_vsock(tmp_path)
    monkeypatch.delenv(vsock_daemon.DAEMON_VARIABLE)
    monkeypatch.setattr(vsock_daemon, "BUILT", tmp_path / "absent")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="run `make setup`"):
        await open_vsock(tmp_path)

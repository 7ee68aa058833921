"""The vsock device of a machine: the kernel's where it has one, else a daemon of the machine's own.

With the kernel's `/dev/vhost-vsock` the guest has a context id and is reached as `vsock://CID:PORT`.
Without it, QEMU's vhost-user device talks to the program vhost-device-vsock, which offers a unix
socket where a client writes `CONNECT PORT` first ("hybrid vsock", as Firecracker made it):
`hvsock://PATH:PORT`.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from host.errors import DeadlineExceeded, HostError
from host.vm.children import Child
from host.vm.vsock_daemon import find_daemon

_VHOST_VSOCK = Path("/dev/vhost-vsock")
# _IOW(0xAF, 0x60, __u64), linux/vhost.h
_VHOST_VSOCK_SET_GUEST_CID = 0x4008AF60
_FIRST_GUEST_CID = 3  # 0 to 2 are taken: hypervisor, local, host (vsock(7))
_LAST_GUEST_CID = 0xFFFFFFFE  # the highest is VMADDR_CID_ANY
# Each daemon serves one machine, so every machine may have the same context id.
_DAEMON_GUEST_CID = 3
_DAEMON_START_S = 10.0
_DAEMON_POLL_S = 0.005
_LISTENING = 0x10000  # __SO_ACCEPTCON in the flags of /proc/net/unix


@dataclass(frozen=True, slots=True)
class KernelVsock:
    """The kernel's own device: a context id, held by an open file that QEMU inherits."""

    cid: int
    fd: int


@dataclass(frozen=True, slots=True)
class DaemonVsock:
    """A vhost-user device behind this unix socket."""

    socket: Path


VsockDevice = KernelVsock | DaemonVsock


class VsockChannel(Protocol):
    """A vsock device that is ready for QEMU, and the way to the guest's ports."""

    device: VsockDevice

    def address(self, port: int) -> str:
        """The address of the guest's `port` for a client on this host."""

    def pids(self) -> dict[str, int]:
        """Processes that belong to it, by name."""

    async def close(self) -> None:
        """Give it up; safe to call twice."""


class KernelVsockChannel:
    """A context id of the kernel's vsock, taken for one machine."""

    def __init__(self, device: KernelVsock) -> None:
        self.device: VsockDevice = device
        self._cid = device.cid
        self._fd: int | None = device.fd

    @classmethod
    def open(cls) -> KernelVsockChannel:
        """Take a free context id. Raises OSError if the kernel refuses, HostError if all are taken."""
        fd = os.open(_VHOST_VSOCK, os.O_RDWR | os.O_CLOEXEC)
        try:
            return cls(KernelVsock(_take_cid(fd), fd))
        except BaseException:
            os.close(fd)
            raise

    def address(self, port: int) -> str:
        """`vsock://CID:PORT`."""
        return f"vsock://{self._cid}:{port}"

    def pids(self) -> dict[str, int]:
        """None: the kernel does it."""
        return {}

    async def close(self) -> None:
        """Give the context id back."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _candidate_cids() -> Iterator[int]:
    """Where to look for a free context id: from a random one upwards, then downwards (as Kata does)."""
    start = random.randint(_FIRST_GUEST_CID, _LAST_GUEST_CID)
    yield from range(start, min(start + 1000, _LAST_GUEST_CID + 1))
    yield from range(start - 1, max(start - 1000, _FIRST_GUEST_CID - 1), -1)


def _take_cid(fd: int) -> int:
    """Bind a free context id to the open vhost-vsock file."""
    for cid in _candidate_cids():
        try:
            fcntl.ioctl(fd, _VHOST_VSOCK_SET_GUEST_CID, struct.pack("=Q", cid))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return cid
    raise HostError("no vsock context id is free", "stop some virtual machines")


class DaemonVsockChannel:
    """One vhost-device-vsock process, for one machine."""

    def __init__(self, daemon: Child, device_socket: Path, client_socket: Path) -> None:
        self.device: VsockDevice = DaemonVsock(device_socket)
        self._daemon = daemon
        self._sockets = (device_socket, client_socket)
        self._client_socket = client_socket

    @classmethod
    async def open(cls, run_dir: Path) -> DaemonVsockChannel:
        """Start the daemon and wait until it listens.

        Raises ToolMissing if it was never built, VmFailed if it dies, DeadlineExceeded.
        """
        device_socket, client_socket = run_dir / "vhost-vsock.sock", run_dir / "vsock.sock"
        command: list[str | Path] = [
            find_daemon(),
            f"--guest-cid={_DAEMON_GUEST_CID}",
            f"--socket={device_socket}",
            f"--uds-path={client_socket}",
        ]
        daemon = Child.start("vhost-device-vsock", command, log=run_dir / "vsock.log")
        channel = cls(daemon, device_socket, client_socket)
        try:
            await asyncio.wait_for(_until_listening(device_socket, daemon), _DAEMON_START_S)
        except TimeoutError as error:
            await channel.close()
            raise DeadlineExceeded(
                f"vhost-device-vsock did not listen within {_DAEMON_START_S:.0f} s", f"see {daemon.log}"
            ) from error
        except BaseException:
            await channel.close()
            raise
        return channel

    def address(self, port: int) -> str:
        """`hvsock://PATH:PORT`."""
        return f"hvsock://{self._client_socket}:{port}"

    def pids(self) -> dict[str, int]:
        """The daemon."""
        return {self._daemon.name: self._daemon.pid}

    async def close(self) -> None:
        """End the daemon and remove its sockets."""
        await self._daemon.stop()
        for socket in self._sockets:
            socket.unlink(missing_ok=True)


async def _until_listening(path: Path, daemon: Child) -> None:
    """Wait until someone listens on the unix socket `path`.

    A poll: no event tells a third party that a process has called listen(2), and to connect would
    use up the one connection that the daemon waits for.
    """
    while not _is_listening(path):
        if not daemon.running:
            raise daemon.failure("ended before it served its socket")
        await asyncio.sleep(_DAEMON_POLL_S)


def _is_listening(path: Path) -> bool:
    """Whether the kernel lists `path` as a listening unix socket (proc(5), /proc/net/unix)."""
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[7] == str(path):
            return bool(int(fields[3], 16) & _LISTENING)
    return False


async def open_vsock(run_dir: Path) -> VsockChannel:
    """The best vsock device this host has, ready for a machine whose sockets live in `run_dir`.

    Raises ToolMissing, VmFailed or DeadlineExceeded.
    """
    if _VHOST_VSOCK.exists():
        try:
            return KernelVsockChannel.open()
        except OSError as error:
            # A device file without its driver, or without permission, is as good as none.
            if error.errno not in (errno.ENODEV, errno.ENXIO, errno.ENOENT, errno.EACCES, errno.EPERM):
                raise
    return await DaemonVsockChannel.open(run_dir)

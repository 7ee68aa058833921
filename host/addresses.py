"""Where an agent can be reached, as a text and as a connected socket.

The forms are those of the Kata runtimes (src/runtime/virtcontainers/pkg/agent/protocols/client).
"""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import dataclass

_VSOCK = re.compile(r"vsock://(\d+):(\d+)")
_HYBRID = re.compile(r"hvsock://(.+):(\d+)")

# The longest line a virtual machine monitor answers CONNECT with, by far.
_MAX_ANSWER_BYTES = 256


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket file, or a name in the abstract space of the network namespace."""

    name: str
    abstract: bool = False

    def __str__(self) -> str:
        return f"unix://{'@' if self.abstract else ''}{self.name}"

    async def open(self) -> socket.socket:
        """A connected, non-blocking socket. Raises OSError."""
        return await _open(socket.AF_UNIX, f"\0{self.name}" if self.abstract else self.name)


@dataclass(frozen=True, slots=True)
class VsockAddress:
    """A port of a guest whose vsock the host's kernel carries (vhost-vsock)."""

    cid: int
    port: int

    def __str__(self) -> str:
        return f"vsock://{self.cid}:{self.port}"

    async def open(self) -> socket.socket:
        """A connected, non-blocking socket. Raises OSError."""
        return await _open(socket.AF_VSOCK, (self.cid, self.port))


@dataclass(frozen=True, slots=True)
class HybridVsockAddress:
    """A port of a guest whose vsock a daemon carries: one socket file for all ports.

    Whoever connects says `CONNECT PORT` and is told `OK …` once the guest has accepted
    (Firecracker's docs/vsock.md; the crate vhost-device-vsock does the same).
    """

    path: str
    port: int

    def __str__(self) -> str:
        return f"hvsock://{self.path}:{self.port}"

    async def open(self) -> socket.socket:
        """A connected, non-blocking socket. Raises OSError, also if nobody in the guest accepts."""
        connection = await _open(socket.AF_UNIX, self.path)
        try:
            await self._shake_hands(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    async def _shake_hands(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(connection, f"CONNECT {self.port}\n".encode())
        line = b""
        # Byte by byte: what follows the line is the guest's own first word.
        while not line.endswith(b"\n"):
            byte = await loop.sock_recv(connection, 1)
            if not byte or len(line) > _MAX_ANSWER_BYTES:
                raise ConnectionRefusedError(
                    f"nobody accepts port {self.port} in the guest behind {self.path}"
                )
            line += byte
        if b"OK" not in line:
            raise ConnectionRefusedError(f"{self.path} answered {line!r} to CONNECT {self.port}")


Address = UnixAddress | VsockAddress | HybridVsockAddress


def parse_address(text: str) -> Address:
    """Read `unix://PATH`, `unix://@NAME`, `vsock://CID:PORT`, `hvsock://PATH:PORT` or a bare path.

    Raises ValueError, whose text says what it must look like.
    """
    if match := _VSOCK.fullmatch(text):
        return VsockAddress(int(match[1]), int(match[2]))
    if match := _HYBRID.fullmatch(text):
        return HybridVsockAddress(match[1], int(match[2]))
    name = text.removeprefix("unix://")
    if name.removeprefix("@") and "://" not in name:
        return UnixAddress(name.removeprefix("@"), abstract=name.startswith("@"))
    raise ValueError(
        f"{text!r} is no address of an agent: "
        "it must read unix://PATH, unix://@NAME, vsock://CID:PORT or hvsock://PATH:PORT"
    )


async def _open(family: int, address: str | tuple[int, int]) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        await asyncio.get_running_loop().sock_connect(connection, address)
    except BaseException:
        connection.close()
        raise
    return connection

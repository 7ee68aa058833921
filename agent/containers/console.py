"""Receiving a terminal from crun, and its window size.

A pseudo-terminal that the agent made would be no controlling terminal inside the container. So crun
makes it there, against the container's own /dev/pts, and sends its master over a unix socket
(`--console-socket`; docs/terminals.md of opencontainers/runc describes the protocol).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import socket
import struct
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from agent.errors import KernelRefused, LaunchFailed

_WINSIZE = struct.Struct("HHHH")  # struct winsize: rows, columns, two unused (ioctl_tty(2))
_LARGEST = 0xFFFF


@dataclass(frozen=True, slots=True)
class ConsoleSocket:
    """A listening socket for the terminal of one launch."""

    path: str
    listener: socket.socket

    async def receive_master(self, timeout_s: float) -> int:
        """The master of the terminal that crun has sent, or is about to send; the caller owns it.

        Raises LaunchFailed if none arrives within `timeout_s` seconds.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                connection, _ = await loop.sock_accept(self.listener)
                with connection:
                    await _readable(connection)
                    return _received_descriptor(connection)
        except TimeoutError:
            raise LaunchFailed(f"no terminal arrived from the runtime within {timeout_s:g} s") from None


@asynccontextmanager
async def console_socket(directory: str) -> AsyncIterator[ConsoleSocket]:
    """A console socket of its own in `directory` (made if missing), gone after the `with` block.

    Raises KernelRefused.
    """
    path = f"{directory}/{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as listener:
        listener.setblocking(False)
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)  # on tmpfs, as the socket itself
            listener.bind(path)
            listener.listen(1)
        except OSError as error:
            raise KernelRefused(f"cannot listen on the console socket {path}: {error}") from error
        try:
            yield ConsoleSocket(path, listener)
        finally:
            os.unlink(path)


def set_window_size(terminal: int, rows: int, columns: int) -> None:
    """Set the size of the terminal; values that do not fit are cut to the largest that does.

    Raises KernelRefused.
    """
    size = _WINSIZE.pack(min(rows, _LARGEST), min(columns, _LARGEST), 0, 0)
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
    except OSError as error:
        raise KernelRefused.from_oserror("TIOCSWINSZ", error) from error


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)


def _received_descriptor(connection: socket.socket) -> int:
    """The one descriptor of the message that waits in `connection`."""
    _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
    if not descriptors:
        raise LaunchFailed("the runtime sent a message without a terminal")
    # Python 3.11 drops the flags of recv_fds, MSG_CMSG_CLOEXEC with them (socket.py).
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]

"""A shell in the guest itself, for whoever holds the host: a vsock port with a terminal per connection.

Off unless the host asks for it by `agent.debug_console` together with a port (1026 by custom, where
`kata-runtime exec` and `pykata console` look for it). vsock knows no namespaces, so only the host's
CID is served: a container of the guest gets no answer. A pty per connection, and the shell is killed when
its peer leaves, as in kata-containers src/agent/src/console.rs.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import struct
import termios
from collections.abc import Iterator
from pathlib import Path

from agent.errors import LaunchFailed
from agent.linux.vsock import is_from_host, listen_vsock
from agent.processes.reaper import Reaper
from agent.processes.spawn import spawn

logger = logging.getLogger("agent.debug_console")

SHELLS = ("/bin/bash", "/bin/sh")
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TERM": "xterm",
    "HOME": "/root",
}
# A session leader gets the first terminal it opens as its controlling one (credentials(7)), so the
# shell opens the pty itself instead of inheriting it; without one there is no Ctrl-C.
_OPEN_AND_EXEC = 'exec "$0" -i <>"$1" >&0 2>&0'
# An image that has this file has no console, whatever the kernel command line says: the line is the
# host's, and a guest may have secrets from its host (GHSA-rr59-xxvx-96qr).
LOCK = Path("/etc/kata-agent/debug-console.locked")
_CHUNK_BYTES = 64 * 1024
_INITIAL_SIZE = (24, 80)  # rows, columns: the wire tells no size, `stty` in the shell can


def is_locked(lock: Path = LOCK) -> bool:
    """Whether this image forbids the console."""
    return lock.exists()


class DebugConsole:
    """Listens on a vsock port and gives every connection from the host a shell of its own."""

    def __init__(self, port: int, reaper: Reaper) -> None:
        self._port = port
        self._reaper = reaper
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Listen, on the running loop. Raises OSError if the port cannot be had."""
        self._listener = listen_vsock(self._port)
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    async def stop(self) -> None:
        """Stop listening and end all shells. Safe to call twice."""
        if self._listener:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, peer = listener.accept()
        except OSError as error:  # the peer was quicker to leave
            logger.info("a console connection did not come to be: %s", error)
            return
        if not is_from_host(peer):
            logger.warning("refused a console to CID %d: only the host gets one", peer[0])
            connection.close()
            return
        task = asyncio.create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket) -> None:
        """One shell, from its start to the end of either side."""
        try:
            reader, writer = await asyncio.open_connection(sock=connection)
            await serve_shell(reader, writer, self._reaper)
        except (OSError, LaunchFailed) as error:
            logger.error("a console ended early: %s", error)


async def serve_shell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reaper: Reaper) -> None:
    """Run a shell on a new terminal and carry bytes to and fro until the shell or the peer ends.

    Closes `writer`. Raises LaunchFailed if the shell cannot be started.
    """
    try:
        shell = next((path for path in SHELLS if os.access(path, os.X_OK)), None)
        if shell is None:
            writer.write(f"this guest has no shell: none of {', '.join(SHELLS)} exists\r\n".encode())
            return
        with _terminal() as (master, name):
            pid = _start(reaper, shell, name)
            try:
                await _carry(reader, writer, master, asyncio.create_task(reaper.wait(pid)))
            finally:
                reaper.send_signal(pid, signal.SIGKILL, group=True)
                reaper.disown(pid)
    finally:
        writer.close()


@contextlib.contextmanager
def _terminal() -> Iterator[tuple[int, str]]:
    """A new terminal: its master, non-blocking, and the path of its other end.

    The other end stays open here as well: so reading the master never fails while shells come and go.
    """
    master, slave = os.openpty()
    try:
        os.set_blocking(master, False)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *_INITIAL_SIZE, 0, 0))
        yield master, os.ttyname(slave)
    finally:
        os.close(slave)
        os.close(master)


def _start(reaper: Reaper, shell: str, terminal: str) -> int:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        with reaper.launch() as launch:
            argv = ["/bin/sh", "-c", _OPEN_AND_EXEC, shell, terminal]
            return spawn(launch, argv, stdin=null, stdout=null, stderr=null, env=ENVIRONMENT, cwd="/")
    finally:
        os.close(null)


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, master: int, shell: asyncio.Task[int]
) -> None:
    """Until the shell has ended and its last words are sent, or the peer has left."""
    typed = asyncio.create_task(_pass_typed(reader, master))
    shown = asyncio.create_task(_pass_shown(master, writer))
    await asyncio.wait({typed, shown, shell}, return_when=asyncio.FIRST_COMPLETED)
    shell_has_ended = shell.done()
    for task in (typed, shown, shell):
        task.cancel()
    await asyncio.gather(typed, shown, shell, return_exceptions=True)
    if shell_has_ended:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                writer.write(os.read(master, _CHUNK_BYTES))
                await writer.drain()


async def _pass_typed(reader: asyncio.StreamReader, master: int) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        while data:
            try:
                data = data[os.write(master, data) :]
            except BlockingIOError:  # the shell does not read now
                await _ready(master, write=True)


async def _pass_shown(master: int, writer: asyncio.StreamWriter) -> None:
    while True:
        try:
            writer.write(os.read(master, _CHUNK_BYTES))
            await writer.drain()
        except BlockingIOError:
            await _ready(master, write=False)


async def _ready(descriptor: int, *, write: bool) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    add(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        remove(descriptor)

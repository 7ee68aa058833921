"""The log as a stream on a vsock port (`agent.log_vport`), for a host that follows it.

The agent listens and the host connects, at any time and as often as it likes; each reader gets the
log from its start. Writing never waits for a reader: what is not fetched in time is kept in bounded
memory, and what does not fit is dropped from the middle, with a record that says how much
(the 4.x agent writes into a pipe of 64 KiB and stops when it is full: kata-containers
src/agent/src/main.rs, create_logger_task).
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import IO

from agent.linux.vsock import is_from_host, listen_vsock

_log = logging.getLogger("agent.log_port")

_START_BYTES = 64 << 10
_LATEST_BYTES = 192 << 10
_CHUNK_BYTES = 64 << 10
# What readers get when the agent stops, to fetch the last records.
_LAST_WORDS_S = 0.5
_MOST_READERS = 16


class LogRing:
    """Takes records as a text stream does, and keeps the first of them and the latest.

    May be written to and read from by any thread. Records are numbered from 0 on.
    """

    def __init__(self, start_bytes: int = _START_BYTES, latest_bytes: int = _LATEST_BYTES) -> None:
        self._start_room = start_bytes
        self._latest_room = latest_bytes
        self._start: list[bytes] = []
        self._latest: deque[bytes] = deque()
        self._count = 0
        self._lock = threading.Lock()
        self._is_full = False  # of the start: a later record is never put before an earlier one
        self.on_write: Callable[[], object] = lambda: None
        """Called after each record, by the thread that wrote it; must not wait."""

    def write(self, text: str) -> int:
        """Keep one record."""
        record = text.encode(errors="backslashreplace")
        with self._lock:
            self._count += 1
            if not self._is_full and len(record) <= self._start_room:
                self._start_room -= len(record)
                self._start.append(record)
            else:
                self._is_full = True
                self._latest.append(record)
                self._latest_room -= len(record)
                while self._latest_room < 0:
                    self._latest_room += len(self._latest.popleft())
        self.on_write()
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        """No terminal: records are JSON."""
        return False

    def read(self, position: int) -> tuple[bytes, int]:
        """Records from number `position` on, about 64 KiB of them, and the number of the next one."""
        chunk = bytearray()
        with self._lock:
            first_latest = self._count - len(self._latest)
            if len(self._start) <= position < first_latest:
                chunk += _gap(first_latest - position)
                position = first_latest
            while position < self._count and len(chunk) < _CHUNK_BYTES:
                if position < len(self._start):
                    chunk += self._start[position]
                elif position < first_latest:
                    break  # the gap is told at the beginning of the next chunk
                else:
                    chunk += self._latest[position - first_latest]
                position += 1
        return bytes(chunk), position


def _gap(count: int) -> bytes:
    record = {
        "level": "warning",
        "msg": f"{count} records were dropped here: no reader came for them in time",
        "name": "kata-agent",
        "source": "agent",
        "subsystem": "log_port",
    }
    return json.dumps(record).encode() + b"\n"


class LogPort:
    """Serves a ring to the host."""

    def __init__(self, ring: LogRing) -> None:
        self._ring = ring
        self._listener: socket.socket | None = None
        self._readers: set[asyncio.Task[None]] = set()
        self._news: asyncio.Future[None]
        self._loop: asyncio.AbstractEventLoop
        self._is_stopping = False

    def start(self, port: int) -> None:
        """Listen on vsock port `port`, on the running loop. Raises OSError if it cannot be had."""
        self.serve(listen_vsock(port))

    def serve(self, listener: socket.socket) -> None:
        """Serve whoever connects to `listener`, which is closed by `stop`."""
        self._loop = asyncio.get_running_loop()
        self._news = self._loop.create_future()
        self._listener = listener
        self._loop.add_reader(listener, self._accept, listener)
        self._ring.on_write = self._written

    async def stop(self) -> None:
        """Stop listening; readers get half a second for the last records. Safe to call twice."""
        if self._listener is None:
            return
        self._loop.remove_reader(self._listener)
        self._listener.close()
        self._listener = None
        self._is_stopping = True
        self._ring.on_write = lambda: None
        self._tell()
        if self._readers:
            _, late = await asyncio.wait(self._readers, timeout=_LAST_WORDS_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _written(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._tell)
        except RuntimeError:  # the loop is closed: these are the agent's last words
            return

    def _tell(self) -> None:
        self._news.set_result(None)
        self._news = self._loop.create_future()

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, peer = listener.accept()
        except OSError as error:  # the peer was quicker to leave
            _log.info("a reader of the log did not come to be", extra={"error": error.strerror})
            return
        if connection.family == socket.AF_VSOCK and not is_from_host(peer):
            _log.warning("refused the log to CID %d: only the host gets it", peer[0])
            connection.close()
            return
        if len(self._readers) >= _MOST_READERS:
            connection.close()
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._serve(connection))
        self._readers.add(task)
        task.add_done_callback(self._readers.discard)

    async def _serve(self, connection: socket.socket) -> None:
        """Send until the reader leaves, or all has been sent and the agent stops."""
        with connection:
            sending = asyncio.create_task(self._send(connection))
            leaving = asyncio.create_task(_gone(connection))
            try:
                await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (sending, leaving):
                    task.cancel()
                await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send(self, connection: socket.socket) -> None:
        position = 0
        while True:
            news = self._news  # taken before the look: nothing that comes after it is missed
            chunk, position = self._ring.read(position)
            if chunk:
                await self._loop.sock_sendall(connection, chunk)
            elif self._is_stopping:
                return
            else:
                await asyncio.shield(news)


async def _gone(connection: socket.socket) -> None:
    """Wait until the peer has left; what it says is not for us."""
    loop = asyncio.get_running_loop()
    while await loop.sock_recv(connection, 4096):
        pass


def fall_back(ring: LogRing, stream: IO[str]) -> None:
    """Write all that `ring` has to `stream`, and what comes as it comes.

    For an agent whose port cannot be had: its log must not be lost.
    """
    position = 0

    def copy() -> None:
        nonlocal position
        chunk, position = ring.read(position)
        while chunk:
            stream.write(chunk.decode())
            chunk, position = ring.read(position)
        stream.flush()

    ring.on_write = copy
    copy()

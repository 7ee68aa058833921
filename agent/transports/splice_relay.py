"""A relay between two sockets that moves bytes inside the kernel: splice(2).

gRPC's library cannot listen on vsock, so its peers are carried to a unix socket of its own. Two
threads a connection, one each way, that sleep in the kernel: the event loop never sees the bytes.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable

# The capacity of a pipe, pipe(7): more cannot be under way at once.
_CHUNK_BYTES = 64 << 10


class SpliceRelay:
    """Relayed connections, at most `limit` at a time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._connections: set[_Connection] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def full(self) -> bool:
        """Whether `carry` would refuse another connection."""
        return len(self._connections) >= self._limit

    def carry(self, left: socket.socket, right: socket.socket) -> bool:
        """Relay between two connected sockets until both directions have ended, or one fails.

        Takes both over and closes them. The end of one direction is passed on as such (a half
        close); an error ends both. False, with both closed, if the relay is full.
        """
        connection = _Connection(left, right, self._forget)
        with self._lock:
            accepted = not self.full
            if accepted:
                self._connections.add(connection)
        if accepted:
            connection.start()
        else:
            connection.close()
        return accepted

    def abort(self) -> None:
        """End all connections as they are. The threads are gone a moment later: see `join`."""
        with self._lock:
            for connection in self._connections:
                connection.break_off()

    def join(self, timeout_s: float) -> bool:
        """Block until every connection has ended, at most `timeout_s`; whether they have."""
        end = time.monotonic() + timeout_s
        with self._lock:
            threads = [thread for connection in self._connections for thread in connection.threads]
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _forget(self, connection: _Connection) -> None:
        with self._lock:
            self._connections.discard(connection)


class _Connection:
    """One relayed connection. The thread that ends last closes the sockets: not before, because
    the other one may be using the descriptor's number."""

    def __init__(
        self, left: socket.socket, right: socket.socket, on_end: Callable[[_Connection], None]
    ) -> None:
        self._sockets = (left, right)
        self._on_end = on_end
        self._running = 2
        self._lock = threading.Lock()
        self.threads = [
            threading.Thread(target=self._run, args=pair, name="splice", daemon=True)
            for pair in ((left, right), (right, left))
        ]

    def start(self) -> None:
        for each in self._sockets:
            each.setblocking(True)
        for thread in self.threads:
            thread.start()

    def break_off(self) -> None:
        """Wake both threads with an end of stream. Harmless once they have ended."""
        for each in self._sockets:
            with contextlib.suppress(OSError):  # not connected any more, or closed
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for each in self._sockets:
            each.close()

    def _run(self, source: socket.socket, target: socket.socket) -> None:
        try:
            _splice_all(source, target)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            self.break_off()
        finally:
            with self._lock:
                self._running -= 1
                last = self._running == 0
            if last:
                self.close()
                self._on_end(self)


def _splice_all(source: socket.socket, target: socket.socket) -> None:
    """Move bytes from `source` to `target` until `source` ends. Raises OSError."""
    pipe_out, pipe_in = os.pipe2(os.O_CLOEXEC)
    try:
        while waiting := os.splice(source.fileno(), pipe_in, _CHUNK_BYTES):
            while waiting:
                waiting -= os.splice(pipe_out, target.fileno(), waiting)
    finally:
        os.close(pipe_out)
        os.close(pipe_in)

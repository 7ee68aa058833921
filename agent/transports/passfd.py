"""Connections that carry a process's streams (`agent.passfd_listener_port`).

A host of Kata 4 may connect a process's standard streams itself, instead of reading and writing them
by calls: it connects to this vsock port first, and then names the port of its own end of each
connection in CreateContainer or ExecProcess (kata-containers src/agent/src/passfd_io.rs).
"""

from __future__ import annotations

import asyncio
import logging
import socket

from agent.linux.vsock import is_from_host, listen_vsock

_log = logging.getLogger("agent.transports.passfd")

# How long a request waits for a connection that it names: the Rust agent looks four times in 0.3 s.
_PATIENCE_S = 0.3
# Connections that no request has asked for yet: beyond these, the oldest makes room.
_MOST_UNCLAIMED = 256


class PassfdListener:
    """Accepts the host's connections and keeps each until a request takes it."""

    def __init__(self) -> None:
        self._listener: socket.socket | None = None
        self._unclaimed: dict[int, socket.socket] = {}  # by the peer's port, in the order they came
        self._awaited: dict[int, asyncio.Future[None]] = {}

    def start(self, port: int) -> None:
        """Listen on vsock port `port`, on the running loop. Raises OSError if it cannot be had."""
        self._listener = listen_vsock(port)
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def stop(self) -> None:
        """Stop listening; close what nobody has taken. Safe to call twice."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for connection in self._unclaimed.values():
            connection.close()
        self._unclaimed.clear()

    async def take(self, port: int, patience_s: float = _PATIENCE_S) -> socket.socket | None:
        """The connection whose peer has `port`; the caller owns it. None for 0, or if it does not come."""
        if port == 0:
            return None
        if port not in self._unclaimed and port not in self._awaited:
            coming = self._awaited[port] = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait([coming], timeout=patience_s)
            finally:
                del self._awaited[port]
        connection = self._unclaimed.pop(port, None)
        if connection is None:
            _log.warning("no connection for a stream: it is left out", extra={"port": port})
        return connection

    def keep(self, port: int, connection: socket.socket) -> None:
        """Have `connection`, whose peer has `port`, wait for its request."""
        if port in self._unclaimed:
            self._unclaimed.pop(port).close()  # of a peer that has left: ports are used again
        elif len(self._unclaimed) >= _MOST_UNCLAIMED:
            self._unclaimed.pop(next(iter(self._unclaimed))).close()
        self._unclaimed[port] = connection
        coming = self._awaited.get(port)
        if coming is not None and not coming.done():
            coming.set_result(None)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, peer = listener.accept()
        except OSError as error:  # the peer was quicker to leave
            _log.info("a stream's connection did not come to be", extra={"error": error.strerror})
            return
        if not is_from_host(peer):
            _log.warning("refused a stream's connection from CID %d: only the host may connect", peer[0])
            connection.close()
            return
        connection.setblocking(False)
        self.keep(peer[1], connection)

"""The agent's one port, for both wires.

A ttrpc frame begins with a zero byte, an HTTP/2 connection with the text "PRI": the first byte of
a connection, looked at without taking it, tells who has come. ttrpc peers get a TtrpcConnection,
gRPC peers are relayed to grpc's own server, which is loaded for the first of them.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import socket
from typing import TYPE_CHECKING

from agent.linux.blocking import run_blocking
from agent.linux.heap import keep_freed_memory
from agent.linux.vsock import is_from_host
from agent.transports.dispatch import Dispatcher
from agent.transports.listen_address import (
    UnixAddress,
    open_listener,
    parse_listen_address,
    remove_socket_file,
)
from agent.transports.splice_relay import SpliceRelay
from agent.transports.ttrpc_server import TtrpcConnection

if TYPE_CHECKING:
    from agent.transports.grpc_server import GrpcServer

_log = logging.getLogger("agent.transports")

_HTTP2_FIRST_BYTE = b"P"

# Connections that have said nothing yet: beyond these, the oldest makes room. A peer speaks at
# once, so this many silent ones are not peers.
_MAX_SILENT = 128

# Then those that have been accepted get their turn.
_ACCEPT_AT_ONCE = 32

# When accepting fails for want of descriptors or memory, the next try waits this long, as in
# asyncio's own servers: the socket stays readable and would be tried again at once.
_ACCEPT_RETRY_S = 1.0

# What calls get to end by themselves before a stop cancels them: one of them may be the
# DestroySandbox that asked for it, and its answer is all but written.
_SETTLE_S = 0.05


class Listener:
    """Accepts the agent's peers and serves them until it is stopped."""

    def __init__(
        self,
        address: str,
        dispatcher: Dispatcher,
        *,
        grpc_socket_dir: str = "/run/kata-agent",
        max_grpc_connections: int = 128,
    ) -> None:
        """`address` as parse_listen_address takes it. Raises InvalidRequest."""
        self._address = parse_listen_address(address)
        self._dispatcher = dispatcher
        self._grpc_socket_dir = grpc_socket_dir
        self._relay = SpliceRelay(max_grpc_connections)
        self._grpc: asyncio.Task[GrpcServer] | None = None  # done when the server is up
        self._silent: dict[socket.socket, None] = {}  # in the order they came
        self._connections: set[TtrpcConnection] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._socket: socket.socket
        self._loop: asyncio.AbstractEventLoop

    async def start(self) -> None:
        """Listen. Raises KernelRefused if the address cannot be had."""
        self._loop = asyncio.get_running_loop()
        keep_freed_memory()
        self._socket = open_listener(self._address)
        self._loop.add_reader(self._socket, self._accept)

    async def stop(self, grace_s: float) -> None:
        """Accept no one else, cancel the calls that still wait, flush the answers, close.

        Returns within about `grace_s`; peers that have not taken their answers by then lose them.
        A second call does nothing more.
        """
        end = self._loop.time() + grace_s
        if self._socket.fileno() != -1:
            self._stop_accepting()
        for task in self._starting:
            task.cancel()
        if self._starting:
            await asyncio.wait(self._starting)
        serving: list[TtrpcConnection | GrpcServer] = list(self._connections)
        if self._grpc is not None:
            await asyncio.wait([self._grpc])
            if self._grpc.exception() is None:
                serving.append(self._grpc.result())
        settle_s = min(_SETTLE_S, grace_s)
        await asyncio.gather(*(each.drain_calls(settle_s) for each in serving))
        await asyncio.gather(*(each.stop(max(0.0, end - self._loop.time())) for each in serving))
        if not await run_blocking(self._relay.join, max(0.0, end - self._loop.time())):
            self._relay.abort()

    def _stop_accepting(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()
        if isinstance(self._address, UnixAddress) and not self._address.abstract:
            remove_socket_file(self._address.name)
        for peer in list(self._silent):
            self._drop_silent(peer)

    # From a connection that has come to one that is served.

    def _accept(self) -> None:
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                peer, address = self._socket.accept()
            except BlockingIOError:
                return
            except (ConnectionResetError, ConnectionAbortedError):
                continue  # it left before we came to it
            except OSError as error:
                _log.error("cannot accept connections for the moment: %s", error)
                self._loop.remove_reader(self._socket)
                self._loop.call_later(_ACCEPT_RETRY_S, self._accept_again)
                return
            if peer.family == socket.AF_VSOCK and not is_from_host(address):
                _log.warning("refusing a connection from CID %d: only the host may connect", address[0])
                peer.close()
                continue
            self._expect_first_byte(peer)

    def _accept_again(self) -> None:
        if self._socket.fileno() != -1:
            self._loop.add_reader(self._socket, self._accept)

    def _expect_first_byte(self, peer: socket.socket) -> None:
        peer.setblocking(False)
        if self._decide(peer):
            return
        if len(self._silent) >= _MAX_SILENT:
            self._drop_silent(next(iter(self._silent)))
        self._silent[peer] = None
        self._loop.add_reader(peer, self._end_silence, peer)

    def _end_silence(self, peer: socket.socket) -> None:
        self._loop.remove_reader(peer)
        del self._silent[peer]
        self._expect_first_byte(peer)

    def _drop_silent(self, peer: socket.socket) -> None:
        self._loop.remove_reader(peer)
        del self._silent[peer]
        peer.close()

    def _decide(self, peer: socket.socket) -> bool:
        """Hand `peer` over by its first byte; False if that has not come."""
        try:
            first = peer.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            first = b""
        if not first:
            peer.close()
            return True
        serve = self._serve_grpc if first == _HTTP2_FIRST_BYTE else self._serve_ttrpc
        task = self._loop.create_task(serve(peer))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return True

    async def _serve_ttrpc(self, peer: socket.socket) -> None:
        await self._loop.connect_accepted_socket(self._new_connection, peer)

    def _new_connection(self) -> TtrpcConnection:
        connection = TtrpcConnection(self._dispatcher, on_closed=self._connections.discard)
        self._connections.add(connection)
        return connection

    async def _serve_grpc(self, peer: socket.socket) -> None:
        try:
            if self._relay.full:
                raise ConnectionRefusedError("too many gRPC connections")
            server = await self._grpc_server()
            upstream = await server.connect()
        except (ImportError, OSError, RuntimeError) as error:
            _log.error("cannot serve a gRPC peer: %s", error)
            peer.close()
        except asyncio.CancelledError:
            peer.close()
            raise
        else:
            self._relay.carry(peer, upstream)

    async def _grpc_server(self) -> GrpcServer:
        """The server, started for the first who asks; after a failure the next one tries again."""
        if self._grpc is None or (self._grpc.done() and self._grpc.exception() is not None):
            self._grpc = self._loop.create_task(self._start_grpc())
        return await asyncio.shield(self._grpc)

    async def _start_grpc(self) -> GrpcServer:
        # In a thread: ttrpc peers go on being served meanwhile.
        module = await run_blocking(importlib.import_module, "agent.transports.grpc_server")
        server: GrpcServer = module.GrpcServer(self._dispatcher, self._grpc_socket_dir)
        await server.start()
        return server

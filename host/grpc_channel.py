"""gRPC from the host's side, over any connected socket.

grpc's library opens its own connections and knows neither vsock nor the handshake of hybrid
vsock. So it connects to a socket file of ours, in a directory nobody else may enter, and the one
connection that it opens there is carried to the agent's.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
from pathlib import Path

import grpc
import grpc.aio

from host.channel import UNAVAILABLE, AgentCallError

_OPTIONS = (
    # An answer has up to 4 MiB, and the message around it.
    ("grpc.max_receive_message_length", (4 << 20) + 1024),
    ("grpc.enable_http_proxy", 0),
)

_CHUNK_BYTES = 256 << 10


class GrpcChannel:
    """One connection to an agent of Kata 1.x; see `Channel`. Made by `over`."""

    def __init__(self, target: str, peer_name: str) -> None:
        self._peer_name = peer_name
        self._closing = False
        self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        self._carrier: asyncio.Task[None] | None = None

    @classmethod
    async def over(cls, connection: socket.socket, peer_name: str) -> GrpcChannel:
        """A channel on a connected socket, which it owns from then on.

        Returns when the agent has answered in HTTP/2; raises ConnectionError if it does not but
        goes. Cancel it to stop waiting.
        """
        directory = Path(tempfile.mkdtemp(prefix="pykata-grpc-"))
        channel: GrpcChannel | None = None
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as listener:
                listener.bind(str(directory / "s"))
                listener.listen(1)
                channel = cls(f"unix:{directory}/s", peer_name)
                channel._channel.get_state(try_to_connect=True)
                inner, _ = await asyncio.get_running_loop().sock_accept(listener)
            channel._carrier = asyncio.create_task(_carry(inner, connection))
            await channel._ready(channel._carrier)
        except BaseException:
            connection.close()
            if channel is not None:
                await channel.close()
            raise
        finally:
            shutil.rmtree(directory)
        return channel

    async def call(self, service: str, method: str, payload: bytes, timeout_s: float | None) -> bytes:
        try:
            answer: bytes = await self._channel.unary_unary(f"/{service}/{method}")(
                payload, timeout=timeout_s
            )
        except grpc.aio.AioRpcError as error:
            code = error.code().value[0]
            if code == UNAVAILABLE:
                raise self._gone(error.details()) from None
            raise AgentCallError(code, error.details()) from None
        except (asyncio.CancelledError, grpc.aio.UsageError):
            if not self._closing:
                raise
            raise ConnectionError(f"the connection to {self._peer_name} has been closed") from None
        return answer

    async def close(self) -> None:
        self._closing = True
        await self._channel.close()
        if self._carrier is not None:
            self._carrier.cancel()
            await asyncio.wait([self._carrier])

    async def _ready(self, carrier: asyncio.Task[None]) -> None:
        """Wait until the agent has answered in HTTP/2. Raises ConnectionError."""
        ready = asyncio.ensure_future(self._channel.channel_ready())
        try:
            await asyncio.wait([ready, carrier], return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                raise self._gone("it does not speak gRPC")
        finally:
            ready.cancel()

    def _gone(self, why: str) -> ConnectionError:
        return ConnectionError(f"the agent at {self._peer_name} has closed the connection: {why}")


async def _carry(left: socket.socket, right: socket.socket) -> None:
    """Relay between two sockets until both directions have ended or one fails; close both."""
    with left, right:
        left.setblocking(False)
        directions = [asyncio.create_task(_pump(left, right)), asyncio.create_task(_pump(right, left))]
        try:
            await asyncio.gather(*directions)
        except OSError:
            pass  # closing both tells either side
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.wait(directions)


async def _pump(source: socket.socket, target: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, _CHUNK_BYTES):
        await loop.sock_sendall(target, data)
    target.shutdown(socket.SHUT_WR)

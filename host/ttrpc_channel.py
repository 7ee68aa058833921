"""ttrpc from the host's side: many calls at once on one connection."""

from __future__ import annotations

import asyncio
import itertools
import socket

from agent.transports.ttrpc_frames import (
    MAX_PAYLOAD_BYTES,
    RESPONSE,
    Frame,
    FrameDecoder,
    FrameError,
    Request,
    Response,
    decode_response,
    encode_request,
)
from host.channel import DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, AgentCallError


class TtrpcChannel(asyncio.BufferedProtocol):
    """One connection to an agent of Kata 2 to 4; see `Channel`. Made by `over`."""

    def __init__(self, peer_name: str) -> None:
        self._peer_name = peer_name
        self._decoder = FrameDecoder()
        self._stream_ids = itertools.count(1, 2)
        self._waiting: dict[int, asyncio.Future[Response]] = {}  # by stream id
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost: ConnectionError | None = None  # why, once it is
        self._closed = asyncio.Event()
        self._transport: asyncio.Transport

    @classmethod
    async def over(cls, connection: socket.socket, peer_name: str) -> TtrpcChannel:
        """A channel on a connected socket, which it owns from then on."""
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_connection(lambda: cls(peer_name), sock=connection)
        return channel

    async def call(self, service: str, method: str, payload: bytes, timeout_s: float | None) -> bytes:
        timeout_ns = 0 if timeout_s is None else int(timeout_s * 1e9) or 1
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._exchange(Request(service, method, payload, timeout_ns))
        except TimeoutError:
            raise AgentCallError(
                DEADLINE_EXCEEDED, f"{method} had no answer within {timeout_s:g} s"
            ) from None
        except FrameError as error:
            raise AgentCallError(RESOURCE_EXHAUSTED, f"{method}: {error}") from None
        if response.code:
            raise AgentCallError(response.code, response.message)
        return response.payload

    async def close(self) -> None:
        self._lost = self._lost or ConnectionError(f"the connection to {self._peer_name} has been closed")
        self._transport.close()
        await self._closed.wait()

    async def _exchange(self, request: Request) -> Response:
        while not self._writable.is_set():
            await self._writable.wait()
        if self._lost is not None:
            raise ConnectionError(*self._lost.args)
        stream_id = next(self._stream_ids)
        self._transport.writelines(encode_request(stream_id, request))
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._waiting[stream_id] = answer
        try:
            return await answer
        finally:
            del self._waiting[stream_id]  # an answer that comes now finds nobody

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=MAX_PAYLOAD_BYTES)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._decoder.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            for frame in self._decoder.received(nbytes):
                self._receive(frame)
        except FrameError as error:
            self._lost = ConnectionError(f"{self._peer_name} does not speak ttrpc: {error}")
            self._transport.abort()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lost is None:
            reason = f": {exc}" if exc else ""
            self._lost = ConnectionError(f"the agent at {self._peer_name} has closed the connection{reason}")
        for answer in self._waiting.values():
            if not answer.done():
                # One error for each caller: each adds its own traceback.
                answer.set_exception(ConnectionError(*self._lost.args))
        self._writable.set()
        self._closed.set()

    def _receive(self, frame: Frame) -> None:
        answer = self._waiting.get(frame.stream_id)
        if frame.type != RESPONSE or answer is None or answer.done():
            return
        if frame.payload is None:
            raise FrameError(f"an answer of {frame.size_bytes} bytes")
        answer.set_result(decode_response(frame.payload))

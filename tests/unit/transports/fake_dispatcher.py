"""A service for the transports to serve, and a ttrpc peer that can say anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from agent.errors import Generation, Unsupported
from agent.transports.listener import Listener
from agent.transports.ttrpc_frames import (
    Frame,
    FrameDecoder,
    Request,
    Response,
    decode_response,
    encode_request,
)

Handler = Callable[[bytes], Awaitable[bytes]]


@dataclass
class FakeDispatcher:
    """Answers with the handler that the test has put under the method's name.

    Without one: `Echo` returns the request, `Block` waits until it is cancelled.
    """

    handlers: dict[str, Handler] = field(default_factory=dict)
    calls: list[tuple[Generation, str, str, bytes, Mapping[str, str]]] = field(default_factory=list)
    blocked: int = 0
    cancelled: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(
        self, generation: Generation, service: str, method: str, payload: bytes, metadata: Mapping[str, str]
    ) -> bytes:
        self.calls.append((generation, service, method, payload, metadata))
        self.changed.set()
        if handler := self.handlers.get(method):
            return await handler(payload)
        if method == "Echo":
            return payload
        if method == "Block":
            return await self.block()
        raise Unsupported(f"no method {method}")

    async def until(self, condition: Callable[[FakeDispatcher], bool]) -> None:
        """Wait until `condition` holds of this dispatcher."""
        async with asyncio.timeout(10):
            while not condition(self):
                self.changed.clear()
                await self.changed.wait()

    async def block(self) -> bytes:
        """What `Block` does, for handlers under other names."""
        self.blocked += 1
        self.changed.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled += 1
            self.changed.set()
            raise
        raise AssertionError("nothing ever ends this wait")


class RawPeer:
    """A ttrpc peer made of bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._decoder = FrameDecoder()
        self._frames: list[Frame] = []

    @classmethod
    async def open(cls, path: Path) -> Self:
        return cls(*await asyncio.open_unix_connection(path))

    def send(self, stream_id: int, method: str, payload: bytes = b"", *, timeout_ns: int = 0) -> None:
        request = Request("test.Service", method, payload, timeout_ns)
        self.writer.write(b"".join(encode_request(stream_id, request)))

    async def frame(self) -> Frame:
        """The next frame; raises EOFError at the end."""
        async with asyncio.timeout(10):
            while not self._frames:
                buffer = self._decoder.get_buffer()
                data = await self.reader.read(len(buffer))
                if not data:
                    raise EOFError
                buffer[: len(data)] = data
                self._frames += self._decoder.received(len(data))
        return self._frames.pop(0)

    async def answer(self) -> tuple[int, Response]:
        """The next answer and its stream id."""
        frame = await self.frame()
        assert frame.payload is not None
        return frame.stream_id, decode_response(frame.payload)

    async def call(self, stream_id: int, method: str, payload: bytes = b"") -> Response:
        self.send(stream_id, method, payload)
        answered, response = await self.answer()
        assert answered == stream_id
        return response

    async def at_end(self) -> bool:
        """Whether the connection ends with no further frame."""
        try:
            await self.frame()
        except (EOFError, ConnectionResetError):
            return True
        return False

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


@asynccontextmanager
async def serving(
    dispatcher: FakeDispatcher, directory: Path, *, max_grpc_connections: int = 8
) -> AsyncIterator[Listener]:
    """A listener on `directory`/agent.sock, stopped at the end."""
    listener = Listener(
        f"unix://{directory}/agent.sock",
        dispatcher,
        grpc_socket_dir=str(directory / "grpc"),
        max_grpc_connections=max_grpc_connections,
    )
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop(5)

"""ttrpc, the wire of Kata 2 to 4: one connection of it, answered by a Dispatcher.

Every request runs in a task of its own and is answered when it is done, in whatever order: a
ReadStdout that waits for hours delays nobody. What goes wrong with one request is answered on its
stream; only bytes that are not ttrpc end the connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from agent.errors import Generation, Status, StatusCode
from agent.transports.dispatch import STOPPING, Dispatcher, answer
from agent.transports.frame_writer import FrameWriter
from agent.transports.ttrpc_frames import (
    MAX_PAYLOAD_BYTES,
    REQUEST,
    Frame,
    FrameDecoder,
    FrameError,
    Request,
    Response,
    decode_request,
    encode_response,
)

_log = logging.getLogger("agent.transports.ttrpc")

# Code and text of ttrpc-rust's server.
_TIMEOUT = Status(StatusCode.DEADLINE_EXCEEDED, "timeout")

# How many stream ids a client may have left open below its highest: see StreamIds.
_GAP = 2048


class StreamIds:
    """Which stream ids a client has used.

    A client counts 1, 3, 5, … but one that sends from several threads may send 5 before 3
    (ttrpc-rust takes the number first and queues the frame afterwards); so what is refused is a
    number that came before, not one that is lower than the last.
    """

    def __init__(self) -> None:
        self._highest = -1
        self._passed_over: set[int] = set()

    def admit(self, stream_id: int) -> str:
        """Take note of `stream_id`; an empty text, or why it cannot be used."""
        if stream_id % 2 == 0:
            return f"stream id {stream_id} is even: a client's are odd"
        if stream_id > self._highest:
            first = max(self._highest + 2, stream_id - 2 * _GAP)
            self._passed_over.update(range(first, stream_id, 2))
            self._highest = stream_id
            if len(self._passed_over) > _GAP:
                self._passed_over = {each for each in self._passed_over if each >= stream_id - 2 * _GAP}
        elif stream_id in self._passed_over:
            self._passed_over.remove(stream_id)
        else:
            return f"stream id {stream_id} has been used before"
        return ""


class TtrpcConnection(asyncio.BufferedProtocol):
    """Serves one peer. Made by the listener for each ttrpc connection it accepts."""

    def __init__(self, dispatcher: Dispatcher, *, on_closed: Callable[[TtrpcConnection], None]) -> None:
        """`on_closed` is called once, when the connection is gone and its calls are cancelled."""
        self._dispatcher = dispatcher
        self._on_closed = on_closed
        self._decoder = FrameDecoder()
        self._stream_ids = StreamIds()
        self._waiting: dict[int, asyncio.Task[None]] = {}  # by stream id: calls not yet answered
        self._tasks: set[asyncio.Task[None]] = set()  # these, and those that are still unwinding
        self._closed = asyncio.Event()
        self._transport: asyncio.Transport
        self._outgoing: FrameWriter

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._outgoing = FrameWriter(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._decoder.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            for frame in self._decoder.received(nbytes):
                if frame.type == REQUEST:
                    self._receive(frame)
                # Anything else belongs to streams, which this API does not have: ignored, as the
                # original servers do.
        except FrameError as error:
            _log.warning("closing a connection: %s", error)
            self._outgoing.close()

    def eof_received(self) -> None:
        """The peer has said its last word and gone: asyncio closes the transport."""
        if not self._decoder.between_frames:
            _log.warning("a connection ended in the middle of a frame")

    def pause_writing(self) -> None:
        self._outgoing.pause()

    def resume_writing(self) -> None:
        self._outgoing.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()
        self._closed.set()
        self._on_closed(self)

    # A call's life.

    def _receive(self, frame: Frame) -> None:
        refusal = self._stream_ids.admit(frame.stream_id)
        if refusal:
            self._refuse(frame, StatusCode.INVALID_ARGUMENT, refusal)
        elif frame.payload is None:
            reason = (
                f"the request has {frame.size_bytes} bytes, more than the {MAX_PAYLOAD_BYTES} of one message"
            )
            self._refuse(frame, StatusCode.RESOURCE_EXHAUSTED, reason)
        else:
            try:
                request = decode_request(frame.payload)
            except FrameError as error:
                self._refuse(frame, StatusCode.INVALID_ARGUMENT, f"the request cannot be decoded: {error}")
            else:
                self._start(frame.stream_id, request)

    def _start(self, stream_id: int, request: Request) -> None:
        if request.timeout_ns < 0:
            self._write(stream_id, _TIMEOUT)
            return
        task = asyncio.get_running_loop().create_task(self._run(stream_id, request))
        self._waiting[stream_id] = task
        self._tasks.add(task)

    async def _run(self, stream_id: int, request: Request) -> None:
        timer = None
        if request.timeout_ns:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(request.timeout_ns / 1e9, self._settle_early, stream_id, _TIMEOUT)
        task = self._waiting[stream_id]
        try:
            result = await answer(
                self._dispatcher,
                Generation.KATA2,
                service=request.service,
                method=request.method,
                payload=request.payload,
                metadata=request.metadata,
            )
            await self._outgoing.room()
            if self._waiting.pop(stream_id, None):
                self._write(stream_id, result)
        finally:
            # Not in callbacks of the task's: they would cost another turn of the loop.
            if timer is not None:
                timer.cancel()
            self._tasks.discard(task)

    def _settle_early(self, stream_id: int, status: Status) -> None:
        """Answer a call that is not done with `status`, and cancel it.

        The answer does not wait for the call to unwind: undoing a mount may take its time.
        """
        task = self._waiting.pop(stream_id, None)
        if task is not None:
            self._write(stream_id, status)
            task.cancel()

    def _refuse(self, frame: Frame, code: StatusCode, reason: str) -> None:
        _log.warning("refusing a request: %s", reason)
        self._write(frame.stream_id, Status(code, reason))

    def _write(self, stream_id: int, result: bytes | Status) -> None:
        if isinstance(result, Status):
            response = Response(result.code, result.message)
        else:
            response = Response(payload=result)
        self._outgoing.write(encode_response(stream_id, response))

    # The end.

    async def drain_calls(self, timeout_s: float) -> None:
        """Wait until all calls that run now are done, at most `timeout_s`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    async def stop(self, timeout_s: float) -> None:
        """Cancel what has not been answered, with an answer that says so; flush, and close.

        A peer that takes its answers for longer than `timeout_s` loses them.
        """
        for stream_id in list(self._waiting):
            self._settle_early(stream_id, STOPPING)
        self._outgoing.close()
        try:
            await asyncio.wait_for(self._closed.wait(), timeout_s)
        except TimeoutError:
            self._transport.abort()
            await self._closed.wait()

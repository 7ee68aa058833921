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


class TtrpcConnection(asyncio.Protocol):
    """Serves one peer. Made by the listener for each ttrpc connection it accepts."""

    def __init__(self, dispatcher: Dispatcher, *, on_closed: Callable[[TtrpcConnection], None]) -> None:
        """`on_closed` is called once, when the connection is gone and its calls are cancelled."""
        self._dispatcher = dispatcher
        self._on_closed = on_closed
        self._decoder = FrameDecoder()
        self._stream_ids = StreamIds()
        self._waiting: dict[int, asyncio.Task[None]] = {}  # by stream id: calls not yet answered
        self._tasks: set[asyncio.Task[None]] = set()  # these, and those that are still unwinding
        self._writable = asyncio.Event()
        self._writable.set()
        self._closed = asyncio.Event()
        self._transport: asyncio.Transport

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        # One answer of any size may lie in the buffer before a peer counts as one that does not read.
        transport.set_write_buffer_limits(high=MAX_PAYLOAD_BYTES)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                if frame.type == REQUEST:
                    self._receive(frame)
                # Anything else belongs to streams, which this API does not have: ignored, as the
                # original servers do.
        except FrameError as error:
            _log.warning("closing a connection: %s", error)
            self._transport.close()

    def eof_received(self) -> None:
        """The peer has said its last word and gone: asyncio closes the transport."""
        if not self._decoder.between_frames:
            _log.warning("a connection ended in the middle of a frame")

    def pause_writing(self) -> None:
        """The peer does not read its answers: take no more requests from it until it does."""
        self._writable.clear()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._writable.set()
        self._transport.resume_reading()

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
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._run(stream_id, request), name=request.method)
        self._waiting[stream_id] = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if request.timeout_ns:
            timer = loop.call_later(request.timeout_ns / 1e9, self._settle_early, stream_id, _TIMEOUT)
            task.add_done_callback(lambda _: timer.cancel())

    async def _run(self, stream_id: int, request: Request) -> None:
        result = await answer(
            self._dispatcher,
            Generation.KATA2,
            request.service,
            request.method,
            request.payload,
            request.metadata,
        )
        while not self._writable.is_set():
            await self._writable.wait()
        if self._waiting.pop(stream_id, None):
            self._write(stream_id, result)

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
        self._transport.writelines(encode_response(stream_id, response))

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
        self._transport.close()
        try:
            await asyncio.wait_for(self._closed.wait(), timeout_s)
        except TimeoutError:
            self._transport.abort()
            await self._closed.wait()

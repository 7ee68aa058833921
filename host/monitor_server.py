"""One client's connection to a monitor: its request, and what goes to and fro until the answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import traceback
from typing import TYPE_CHECKING, Any

from host.errors import HostError
from host.exit_status import failure_of
from host.monitor_protocol import (
    Attach,
    Detach,
    Done,
    Execute,
    Exited,
    Failed,
    FollowLog,
    FrameKind,
    InputTaken,
    Kill,
    Message,
    ProtocolError,
    Resize,
    Signal,
    Started,
    Stop,
    Wait,
    decode_message,
    encode,
    encode_message,
    read_frame,
)
from host.process_io import GONE, ProcessIo

if TYPE_CHECKING:
    from host.monitor import Monitor

logger = logging.getLogger("host.monitor.client")


class Session:
    """A connection, from its request to its closing message."""

    def __init__(
        self,
        monitor: Monitor,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        is_first: bool = False,
    ) -> None:
        self._monitor = monitor
        self._reader = reader
        self._writer = writer
        self._is_first = is_first
        self._input: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Answer the client's one request; an error becomes its closing message."""
        try:
            closing = await self._answer()
        except (HostError, *GONE) as error:
            closing = Failed(*failure_of(error), trace=traceback.format_exc())
        except Exception as error:  # one client's trouble must not end the sandbox
            logger.exception("a client's request failed in an unforeseen way")
            closing = Failed(
                f"the monitor failed: {type(error).__name__}: {error}", trace=traceback.format_exc()
            )
        self._monitor.followers.discard(self)
        if closing is not None:
            await self._send(encode_message(closing))
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def tell(self, message: Message) -> None:
        """Send a small message without waiting for the client to take it."""
        if not self._writer.is_closing():
            self._writer.write(encode_message(message))

    async def send_output(self, stream: FrameKind, data: bytes) -> None:
        """Send output and wait until the client has room for more; one that has left is dropped."""
        if not await self._send(encode(stream, data)):
            self._monitor.followers.discard(self)

    async def write(self, stream: FrameKind, data: bytes) -> None:
        """The output of a command that this connection alone is about (process_io.OutputSink)."""
        await self._send(encode(stream, data))

    async def _send(self, frame: bytes) -> bool:
        try:
            self._writer.write(frame)
            await self._writer.drain()
        except ConnectionError:
            return False
        return True

    async def _answer(self) -> Message | None:
        """Carry out the request; None if there is nobody left to be told."""
        frame = await read_frame(self._reader)
        if frame is None:
            if self._is_first:
                self._monitor.abandon()
            return None
        match decode_message(frame.payload):
            case Attach() as request:
                return await self._attach(request)
            case Execute() as request:
                return await self._execute(request)
            case FollowLog():
                async for record in self._monitor.log.follow():
                    if not await self._send(encode(record.stream, record.data)):
                        return None
                return await self._monitor.outcome
            case Wait():
                return await self._monitor.outcome
            case Stop(grace_s=grace_s):
                await self._monitor.stop(grace_s)
                return Done()
            case Kill(signum=signum):
                await self._monitor.signal(signum)
                return Done()
            case other:
                raise ProtocolError(f"{type(other).__name__} is not a request")

    async def _attach(self, request: Attach) -> Message | None:
        if request.streams or self._is_first:
            self._monitor.followers.add(self)
        self._monitor.begin()
        client = asyncio.create_task(self._serve_client(None))
        await _first_of(client, self._monitor.outcome)
        if self._monitor.outcome.done():
            await _cancelled(client)
            return self._monitor.outcome.result()
        self._monitor.followers.discard(self)
        if client.result() is None and request.lifeline:
            self._monitor.abandon()
        return client.result()

    async def _execute(self, request: Execute) -> Message | None:
        container = self._monitor.life.container
        if container is None:
            raise HostError(
                f"sandbox {self._monitor.sandbox.id} has no running container", "see `pykata ps -a`"
            )
        process = await container.execute(request)
        if request.detach:
            container.leave(process)
            return Done()
        self.tell(Started())
        running = asyncio.create_task(process.run(self))
        client = asyncio.create_task(self._serve_client(process))
        await _first_of(running, client)
        if running.done():
            await _cancelled(client)
            return Exited(running.result())
        if client.result() is None:  # it vanished: a command without anyone to read it ends too
            with contextlib.suppress(*GONE):
                await process.signal(signal.SIGKILL)
        await _cancelled(running)
        container.leave(process)
        return client.result()

    async def _serve_client(self, process: ProcessIo | None) -> Message | None:
        """Take what the client sends until it detaches (Done) or vanishes (None).

        `process` None stands for the container's own, which may not exist yet.
        """
        try:
            while frame := await read_frame(self._reader):
                target = process or self._init()
                if frame.kind is FrameKind.STDIN:
                    self._input = asyncio.create_task(self._take_input(target, frame.payload))
                    continue
                match decode_message(frame.payload):
                    case Detach():
                        return Done()
                    case Resize(window=window) if target:
                        await target.resize(window)
                    case Signal(signum=signum):
                        await self._signal(process, signum)
                    case other:
                        logger.debug("a client sent %s, which means nothing now", other)
            return None
        finally:
            if self._input:
                await _cancelled(self._input)

    def _init(self) -> ProcessIo | None:
        container = self._monitor.life.container
        return container.init if container else None

    async def _signal(self, process: ProcessIo | None, signum: int) -> None:
        with contextlib.suppress(*GONE, HostError):  # it may have ended, or not begun
            if process:
                await process.signal(signum)
            else:
                await self._monitor.signal(signum)

    async def _take_input(self, target: ProcessIo | None, data: bytes) -> None:
        """Pass one piece of input on, then ask for the next; no data is the end of it."""
        wants_more = False
        if target and data:
            wants_more = await target.write_input(data)
        elif target:
            await target.close_input()
        self.tell(InputTaken(closed=not wants_more))


async def _first_of(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

"""A command in the foreground: the user's terminal or pipes on one side, a monitor on the other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from dataclasses import dataclass

from host.errors import HostError
from host.monitor_client import Connection
from host.monitor_protocol import (
    INPUT_PIECE,
    Detach,
    Done,
    Exited,
    Frame,
    FrameKind,
    InputTaken,
    Progress,
    Request,
    Resize,
    Signal,
    Started,
)
from host.progress import StepDisplay
from host.terminal import DetachKeys, raw_mode, window_of

STDIN, STDOUT, STDERR = 0, 1, 2
# After a Ctrl-C the command has this long to end by itself; a second Ctrl-C does not wait.
INTERRUPT_GRACE_S = 10.0


class Interrupted(HostError):
    """The user gave up before the command ran."""

    def __init__(self, signum: int) -> None:
        super().__init__("interrupted")
        self.status = 128 + signum


class OutputClosed(HostError):
    """Whoever read our output does so no more (`| head`)."""

    status = 128 + signal.SIGPIPE


@dataclass(frozen=True, slots=True)
class Streams:
    """Which of the user's streams take part."""

    interactive: bool = False  # pass standard input on
    tty: bool = False  # the command has a terminal: raw mode, window size


class Foreground:
    """Runs one request whose streams are the user's own."""

    def __init__(self, connection: Connection, streams: Streams, display: StepDisplay) -> None:
        self._connection = connection
        self._streams = streams
        self._display = display
        self._room = asyncio.Event()  # the monitor wants a piece of input
        self._started = asyncio.Event()
        self._gave_up: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._kill_timer: asyncio.TimerHandle | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._leave_when_started = False
        self.left = False  # by detaching: the command goes on

    async def run(self, request: Request, *, leave_when_started: bool = False) -> int:
        """Carry streams and signals to and fro until the command ends; returns its exit status.

        With `leave_when_started` detach as soon as it runs and return 0. Raises Interrupted,
        OutputClosed, RequestFailed or MonitorGone.
        """
        self._leave_when_started = leave_when_started
        loop = asyncio.get_running_loop()
        watched = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
        for signum in watched:
            loop.add_signal_handler(signum, self._on_signal, signum)
        await self._connection.send(request)
        with contextlib.ExitStack() as stack:
            stack.callback(self._display.done)
            tasks = [asyncio.create_task(self._receive()), asyncio.create_task(self._type(stack))]
            ends: list[asyncio.Future[int]] = [self._gave_up, *tasks]
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                return next(end.result() for end in ends if end.done())
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                for signum in watched:
                    loop.remove_signal_handler(signum)

    async def _receive(self) -> int:
        while True:
            match await self._connection.receive():
                case Frame(kind=kind, payload=data):
                    fd = STDOUT if kind is FrameKind.STDOUT else STDERR
                    await write_all(fd, data)
                case Progress(step=text):
                    self._display.step(text)
                case Started():
                    self._display.done()
                    self._started.set()
                    self._room.set()
                    if self._leave_when_started:
                        await self._leave()
                        return 0
                case InputTaken(closed=closed):
                    if not closed:
                        self._room.set()
                case Exited(status=status):
                    return status
                case Done():
                    return 0

    async def _type(self, stack: contextlib.ExitStack) -> int:
        """Pass standard input on, one piece at a time; returns only if the user detaches."""
        await self._started.wait()
        if self._streams.tty:
            stack.enter_context(raw_mode(STDIN))
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGWINCH, self._on_resize)
            stack.callback(loop.remove_signal_handler, signal.SIGWINCH)
            self._on_resize()  # it may have changed while the VM booted
        keys = DetachKeys()
        while self._streams.interactive:
            await self._room.wait()
            data = await read_piece(STDIN)
            passed, detach = keys.filter(data) if self._streams.tty else (data, False)
            if passed or not data:
                self._room.clear()
                await self._connection.send_input(passed)
            if detach:
                await self._leave()
                return 0
            if not data:
                break
        forever: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        return await forever

    async def _leave(self) -> None:
        await self._connection.send(Detach())
        self.left = True

    def _on_resize(self) -> None:
        if window := window_of(STDIN):
            self._send(Resize(window))

    def _on_signal(self, signum: int) -> None:
        """Before the command runs: give up. Then: pass it on, and insist."""
        if not self._started.is_set():
            if not self._gave_up.done():
                self._gave_up.set_exception(Interrupted(signum))
        elif self._kill_timer:
            self._send(Signal(signal.SIGKILL))
        else:
            self._send(Signal(signum))
            kill = Signal(signal.SIGKILL)
            self._kill_timer = asyncio.get_running_loop().call_later(INTERRUPT_GRACE_S, self._send, kill)

    def _send(self, message: Resize | Signal) -> None:
        task = asyncio.create_task(self._connection.send(message))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)


async def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`, waiting for whoever reads; raises OutputClosed if nobody does any more.

    `fd` stays in blocking mode, which it shares with other processes, yet the loop is never blocked:
    a pipe that is ready takes PIPE_BUF bytes at once (pipe(7)).
    """
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    view = memoryview(data)
    try:
        while view:
            if not poll.poll(0):
                await _writable(fd)
            view = view[os.write(fd, view[: select.PIPE_BUF]) :]
    except BrokenPipeError as error:
        raise OutputClosed("nobody reads the output any more") from error


async def _writable(fd: int) -> None:
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_writer(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(fd)


async def read_piece(fd: int) -> bytes:
    """What `fd` has to read now, waiting until there is something; empty at the end."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(fd, ready.set)
    except PermissionError:  # a regular file or /dev/null: epoll refuses what is always ready
        return os.read(fd, INPUT_PIECE)
    try:
        await ready.wait()
        return os.read(fd, INPUT_PIECE)
    except OSError:  # the terminal has been hung up
        return b""
    finally:
        loop.remove_reader(fd)

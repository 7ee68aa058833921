"""A run that a test plays itself, so that the monitor around it can be tried without a VM."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from host.channel import AgentCallError
from host.monitor import Monitor
from host.monitor_client import Connection
from host.monitor_protocol import Execute, Frame, FrameKind, Message, Request
from host.process_io import OutputSink
from host.run_options import RunOptions, WindowSize
from host.state import Sandbox, SandboxStore

OPTIONS = RunOptions("/srv/root", ("sh",))
Life = Callable[["FakeRun", OutputSink], Awaitable[int]]


@dataclass
class FakeProcess:
    """What the monitor drives as if it were in a guest."""

    ended: asyncio.Event = field(default_factory=asyncio.Event)
    typed: bytearray = field(default_factory=bytearray)
    signals: list[int] = field(default_factory=list)
    windows: list[WindowSize] = field(default_factory=list)
    output: bytes = b""
    stubborn: bool = False  # does not end on SIGTERM

    async def run(self, sink: OutputSink) -> int:
        await sink.write(FrameKind.STDOUT, self.output)
        await self.ended.wait()
        return 128 + self.signals[-1] if self.signals else 0

    async def write_input(self, data: bytes) -> bool:
        self.typed += data
        return True

    async def close_input(self) -> None:
        self.typed += b"<end>"

    async def resize(self, window: WindowSize) -> None:
        self.windows.append(window)

    async def signal(self, signum: int) -> None:
        self.signals.append(signum)
        if signum == signal.SIGKILL or not self.stubborn:
            self.ended.set()


class FakeContainer:
    """A running container with one more command in it."""

    def __init__(self) -> None:
        self.init = FakeProcess()
        self.added = FakeProcess(output=b"added")
        self.left: list[object] = []

    async def execute(self, request: Execute) -> FakeProcess:
        if request.command == ("missing",):
            raise AgentCallError(13, "exit status 127: executable not found")
        return self.added

    def leave(self, process: object) -> None:
        self.left.append(process)

    async def kill_all(self) -> None:
        await self.init.signal(signal.SIGKILL)


class FakeRun:
    """A run whose life is one function of the test's."""

    life: Life

    def __init__(self, sandbox: Sandbox, options: RunOptions, observer: Monitor) -> None:
        self.sandbox = sandbox
        self.observer = observer
        self.container: FakeContainer | None = None
        self.undone = False

    async def run(self, sink: OutputSink) -> int:
        try:
            return await FakeRun.life(self, sink)
        finally:
            self.undone = True

    async def ordinary(self, sink: OutputSink) -> int:
        """Start, run until something ends the command, and return its status."""
        self.observer.step("Booting")
        self.container = FakeContainer()
        self.container.init.output = b"hello"
        self.observer.container_started()
        status = await self.container.init.run(sink)
        self.container = None
        return status


@dataclass
class Running:
    """A monitor that runs in the test's own loop, and the socket of its first client."""

    store: SandboxStore
    sandbox: Sandbox
    monitor: Monitor
    task: asyncio.Task[None]
    socket: socket.socket
    connections: list[Connection] = field(default_factory=list)

    @property
    def container(self) -> FakeContainer:
        container = self.monitor.life.container
        assert isinstance(container, FakeContainer)
        return container

    async def first(self, request: Request | None) -> Connection:
        """Become the first client."""
        connection = await Connection.of_socket(self.socket)
        self.connections.append(connection)
        if request:
            await connection.send(request)
        return connection

    async def join(self, request: Request) -> Connection:
        """Become a further client."""
        connection = await Connection.open(self.sandbox)
        self.connections.append(connection)
        await connection.send(request)
        return connection

    async def ended(self) -> None:
        """Wait for the monitor's own end."""
        await asyncio.wait_for(self.task, 20)


async def until(connection: Connection, kind: type[Message]) -> list[Frame | Message]:
    """Everything up to a message of `kind`."""
    seen: list[Frame | Message] = []
    while not seen or not isinstance(seen[-1], kind):
        seen.append(await asyncio.wait_for(connection.receive(), 20))
    return seen

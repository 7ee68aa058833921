"""A monitor that a test plays itself, and the real command line as its client."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

from host.monitor_protocol import (
    Frame,
    FrameKind,
    Message,
    decode_message,
    encode,
    encode_message,
    read_frame,
)
from host.run_options import RunOptions
from host.state import Phase, SandboxStore

COMMAND = [sys.executable, "-c", "from host.cli import main; main()"]


@dataclass
class Peer:
    """The command line's connection, seen from the monitor."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def take(self) -> Message | Frame:
        """The next message, or piece of input; fails if the client has gone."""
        frame = await asyncio.wait_for(read_frame(self.reader), 20)
        assert frame is not None, "the command line has closed the connection"
        return decode_message(frame.payload) if frame.kind is FrameKind.MESSAGE else frame

    async def gone(self) -> bool:
        """Whether the client closes the connection."""
        return await asyncio.wait_for(read_frame(self.reader), 20) is None

    def say(self, message: Message) -> None:
        """Send a message."""
        self.writer.write(encode_message(message))

    async def output(self, data: bytes, stream: FrameKind = FrameKind.STDOUT) -> None:
        """Send output, as far as the client takes it."""
        self.writer.write(encode(stream, data))
        await self.writer.drain()


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class FakeMonitor:
    """A sandbox called `box` whose monitor follows `script` with each client."""

    script: Script
    errors: list[BaseException] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def serving(self, store: SandboxStore, options: RunOptions) -> AsyncIterator[None]:
        """Own the sandbox and answer for as long as the block runs."""
        sandbox, owner = store.create(replace(options, name="box"))
        sandbox.write(replace(sandbox.read(), phase=Phase.RUNNING))
        server = await asyncio.start_unix_server(self._serve, path=sandbox.socket, limit=2**23)
        try:
            yield
        finally:
            server.close()
            os.close(owner)
        assert not self.errors, self.errors

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.script(Peer(reader, writer))
        except BaseException as error:  # shown by the test, which waits for something else
            self.errors.append(error)
            raise
        finally:
            writer.close()


async def start(*arguments: str, **pipes: int) -> asyncio.subprocess.Process:
    """Start `pykata` with the test's run directory."""
    streams = {name: asyncio.subprocess.PIPE for name in ("stdin", "stdout", "stderr")} | pipes
    return await asyncio.create_subprocess_exec(*COMMAND, *arguments, **streams)  # type: ignore[arg-type]  # mypy cannot match the unpacked names

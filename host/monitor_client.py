"""The command line's end of a monitor's socket, and how a monitor is started."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from dataclasses import dataclass

from host.errors import HostError
from host.monitor_protocol import (
    Done,
    Exited,
    Failed,
    Frame,
    FrameKind,
    Message,
    Request,
    decode_message,
    encode,
    encode_message,
    read_frame,
)
from host.state import Sandbox

# A frame is at most 4 MiB; a reader that buffers less would stall in the middle of one.
_BUFFER_BYTES = 4 * 1024 * 1024


class RequestFailed(HostError):
    """The monitor could not do what it was asked; `status` is what the command line exits with."""

    def __init__(self, failure: Failed) -> None:
        super().__init__(failure.message)
        self.status = failure.status
        self.trace = failure.trace


class MonitorGone(HostError):
    """The monitor closed the connection without an answer: it was killed."""


class Connection:
    """One request to a monitor."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, sandbox: Sandbox) -> Connection:
        """Connect to the monitor of `sandbox`; raises HostError if there is none any more."""
        try:
            streams = await asyncio.open_unix_connection(str(sandbox.socket), limit=_BUFFER_BYTES)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise HostError(
                f"sandbox {sandbox.id} is not running",
                f"see `pykata inspect {sandbox.id}`, or remove it with `pykata rm {sandbox.id}`",
            ) from error
        return cls(*streams)

    @classmethod
    async def of_socket(cls, connected: socket.socket) -> Connection:
        """Use a socket that is connected already."""
        return cls(*await asyncio.open_connection(sock=connected, limit=_BUFFER_BYTES))

    async def send(self, message: Message) -> None:
        """Send a message; a monitor that is gone shows when it is next read from."""
        await self._write(encode_message(message))

    async def send_input(self, data: bytes) -> None:
        """Send a piece of standard input; none at all means its end."""
        await self._write(encode(FrameKind.STDIN, data))

    async def receive(self) -> Frame | Message:
        """The next piece of output, or the next message; `Failed` is raised as RequestFailed.

        Raises MonitorGone at the end of the connection.
        """
        frame = await read_frame(self._reader)
        if frame is None:
            raise MonitorGone(
                "the monitor of the sandbox was killed", "`pykata rm -f` removes what is left of the sandbox"
            )
        if frame.kind is not FrameKind.MESSAGE:
            return frame
        message = decode_message(frame.payload)
        if isinstance(message, Failed):
            raise RequestFailed(message)
        return message

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:  # the monitor was quicker
            return

    async def _write(self, frame: bytes) -> None:
        try:
            self._writer.write(frame)
            await self._writer.drain()
        except ConnectionError:
            return


async def ask(sandbox: Sandbox, request: Request) -> Exited | Done:
    """Send a request that has no streams and wait for its answer. Raises HostError."""
    connection = await Connection.open(sandbox)
    try:
        await connection.send(request)
        while True:
            answer = await connection.receive()
            if isinstance(answer, Exited | Done):
                return answer
    finally:
        await connection.close()


@dataclass(frozen=True, slots=True)
class LaunchedMonitor:
    """A monitor that this process has started, and the connection that makes it the first client."""

    process: subprocess.Popen[bytes]
    socket: socket.socket


def launch_monitor(sandbox: Sandbox, owner_fd: int) -> LaunchedMonitor:
    """Start the detached monitor of `sandbox` and hand it `owner_fd`, which is closed here.

    It runs in a session of its own, so a Ctrl-C at the terminal reaches only the command line.
    """
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "host.monitor", str(sandbox.path), str(owner_fd), str(theirs.fileno())]
    with theirs, sandbox.monitor_log.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            pass_fds=(owner_fd, theirs.fileno()),
            start_new_session=True,
        )
    os.close(owner_fd)
    return LaunchedMonitor(process, ours)

"""One process in the guest as the monitor drives it: its streams, its end, signals and window size."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Protocol

from host.client import AgentCallError, AgentClient
from host.monitor_protocol import FrameKind
from host.run_options import WindowSize

# The agent answers with what is there, a pipe's content at most; the message limit is 4 MiB.
READ_BYTES = 1024 * 1024
# How a call about a process fails when it, its container or the whole VM has ended meanwhile.
GONE = (AgentCallError, ConnectionError)


class OutputSink(Protocol):
    """Where a process's output goes. `write` returns once the sink can take more: backpressure."""

    async def write(self, stream: FrameKind, data: bytes) -> None:
        """Take `data` of `stream`, STDOUT or STDERR."""


class ProcessIo:
    """A process that exists in the agent, addressed by container and exec id."""

    def __init__(self, client: AgentClient, container_id: str, exec_id: str, *, terminal: bool) -> None:
        self._client = client
        self._address = {"container_id": container_id, "exec_id": exec_id}
        self._terminal = terminal
        self._input_open = True

    async def run(self, sink: OutputSink) -> int:
        """Carry all output to `sink` and wait for the end; returns the exit status.

        The status comes when both streams have ended, so every byte written before the end has
        been passed on by then.
        """
        streams = [("ReadStdout", FrameKind.STDOUT)]
        if not self._terminal:  # a terminal has one stream; reading it twice would split it
            streams.append(("ReadStderr", FrameKind.STDERR))
        try:
            async with asyncio.TaskGroup() as tasks:
                for method, stream in streams:
                    tasks.create_task(self._pump(method, stream, sink))
                status = tasks.create_task(self.wait())
        except* GONE as group:
            raise group.exceptions[0] from None
        return status.result()

    async def wait(self) -> int:
        """Wait for the end alone."""
        answer = await self._call("WaitProcess", timeout_s=None)
        return int(answer.status)

    async def write_input(self, data: bytes) -> bool:
        """Give the process `data` on its standard input; says whether it wants more."""
        while data and self._input_open:
            try:
                answer = await self._call("WriteStdin", data=data, timeout_s=None)
            except GONE:  # the process has closed its end, or is gone
                self._input_open = False
                break
            if not answer.len:
                self._input_open = False
            data = data[answer.len :]
        return self._input_open

    async def close_input(self) -> None:
        """End the process's standard input; later input is dropped."""
        if self._input_open:
            self._input_open = False
            with contextlib.suppress(*GONE):  # the process may be gone already
                await self._call("CloseStdin")

    async def resize(self, window: WindowSize) -> None:
        """Give its terminal another size."""
        with contextlib.suppress(*GONE):  # it may have ended between the two
            await self._call("TtyWinResize", row=window.rows, column=window.columns)

    async def signal(self, signum: int) -> None:
        """Send it a signal; raises AgentCallError if the agent refuses."""
        await self._call("SignalProcess", signal=signum)

    async def _pump(self, method: str, stream: FrameKind, sink: OutputSink) -> None:
        while data := await self._read(method):
            await sink.write(stream, data)

    async def _read(self, method: str) -> bytes:
        """The next piece; empty at the end, which a 1.x agent tells by an error whose text is EOF."""
        try:
            answer = await self._call(method, len=READ_BYTES, timeout_s=None)
        except AgentCallError as error:
            if error.message == "EOF":
                return b""
            raise
        return bytes(answer.data)

    async def _call(self, method: str, *, timeout_s: float | None = 60.0, **values: object) -> Any:  # noqa: ANN401 - a message of either generation
        request_class, _ = self._client.messages.SERVICES["grpc.AgentService"][method]
        request = request_class(**self._address, **values)
        return await self._client.call(method, request, timeout_s=timeout_s)

"""A process in a container: its launch through crun, its streams, its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.containers.console import console_socket, set_window_size
from agent.containers.crun import Stdio, launch_failure
from agent.containers.streams import (
    InputStream,
    OutputStream,
    input_pipe,
    output_pipe,
    terminal_streams,
)
from agent.errors import InvalidRequest, LaunchFailed, Unavailable
from agent.processes.reaper import Launch, Reaper
from agent.processes.spawn import Completed

_LONGEST_COMPLAINT_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Streams:
    """The agent's ends of a process's standard streams; with a terminal the last two are one."""

    stdin: InputStream
    stdout: OutputStream
    stderr: OutputStream

    def close(self) -> None:
        """Close all, dropping what nobody has read."""
        self.stdin.process_exited()
        self.stdout.close()
        self.stderr.close()


@dataclass(slots=True)
class PassedConnections:
    """The host's connections for a process's streams, each of which may be missing."""

    stdin: socket.socket | None = None
    stdout: socket.socket | None = None
    stderr: socket.socket | None = None

    def close(self) -> None:
        """Close all. Safe to call twice."""
        for connection in (self.stdin, self.stdout, self.stderr):
            if connection is not None:
                connection.close()


class Process:
    """A process that runs, or has run, in a container.

    Its exit code and its unread output stay until `close`.
    """

    def __init__(self, exec_id: str, pid: int, *, reaper: Reaper, streams: Streams, terminal: bool) -> None:
        """Follow `pid`, which has been claimed from `reaper`."""
        self.exec_id = exec_id
        self.pid = pid
        self.terminal = terminal
        self.stdin = streams.stdin
        self.stdout = streams.stdout
        self.stderr = streams.stderr
        self.exited = asyncio.Event()
        self.exit_code: int | None = None
        self._streams = streams
        self._reaper = reaper
        self._was_waited_for = False
        self._passing: set[asyncio.Task[None]] = set()
        self._feeding: asyncio.Task[None] | None = None
        self._following = asyncio.create_task(self._follow(), name=f"exit of {exec_id}")

    async def wait(self) -> int:
        """Wait for the process to exit: its exit code, or 128 + the signal that ended it.

        Never waits for a reader; what the process had written stays readable. But output that goes to
        a connection has gone there before.
        """
        await self.exited.wait()
        if self._passing:
            await asyncio.wait(self._passing)
        self._was_waited_for = True
        assert self.exit_code is not None
        return self.exit_code

    def pass_on(self, connections: PassedConnections) -> None:
        """Connect the streams with the host's connections, which they own from now on.

        To be called before anybody has read or written. A terminal has one output.
        """
        if self.terminal and connections.stderr is not None:
            connections.stderr.close()
        self._passing = {self.stdout.pass_on(connections.stdout)}
        if not self.terminal:
            self._passing.add(self.stderr.pass_on(connections.stderr))
        self._feeding = self.stdin.pass_on(connections.stdin)

    @property
    def is_done_with(self) -> bool:
        """Whether the process has exited, somebody knows, and all of its output has been read."""
        return self._was_waited_for and self.stdout.has_ended and self.stderr.has_ended

    def send_signal(self, signum: int) -> None:
        """Send a signal; one to a process that has exited is dropped. Raises InvalidRequest."""
        try:
            self._reaper.send_signal(self.pid, signum)
        except OSError as error:
            raise InvalidRequest(f"signal {signum}: {error.strerror}") from error

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal a new size. Raises Unavailable if there is none (any more)."""
        if not self.terminal or self.stdin.descriptor is None:
            raise Unavailable("no tty")
        set_window_size(self.stdin.descriptor, rows, columns)

    def close(self) -> None:
        """Give up the streams and what is unread in them; whoever reads sees the end."""
        self._streams.close()
        for task in self._passing:
            task.cancel()

    async def _follow(self) -> None:
        self.exit_code = await self._reaper.wait(self.pid)
        try:
            # First what lies in the pipes, then the news: a reader that hears it finds all of it there.
            self.stdin.process_exited()
            if self._feeding is not None:
                self._feeding.cancel()
            self.stdout.process_exited()
            self.stderr.process_exited()
        finally:
            self.exited.set()


RuntimeCall = Callable[[Stdio], Awaitable[Completed]]


@dataclass(frozen=True, slots=True)
class Launcher:
    """How processes are launched, whichever of crun's commands does it."""

    reaper: Reaper
    consoles: str
    timeout_s: float

    async def launch(
        self, exec_id: str, call: RuntimeCall, *, pid_file: str, terminal: bool, pipe_size: int
    ) -> Process:
        """Have `call` start a process with streams of its own, and follow it.

        `call` leaves the pid in `pid_file`, which is removed. Raises LaunchFailed, DeadlineExceeded,
        KernelRefused; then no stream stays open.
        """
        with self.reaper.launch() as launch:
            if terminal:
                return await self._with_terminal(exec_id, call, launch, pid_file)
            return await self._with_pipes(exec_id, call, launch, pid_file, pipe_size)

    async def _with_pipes(
        self, exec_id: str, call: RuntimeCall, launch: Launch, pid_file: str, pipe_size: int
    ) -> Process:
        with _pipes(pipe_size) as (streams, stdio):
            done = await call(stdio)
        try:
            if done.returncode != 0:
                streams.stderr.process_exited()
                raise launch_failure(await streams.stderr.read(_LONGEST_COMPLAINT_BYTES))
            pid = _claim(launch, pid_file)
        except BaseException:
            streams.close()
            raise
        return Process(exec_id, pid, reaper=self.reaper, streams=streams, terminal=False)

    async def _with_terminal(self, exec_id: str, call: RuntimeCall, launch: Launch, pid_file: str) -> Process:
        async with console_socket(self.consoles) as console:
            done = await call(Stdio(console=console.path))
            if done.returncode != 0:
                raise launch_failure(done.stderr)
            pid = _claim(launch, pid_file)
            try:
                master = await console.receive_master(self.timeout_s)
            except BaseException:
                self.reaper.send_signal(pid, signal.SIGKILL)
                self.reaper.disown(pid)
                raise
        stdin, output = terminal_streams(master)
        streams = Streams(stdin, output, output)
        return Process(exec_id, pid, reaper=self.reaper, streams=streams, terminal=True)


@contextmanager
def _pipes(size: int) -> Iterator[tuple[Streams, Stdio]]:
    """Three pipes; the process's ends are closed after the block, ours only if it fails."""
    stdin, stdin_end = input_pipe()
    ends = [stdin_end]
    outputs: list[OutputStream] = []
    try:
        for _ in range(2):
            stream, end = output_pipe(size)
            outputs.append(stream)
            ends.append(end)
        yield Streams(stdin, *outputs), Stdio(stdin=ends[0], stdout=ends[1], stderr=ends[2])
    except BaseException:
        stdin.process_exited()
        for output in outputs:
            output.close()
        raise
    finally:
        for end in ends:
            os.close(end)


def _claim(launch: Launch, pid_file: str) -> int:
    """Claim the process whose pid crun has written down. A few bytes on tmpfs, read on the loop.

    Raises LaunchFailed.
    """
    path = Path(pid_file)
    try:
        pid = int(path.read_text())
        path.unlink()
    except (OSError, ValueError) as error:
        raise LaunchFailed(f"the container runtime left no pid in {pid_file}: {error}") from error
    launch.claim(pid)
    return pid

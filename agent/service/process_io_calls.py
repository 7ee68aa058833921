"""A process's streams, its terminal, its end."""

from __future__ import annotations

from agent.containers.process import Process
from agent.containers.streams import OutputStream
from agent.errors import Unavailable
from agent.service.agent import Agent
from agent.service.requests import ProcessName, ReadStream, StreamData, TtyWinResize, WriteStdin
from agent.service.rules import Rules

# A message may hold 4 MiB (ttrpc's and grpc-go's limit); the envelope takes a few of them.
_LONGEST_READ_BYTES = (4 << 20) - (4 << 10)
_LARGEST_WINDOW = 0xFFFF  # struct winsize has 16 bits each, ioctl_tty(2)


def find_process(
    agent: Agent, name: ProcessName | WriteStdin | ReadStream | TtyWinResize, rules: Rules
) -> Process:
    """The process that a request names. Raises UnknownContainer, NotFound."""
    container = agent.sandbox.container(name.container_id)
    if not name.exec_id and rules.empty_exec_id_is_init:
        return container.init
    return container.process(name.exec_id)


async def wait_process(agent: Agent, request: ProcessName, rules: Rules) -> int:
    """Wait for the process to exit; its exit code, or 128 and the signal that ended it.

    May be asked any number of times, by any number of callers, until the container is removed. What
    the process has written stays readable. Raises UnknownContainer, NotFound.
    """
    return await find_process(agent, request, rules).wait()


async def read_stdout(agent: Agent, request: ReadStream, rules: Rules) -> StreamData:
    """Wait for output, and take at most `length` bytes of it. Raises UnknownContainer, NotFound."""
    return await _read(find_process(agent, request, rules).stdout, request.length)


async def read_stderr(agent: Agent, request: ReadStream, rules: Rules) -> StreamData:
    """As `read_stdout`, for the error output; with a terminal both are the terminal's."""
    return await _read(find_process(agent, request, rules).stderr, request.length)


async def write_stdin(agent: Agent, request: WriteStdin, rules: Rules) -> int:
    """Write all of `data`, waiting for the reader as needed; how many bytes were written.

    No data closes the stream for the hosts that mean it so. Raises UnknownContainer, NotFound,
    Unavailable (closed before), KernelRefused (nobody reads any more).
    """
    process = find_process(agent, request, rules)
    if not request.data:
        if rules.empty_write_closes_stdin:
            process.stdin.close()
        return 0
    try:
        return await process.stdin.write(request.data)
    except Unavailable:
        if rules.write_after_close_is_dropped:
            return 0
        raise


async def close_stdin(agent: Agent, request: ProcessName, rules: Rules) -> None:
    """Let the process read the end of its input. Raises UnknownContainer, NotFound."""
    find_process(agent, request, rules).stdin.close()


async def tty_win_resize(agent: Agent, request: TtyWinResize, rules: Rules) -> None:
    """Give the process's terminal a size. Raises UnknownContainer, NotFound, Unavailable."""
    process = find_process(agent, request, rules)
    process.resize(min(request.rows, _LARGEST_WINDOW), min(request.columns, _LARGEST_WINDOW))


async def _read(stream: OutputStream, length: int) -> StreamData:
    if length == 0:
        return StreamData(b"")
    data = await stream.read(min(length, _LONGEST_READ_BYTES))
    return StreamData(data, at_end=not data)

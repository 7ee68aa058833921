"""The shell behind the debug console's port, over a socket pair instead of vsock."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.debug_console import is_locked, serve_shell
from agent.processes.reaper import Reaper


@dataclass(frozen=True, slots=True)
class Console:
    """Our end of a console, and the task that serves it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    served: asyncio.Task[None]

    async def run(self, line: str, answer: bytes) -> bytes:
        """Type a line and read up to `answer`, which must not appear in the line itself."""
        self.writer.write(line.encode() + b"\n")
        return await asyncio.wait_for(self.reader.readuntil(answer), 10)


@pytest.fixture
async def console() -> AsyncIterator[Console]:
    reaper = Reaper()
    reaper.start()
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    served = asyncio.create_task(serve_shell(*await asyncio.open_connection(sock=theirs), reaper))
    yield Console(reader, writer, served)
    writer.close()
    await asyncio.wait_for(served, 10)
    reaper.stop()


async def test_the_shell_answers(console: Console) -> None:
    assert b"forty-two 42" in await console.run("echo forty-two $((6 * 7))", b"forty-two 42")


async def test_the_shell_has_a_controlling_terminal(console: Console) -> None:
    assert b"yes-it-is-a-tty" in await console.run(
        "test -t 0 && : </dev/tty && echo yes-it'-is'-a-tty", b"yes-it-is-a-tty"
    )


async def test_ctrl_c_ends_what_the_shell_runs(console: Console) -> None:
    # Said by the job itself, which then is in the foreground for certain.
    await console.run("PS1=prom''pt-; sh -c \"echo rea''dy; exec sleep 1000\"", b"ready")
    console.writer.write(b"\x03")
    # What is typed before the shell has its terminal back may be dropped with the interrupted line.
    await asyncio.wait_for(console.reader.readuntil(b"prompt-"), 10)
    assert b"back 1" in await console.run("echo back $((0 + 1))", b"back 1")


async def test_exit_closes_the_connection_after_the_last_words(console: Console) -> None:
    console.writer.write(b"printf 'last%s' words; exit\n")
    everything = await asyncio.wait_for(console.reader.read(), 10)
    assert b"lastwords" in everything
    await asyncio.wait_for(console.served, 10)


async def test_a_peer_that_leaves_takes_the_shell_with_it(console: Console) -> None:
    await console.run("echo pid $$ end''ed", b"ended")
    console.writer.write(b"echo pid $$ do''ne\n")
    shown = await asyncio.wait_for(console.reader.readuntil(b"done"), 10)
    match = re.search(rb"pid (\d+) done", shown)
    assert match
    pidfd = os.pidfd_open(int(match[1]))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(pidfd, ended.set)
    console.writer.close()
    await asyncio.wait_for(asyncio.gather(console.served, ended.wait()), 10)
    asyncio.get_running_loop().remove_reader(pidfd)
    os.close(pidfd)
    assert ended.is_set()


def test_an_image_can_forbid_the_console(tmp_path: Path) -> None:
    lock = tmp_path / "debug-console.locked"
    assert not is_locked(lock)
    lock.touch()
    assert is_locked(lock)

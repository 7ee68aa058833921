"""Streams that go over connections of the host's: a real child, with socket pairs as the connections."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from agent.containers.process import PassedConnections, Process, Streams
from agent.containers.streams import terminal_streams
from agent.errors import Unavailable
from agent.processes.reaper import Reaper
from tests.unit.containers.test_process import launch


class Ends:
    """The host's ends of three connections, and the agent's."""

    def __init__(self, *names: str) -> None:
        self.host: dict[str, socket.socket] = {}
        self.agent = PassedConnections()
        for name in names:
            self.host[name], ours = socket.socketpair()
            self.host[name].setblocking(False)
            setattr(self.agent, name, ours)

    def open_ones(self) -> list[str]:
        """The agent's ends that are still open."""
        return [
            name
            for name in ("stdin", "stdout", "stderr")
            if (end := getattr(self.agent, name)) is not None and end.fileno() != -1
        ]

    async def all_of(self, name: str) -> bytes:
        """What arrives until the end."""
        loop, data = asyncio.get_running_loop(), b""
        while chunk := await loop.sock_recv(self.host[name], 1 << 20):
            data += chunk
        return data

    def close(self) -> None:
        for end in self.host.values():
            end.close()


async def test_there_and_back(reaper: Reaper, tmp_path: Path) -> None:
    """More than any buffer holds, binary, both ways at once; the exit comes after it."""
    process = await launch(reaper, tmp_path, "cat; echo err >&2; exit 3")
    ends = Ends("stdin", "stdout", "stderr")
    process.pass_on(ends.agent)
    data = os.urandom(3 << 20)

    async def feed() -> None:
        await asyncio.get_running_loop().sock_sendall(ends.host["stdin"], data)
        ends.host["stdin"].shutdown(socket.SHUT_WR)

    waiting = asyncio.create_task(process.wait())
    feeding = asyncio.create_task(feed())
    assert await ends.all_of("stdout") == data
    assert await ends.all_of("stderr") == b"err\n"
    assert await waiting == 3
    await feeding
    assert process.is_done_with
    assert ends.open_ones() == []
    ends.close()


async def test_the_exit_is_told_when_the_output_has_gone(reaper: Reaper, tmp_path: Path) -> None:
    """Nobody else waits meanwhile: the process counts as ended."""
    process = await launch(reaper, tmp_path, "exec head -c 60000 /dev/zero")
    ends = Ends("stdout")
    ends.agent.stdout.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # type: ignore[union-attr]  # made above
    process.pass_on(ends.agent)
    await process.exited.wait()
    waiting = asyncio.create_task(process.wait())
    done, _ = await asyncio.wait({waiting}, timeout=0.1)
    assert not done
    assert len(await ends.all_of("stdout")) == 60000
    assert await waiting == 0
    ends.close()


async def test_a_host_that_reads_nothing_does_not_keep_a_container(reaper: Reaper, tmp_path: Path) -> None:
    process = await launch(reaper, tmp_path, "exec head -c 60000 /dev/zero")
    ends = Ends("stdout")
    ends.agent.stdout.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # type: ignore[union-attr]  # made above
    process.pass_on(ends.agent)
    await process.exited.wait()
    process.close()
    assert await process.wait() == 0
    assert ends.open_ones() == []
    ends.close()


async def test_a_host_that_leaves_does_not_hold_up_the_process(reaper: Reaper, tmp_path: Path) -> None:
    process = await launch(reaper, tmp_path, "read go; head -c 300000 /dev/zero; exit 4")
    ends = Ends("stdin", "stdout")
    process.pass_on(ends.agent)
    ends.host["stdout"].close()
    await asyncio.get_running_loop().sock_sendall(ends.host["stdin"], b"go\n")
    assert await process.wait() == 4
    ends.close()


async def test_streams_that_are_left_out(reaper: Reaper, tmp_path: Path) -> None:
    """Input ends at once, output is dropped."""
    process = await launch(reaper, tmp_path, "cat; head -c 300000 /dev/zero >&2; echo done")
    ends = Ends("stdout")
    process.pass_on(ends.agent)
    assert await ends.all_of("stdout") == b"done\n"
    assert await process.wait() == 0
    ends.close()


async def test_an_exit_ends_the_input(reaper: Reaper, tmp_path: Path) -> None:
    process = await launch(reaper, tmp_path, "read line; exit 5")
    ends = Ends("stdin", "stdout")
    process.pass_on(ends.agent)
    await asyncio.get_running_loop().sock_sendall(ends.host["stdin"], b"a\n" * 100_000)
    assert await process.wait() == 5
    assert process._feeding is not None
    await asyncio.wait({process._feeding})
    assert ends.open_ones() == []
    ends.close()


async def test_calls_find_no_streams(reaper: Reaper, tmp_path: Path) -> None:
    process = await launch(reaper, tmp_path, "exec cat")
    ends = Ends("stdin", "stdout", "stderr")
    process.pass_on(ends.agent)
    for stream in (process.stdout, process.stderr):
        with pytest.raises(Unavailable, match="a connection of the host's"):
            await stream.read(10)
    with pytest.raises(Unavailable, match="a connection of the host's"):
        await process.stdin.write(b"x")
    process.stdin.close()
    assert await process.wait() == 0
    ends.close()


async def test_a_terminal_has_one_output(reaper: Reaper, tmp_path: Path) -> None:
    master, slave = os.openpty()
    stdin, output = terminal_streams(master)
    child = await launch(reaper, tmp_path, "exec sleep 60")
    process = Process("t", child.pid, reaper=reaper, streams=Streams(stdin, output, output), terminal=True)
    ends = Ends("stdin", "stdout", "stderr")
    process.pass_on(ends.agent)
    assert ends.open_ones() == ["stdin", "stdout"]
    loop = asyncio.get_running_loop()
    os.write(slave, b"prompt$ ")
    assert await loop.sock_recv(ends.host["stdout"], 99) == b"prompt$ "
    await loop.sock_sendall(ends.host["stdin"], b"typed\n")
    assert await loop.run_in_executor(None, os.read, slave, 99) == b"typed\n"
    child.send_signal(9)
    assert await child.wait() == 137
    process.close()
    child.close()
    process._following.cancel()
    await asyncio.wait([process._following, *process._passing])
    os.close(slave)
    ends.close()

"""Containers in a guest, on either wire: how they end, what they write, and that nothing of them stays."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from tests.scripted_host import ScriptedHost
from tests.vm.containers.guests import BOX, WIRES, Guest, run_inside, run_to_end, running

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_the_exit_status(host: ScriptedHost) -> None:
    assert await run_to_end(host, "sh", "-c", "echo said; exit 37") == (37, b"said\n")


async def test_killed_by_the_host(host: ScriptedHost) -> None:
    async with running(host, "sleep", "1000"):
        await host.call("SignalProcess", container_id=BOX, exec_id=BOX, signal=9)
        assert await host.wait(BOX) == 137


async def test_an_exec_that_kills_itself(host: ScriptedHost) -> None:
    """Not the first process: to that one the kernel passes no such signal of its own (pid_namespaces(7))."""
    async with running(host, "sleep", "1000"):
        assert await run_inside(host, "kill -9 $$", exec_id="kills") == (137, b"")


async def test_a_megabyte_of_output_arrives_whole(host: ScriptedHost) -> None:
    expected = "".join(f"{number}\n" for number in range(1, 170_001)).encode()
    assert len(expected) > 1 << 20
    status, output = await run_to_end(host, "seq", "1", "170000")
    assert status == 0
    assert len(output) == len(expected)
    assert hashlib.sha256(output).digest() == hashlib.sha256(expected).digest()


async def test_an_exec_with_a_terminal(host: ScriptedHost) -> None:
    names: dict[str, Any] = {"container_id": BOX, "exec_id": "shell"}
    async with running(host, "sleep", "1000"):
        await host.call("ExecProcess", **names, process=host.process("sh", Terminal=True))
        await host.call("TtyWinResize", **names, row=24, column=77)
        await host.call("WriteStdin", **names, data=b"stty size; tty; exit 5\n")
        assert b"24 77\r\n/dev/pts/0\r\n" in await host.output(BOX, "shell")
        assert await host.wait(BOX, "shell") == 5


async def test_an_exec_that_nobody_waits_for(host: ScriptedHost) -> None:
    """Its zombie would keep the container's pid namespace, and with it the end of init, for ever."""
    async with running(host, "sleep", "1000"):
        for exec_id, command in (("ends", ["true"]), ("stays", ["sleep", "1000"])):
            process = host.process(*command)
            await host.call("ExecProcess", container_id=BOX, exec_id=exec_id, process=process)
        waiting = asyncio.create_task(host.wait(BOX))
        await host.call("SignalProcess", container_id=BOX, exec_id=BOX, signal=9)
        assert await asyncio.wait_for(waiting, 20) == 137


async def test_many_containers_that_end_at_once(guest: Guest) -> None:
    """Forty, four at a time, on both wires: each has its own status."""
    turns = asyncio.Semaphore(4)

    async def status_of(number: int) -> int:
        host = guest.hosts[WIRES[number % len(WIRES)]]
        async with turns:
            command = ("sh", "-c", f"exit {number}")
            async with running(host, *command, container_id=f"many-{number}"):
                return await host.wait(f"many-{number}")

    assert await asyncio.gather(*map(status_of, range(40))) == list(range(40))


async def test_no_such_command(host: ScriptedHost) -> None:
    spec = host.spec("nothing", container_id=BOX)
    _, message = await host.refused("CreateContainer", container_id=BOX, exec_id=BOX, OCI=spec)
    assert message.startswith("exit status 127: ")
    assert "nothing" in message

"""The life of containers through the agent as a process, on both wires."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.privileged.agents import (
    BOTH_WIRES,
    AgentProcess,
    Host,
    Wire,
    agent_process,
    guest_state,
    host_of,
)

pytestmark = BOTH_WIRES


@pytest.fixture
def agent(run_dir: Path) -> Iterator[AgentProcess]:
    with agent_process(run_dir) as process:
        yield process


@pytest.fixture
async def host(agent: AgentProcess, wire: Wire, busybox_rootfs: Path, run_dir: Path) -> AsyncIterator[Host]:
    """A host with a sandbox; after the test the guest is as it was before it."""
    async with host_of(agent, wire, busybox_rootfs) as host:
        before = guest_state(ignored=run_dir)
        await host.call("CreateSandbox", sandbox_id="s1", hostname="boxy")
        yield host
        await host.finish()
        assert guest_state(ignored=run_dir) == before
        assert not host.is_old or agent.children() == set()


async def test_a_container_from_creation_to_removal(host: Host, run_dir: Path) -> None:
    before = guest_state(ignored=run_dir)
    await host.run("c1", "sh", "-c", "hostname; read line; echo $line; echo oops >&2; exit 37")
    names: dict[str, Any] = {"container_id": "c1", "exec_id": "c1"}
    assert (await host.call("WriteStdin", **names, data=b"hello\n")).len == 6
    assert await host.wait("c1") == 37
    assert await host.output("c1") == b"boxy\nhello\n"
    assert await host.output("c1", stream="ReadStderr") == b"oops\n"
    assert await host.wait("c1") == 37  # the status stays until the container is removed
    await host.remove("c1")
    assert (await host.refused("WaitProcess", **names))[0] == (5 if host.is_old else 3)
    assert guest_state(ignored=run_dir) == before


@pytest.mark.parametrize(
    ("command", "status"), [("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
)
async def test_exit_statuses(host: Host, command: str, status: int) -> None:
    # As the container's first process a shell would not die of its own signals: pid_namespaces(7).
    await host.run("c1", "sh", "-c", f"sh -c '{command}'; exit $?")
    assert await host.wait("c1") == status


async def test_init_killed_from_outside(host: Host) -> None:
    await host.run("c1", "sleep", "1000")
    waiting = [asyncio.create_task(host.wait("c1")) for _ in range(10)]
    await host.call("SignalProcess", container_id="c1", exec_id="c1", signal=9)
    assert await asyncio.gather(*waiting) == [137] * 10


async def test_a_command_that_ignores_nothing_dies_of_sigterm(host: Host) -> None:
    """The kernel would drop it: the first process of a pid namespace has no default handlers."""
    await host.run("c1", "sleep", "1000")
    await host.call("SignalProcess", container_id="c1", exec_id="c1", signal=15)
    assert await host.wait("c1") == 137


async def test_a_command_that_handles_sigterm_gets_it(host: Host) -> None:
    await host.run("c1", "sh", "-c", "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done")
    assert await host.read("c1") == b"ready\n"
    await host.call("SignalProcess", container_id="c1", exec_id="c1", signal=15)
    assert await host.wait("c1") == 3
    assert await host.output("c1") == b"bye\n"


async def test_a_signal_without_exec_id(host: Host) -> None:
    """1.x: to all that the container has; later: to init alone, but for SIGKILL."""
    await host.run("c1", "sh", "-c", "trap 'exit 5' USR1; echo ready; while :; do sleep 0.1; done")
    assert await host.read("c1") == b"ready\n"
    await host.call("ExecProcess", container_id="c1", exec_id="e1", process=host.process("sleep", "1000"))
    await host.call("SignalProcess", container_id="c1", exec_id="", signal=10)
    assert await host.wait("c1") == 5
    # With init its pid namespace ends; only a 1.x host has sent the exec a signal of its own before.
    assert await host.wait("c1", "e1") in ({138, 137} if host.is_old else {137})
    await host.call("SignalProcess", container_id="c1", exec_id="", signal=9)


async def test_exec(host: Host) -> None:
    await host.run("c1", "sleep", "1000")
    process = host.process("sh", "-c", "cat; echo err >&2; exit 7")
    names: dict[str, Any] = {"container_id": "c1", "exec_id": "e1"}
    await host.call("ExecProcess", **names, process=process)
    assert (await host.call("WriteStdin", **names, data=b"abc")).len == 3
    await host.call("CloseStdin", **names)
    assert await host.output("c1", "e1") == b"abc"
    assert await host.output("c1", "e1", stream="ReadStderr") == b"err\n"
    assert await host.wait("c1", "e1") == 7
    code, _ = await host.refused("WaitProcess", container_id="c1", exec_id="e2")
    assert code == 5


async def test_exec_ids_are_unique_while_in_use(host: Host) -> None:
    await host.run("c1", "sleep", "1000")
    names: dict[str, Any] = {"container_id": "c1", "exec_id": "e1"}
    await host.call("ExecProcess", **names, process=host.process("sleep", "1000"))
    code, message = await host.refused("ExecProcess", **names, process=host.process("true"))
    assert code == (6 if host.is_old else 13)
    assert "e1" in message


async def test_a_command_that_does_not_exist(host: Host, run_dir: Path) -> None:
    before = guest_state(ignored=run_dir)
    for command, status in (("/bin/nothing", 127), ("nothing", 127), ("/etc/passwd", 126)):
        code, message = await host.refused(
            "CreateContainer",
            container_id="c1",
            exec_id="c1",
            OCI=host.spec(command, container_id="c1"),
        )
        assert (code, f"exit status {status}: " in message) == (13, True), message
        assert guest_state(ignored=run_dir) == before
    await host.run("c1", "sleep", "1000")
    code, message = await host.refused(
        "ExecProcess", container_id="c1", exec_id="e1", process=host.process("nothing")
    )
    assert (code, "exit status 127: " in message) == (13, True), message
    assert (await host.refused("WaitProcess", container_id="c1", exec_id="e1"))[0] == 5


async def test_states(host: Host) -> None:
    await host.create("c1", "true")
    await host.call("StartContainer", container_id="c1")
    assert await host.wait("c1") == 0
    code, message = await host.refused("StartContainer", container_id="c1")
    assert (code, "c1" in message) == (9, True)
    code, message = await host.refused(
        "ExecProcess", container_id="c1", exec_id="e1", process=host.process("true")
    )
    assert (code, "stopped" in message) == (9, True)
    await host.call("SignalProcess", container_id="c1", exec_id="c1", signal=15)


async def test_a_container_that_was_never_started_is_removed(host: Host) -> None:
    await host.create("c1", "sleep", "1000")
    await host.remove("c1")
    await host.create("c1", "true")


async def test_removal_ends_what_waits(host: Host) -> None:
    await host.run("c1", "sleep", "1000")
    waiting = asyncio.create_task(host.wait("c1"))
    reading = asyncio.create_task(host.read("c1"))
    await asyncio.gather(host.remove("c1"), host.remove("c1"))  # the second joins the first
    assert await waiting == 137
    assert await reading == b""


async def test_a_late_reader_gets_all_of_it(host: Host) -> None:
    await host.run("c1", "sh", "-c", "seq 1 2000; (sleep 1000 &)")
    assert await host.wait("c1") == 0
    expected = "".join(f"{number}\n" for number in range(1, 2001)).encode()
    assert await host.output("c1", length=100) == expected


async def test_a_pending_read_holds_up_nobody(host: Host) -> None:
    await host.run("c1", "sleep", "1000")
    reading = [asyncio.create_task(host.read("c1", stream=stream)) for stream in ("ReadStdout", "ReadStderr")]
    await host.run("c2", "echo", "quick")
    assert await host.output("c2") == b"quick\n"
    assert not any(task.done() for task in reading)
    await host.call("SignalProcess", container_id="c1", exec_id="c1", signal=9)
    assert await asyncio.gather(*reading) == [b"", b""]


async def test_reads_of_nothing_and_of_too_much(host: Host) -> None:
    await host.run("c1", "sh", "-c", "echo x; sleep 1000")
    answer = await host.call("ReadStdout", container_id="c1", exec_id="c1", len=0)
    assert answer.data == b""
    assert await host.read("c1", length=2**32 - 1) == b"x\n"


async def test_stdin_after_its_end(host: Host) -> None:
    await host.run("c1", "sh", "-c", "cat; sleep 1000")
    names: dict[str, Any] = {"container_id": "c1", "exec_id": "c1"}
    assert (await host.call("WriteStdin", **names, data=b"")).len == 0
    if host.is_old:  # an empty write is nothing to a 1.x host, the end of the input to a later one
        assert (await host.call("WriteStdin", **names, data=b"more")).len == 4
        await host.call("CloseStdin", **names)
        assert (await host.call("WriteStdin", **names, data=b"late")).len == 0
    else:
        assert (await host.refused("WriteStdin", **names, data=b"late"))[0] == 13
    await host.call("CloseStdin", **names)


async def test_a_terminal(host: Host) -> None:
    spec = host.spec("sh", "-c", "tty; read x; stty size; exit 4", container_id="c1", Terminal=True)
    await host.run("c1", spec=spec)
    names: dict[str, Any] = {"container_id": "c1", "exec_id": "c1"}
    await host.call("TtyWinResize", **names, row=33, column=111)
    await host.call("WriteStdin", **names, data=b"\n")
    output = await host.output("c1")
    assert b"/dev/pts/0" in output or b"/dev/console" in output
    assert b"33 111" in output
    assert await host.wait("c1") == 4


async def test_resize_without_a_terminal(host: Host) -> None:
    await host.run("c1", "sleep", "1000")
    code, message = await host.refused("TtyWinResize", container_id="c1", exec_id="c1", row=1, column=1)
    assert (code, message) == (9 if host.is_old else 14, "no tty")


@pytest.mark.parametrize("size", [1 << 20, 100 << 20])
async def test_output_arrives_whole(host: Host, size: int, busybox_rootfs: Path) -> None:
    block = os.urandom(1 << 20)
    (busybox_rootfs / "block").write_bytes(block)
    times = size >> 20
    await host.run("c1", "sh", "-c", f"i=0; while [ $i -lt {times} ]; do cat /block; i=$((i+1)); done")
    expected, received = hashlib.sha256(), hashlib.sha256()
    for _ in range(times):
        expected.update(block)
    async for chunk in host.chunks("c1", length=4 << 20):
        received.update(chunk)
    assert received.hexdigest() == expected.hexdigest()
    assert await host.wait("c1") == 0


async def test_many_short_containers(host: Host) -> None:
    async def once(number: int) -> int:
        container_id = f"c-{number}"
        await host.run(container_id, "sh", "-c", f"exit {number}")
        status = await host.wait(container_id)
        await host.remove(container_id)
        return status

    statuses = await asyncio.gather(*(once(number) for number in range(20)))
    assert statuses == list(range(20))

"""What goes in and out of real containers: pipes and terminals."""

from __future__ import annotations

import asyncio
import signal

import pytest

from agent.errors import (
    Unavailable,
)
from tests.privileged.containers import (
    Runtime,
    everything,
    oci_process,
)


async def test_input(runtime: Runtime) -> None:
    container = await runtime.run("cat")
    data = bytes(range(256)) * 4000
    reading = asyncio.create_task(everything(container.init.stdout))
    assert await container.init.stdin.write(data) == len(data)
    container.init.stdin.close()
    assert await reading == data
    assert await container.init.wait() == 0
    with pytest.raises(Unavailable):
        await container.init.stdin.write(b"more")


async def test_a_late_reader_gets_all_that_fits_the_pipe(runtime: Runtime) -> None:
    container = await runtime.run("sh", "-c", "seq 1 9000; echo sorry >&2")
    assert await container.init.wait() == 0
    assert await everything(container.init.stdout, 1000) == b"".join(b"%d\n" % n for n in range(1, 9001))
    assert await everything(container.init.stderr) == b"sorry\n"


@pytest.mark.parametrize("pipe_size", [0, 4096, 1 << 20])
async def test_much_output_arrives_whole(runtime: Runtime, pipe_size: int) -> None:
    container = await runtime.run("seq", "1", "300000", pipe_size=pipe_size)
    output = await everything(container.init.stdout)
    assert output == b"".join(b"%d\n" % n for n in range(1, 300001))
    assert await container.init.wait() == 0


async def test_a_grandchild_that_keeps_the_pipe_holds_nobody_up(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    script = "setsid sleep 1000 & echo said"
    process = await container.execute("e", oci_process("sh", "-c", script), 0)
    assert await asyncio.wait_for(process.wait(), 5) == 0
    assert await asyncio.wait_for(everything(process.stdout), 5) == b"said\n"


async def test_a_grandchild_that_keeps_the_terminal_holds_nobody_up(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    script = "trap '' HUP; sleep 1000 & echo said"
    process = await container.execute("e", oci_process("sh", "-c", script, terminal=True), 0)
    assert await asyncio.wait_for(process.wait(), 5) == 0
    assert await asyncio.wait_for(everything(process.stdout), 5) == b"said\r\n"


async def test_terminal(runtime: Runtime) -> None:
    script = (
        "tty; stty size; trap 'stty size; exit 4' WINCH; echo ready;"
        "read line; echo got $line; while :; do sleep 0.1; done"
    )
    container = await runtime.create("sh", "-c", script, terminal=True)
    init = container.init
    init.resize(24, 80)
    await container.start()
    output = b""
    while b"ready" not in output:
        output += await init.stdout.read(4096)
    assert output.split() == [b"/dev/pts/0", b"24", b"80", b"ready"]
    init.stdin.close()  # a terminal stays open: its output comes over the same line
    await init.stdin.write(b"hello\n")
    while b"got hello" not in output:
        output += await init.stdout.read(4096)
    init.resize(50, 200)
    assert await init.wait() == 4
    assert (await everything(init.stderr)).split()[-2:] == [b"50", b"200"]
    with pytest.raises(Unavailable, match="no tty"):
        init.resize(1, 1)


async def test_a_terminal_is_the_controlling_one(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000", terminal=True)
    process = await container.execute(
        "e", oci_process("sh", "-c", "echo to-the-tty > /dev/tty; sleep 1000", terminal=True), 0
    )
    assert await process.stdout.read(100) == b"to-the-tty\r\n"
    await process.stdin.write(b"\x03")  # Ctrl-C
    assert await asyncio.wait_for(process.wait(), 5) == 128 + signal.SIGINT


async def test_without_a_terminal_there_is_no_size(runtime: Runtime) -> None:
    container = await runtime.create("true")
    with pytest.raises(Unavailable, match="no tty"):
        container.init.resize(24, 80)


async def test_another_user_may_write_to_its_own_output(runtime: Runtime) -> None:
    user = {"uid": 1000, "gid": 1000}
    container = await runtime.run("sh", "-c", "id -u; echo again > /proc/self/fd/1", user=user)
    assert (await runtime.output_of(container.init))[:2] == (0, b"1000\nagain\n")

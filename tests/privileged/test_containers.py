"""Real containers through crun: states, exit codes, signals."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from agent.containers.container import ContainerStatus
from agent.errors import (
    InvalidRequest,
    NotFound,
    WrongState,
)
from tests.privileged.containers import (
    Runtime,
    oci_process,
    status_of,
)


async def test_life_of_a_container(runtime: Runtime) -> None:
    container = await runtime.create("sh", "-c", "echo out; echo err >&2; exit 37")
    assert status_of(container) is ContainerStatus.CREATED
    await container.start()
    assert await runtime.output_of(container.init) == (37, b"out\n", b"err\n")
    assert status_of(container) is ContainerStatus.STOPPED
    await container.remove()
    assert not Path(runtime.paths.bundles, container.id).exists()
    assert await container.init.wait() == 37


@pytest.mark.parametrize(("script", "code"), [("true", 0), ("exit 255", 255), ("kill -9 $$", 137)])
async def test_exit_code_of_an_exec(runtime: Runtime, script: str, code: int) -> None:
    container = await runtime.run("sleep", "1000")
    process = await container.execute("e", oci_process("sh", "-c", script), 0)
    assert await process.wait() == code


async def test_exit_code_of_a_killed_init(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    await container.signal(signal.SIGKILL, exec_id=container.id)
    assert await container.init.wait() == 137


async def test_states(runtime: Runtime) -> None:
    container = await runtime.create("sleep", "1000")
    await container.start()
    assert status_of(container) is ContainerStatus.RUNNING
    with pytest.raises(WrongState, match="is running, it should be created"):
        await container.start()
    with pytest.raises(WrongState, match="it is not paused"):
        await container.resume()
    await container.pause()
    assert status_of(container) is ContainerStatus.PAUSED
    with pytest.raises(WrongState, match="paused"):
        await container.execute("e", oci_process("true"), 0)
    await container.resume()
    assert status_of(container) is ContainerStatus.RUNNING
    await container.signal(signal.SIGKILL, exec_id=None)
    assert await container.init.wait() == 137
    assert status_of(container) is ContainerStatus.STOPPED
    for stopped in (container.start(), container.execute("e", oci_process("true"), 0), container.pause()):
        with pytest.raises(WrongState, match="stopped"):
            await stopped
    await container.signal(signal.SIGKILL, exec_id=None)


async def test_two_starts_at_once(runtime: Runtime) -> None:
    container = await runtime.create("sleep", "1000")
    results = await asyncio.gather(container.start(), container.start(), return_exceptions=True)
    assert sorted(map(type, results), key=str) == [type(None), WrongState]


async def test_start_after_init_was_killed(runtime: Runtime) -> None:
    container = await runtime.create("sleep", "1000")
    await container.signal(signal.SIGKILL, exec_id=container.id)
    assert await container.init.wait() == 137
    with pytest.raises(WrongState, match="is stopped"):
        await container.start()


async def test_a_paused_container_dies_of_sigkill(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    await container.pause()
    await container.signal(signal.SIGKILL, exec_id=None)
    assert await asyncio.wait_for(container.init.wait(), 10) == 137


async def test_other_signals_leave_a_paused_container_paused(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    await container.pause()
    await container.signal(signal.SIGUSR1, exec_id=None)
    assert status_of(container) is ContainerStatus.PAUSED
    frozen = Path("/sys/fs/cgroup/freezer", container.id, "freezer.state").read_text()
    assert frozen in ("FROZEN\n", "FREEZING\n")


async def test_a_signal_to_all_reaches_execs(runtime: Runtime) -> None:
    container = await runtime.run("sh", "-c", "trap 'exit 3' USR1; while :; do sleep 1000 & wait; done")
    process = await container.execute("e", oci_process("sleep", "1000"), 0)
    await container.signal(signal.SIGUSR1, exec_id=None)
    assert await process.wait() == 128 + signal.SIGUSR1


async def test_a_signal_that_does_not_exist(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    with pytest.raises(InvalidRequest, match="signal 99"):
        await container.signal(99, exec_id=container.id)
    with pytest.raises(NotFound, match="process x not found"):
        await container.signal(9, exec_id="x")


async def test_update(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    await container.update({"pids": {"limit": 77}})
    [limit] = Path("/sys/fs/cgroup/pids").glob(f"{container.id}/pids.max")
    assert limit.read_text() == "77\n"

"""Real containers go, and leave nothing behind."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from agent.containers.container import ContainerStatus
from agent.containers.oci_spec import set_namespace
from agent.errors import (
    WrongState,
)
from agent.linux.mount import bind_mount
from tests.privileged.containers import (
    CONTAINER_PREFIX,
    Runtime,
    everything,
    oci_process,
    oci_spec,
    status_of,
)


async def test_a_paused_container_can_be_removed(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    await container.pause()
    await asyncio.wait_for(container.remove(), 10)
    assert await container.init.wait() == 137


async def test_execs_nobody_waits_for_do_not_hold_up_the_end_of_the_container(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    for number in range(5):
        await container.execute(f"quick{number}", oci_process("true"), 0)
        await container.execute(f"slow{number}", oci_process("sleep", "1000"), 0)
    await container.signal(signal.SIGKILL, exec_id=container.id)
    assert await asyncio.wait_for(container.init.wait(), 5) == 137
    assert await asyncio.wait_for(container.process("slow3").wait(), 5) == 137
    assert await container.process("quick3").wait() == 0


async def test_a_container_that_shares_another_s_pid_namespace(runtime: Runtime) -> None:
    first = await runtime.run("sleep", "1000")
    spec = oci_spec(runtime.rootfs, oci_process("sh", "-c", "sleep 999 & sleep 998 & wait"))
    set_namespace(spec, "pid", f"/proc/{first.init.pid}/ns/pid")
    second = await runtime.run(spec=spec)
    process = await second.execute("e", oci_process("sh", "-c", "sleep 997 & echo started; wait"), 0)
    assert await process.stdout.read(99) == b"started\n"
    await asyncio.wait_for(second.remove(), 10)
    assert (await second.init.wait(), await process.wait()) == (137, 137)
    remaining = await first.execute("ps", oci_process("ps", "-o", "args"), 0)
    assert b"sleep 99" not in await everything(remaining.stdout)
    assert status_of(first) is ContainerStatus.RUNNING


async def test_remove_can_be_joined_and_repeated(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    first = asyncio.create_task(container.remove())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(container.remove(), container.remove())
    await container.remove()
    assert first.cancelled()
    assert not Path(runtime.paths.bundles, container.id).exists()


async def test_removal_unmounts_what_stands_in_the_bundle_and_deletes_none_of_it(
    runtime: Runtime, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("keep")
    bundle = Path(runtime.paths.bundles, f"{CONTAINER_PREFIX}storage")
    (bundle / "storage").mkdir(parents=True)
    bind_mount(str(precious), f"{bundle}/storage")
    container = await runtime.run("sleep", "1000", container_id=f"{CONTAINER_PREFIX}storage")
    (runtime.rootfs / "kept").write_text("too")
    await container.remove()
    assert (precious / "file").read_text() == "keep"
    assert (runtime.rootfs / "kept").read_text() == "too"
    assert not bundle.exists()


async def test_the_cgroups_above_the_container_s_go_with_the_last_container(runtime: Runtime) -> None:
    pod = f"{CONTAINER_PREFIX}pod"
    one = await runtime.run("sleep", "1000", linux={"cgroupsPath": f"/{pod}/a/one"})
    two = await runtime.run("sleep", "1000", linux={"cgroupsPath": f"/{pod}/a/two"})
    await one.remove()
    assert any(path.is_dir() for path in Path("/sys/fs/cgroup").glob(f"*/{pod}/a/two"))
    await two.remove()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{pod}"))


async def test_removal_while_an_exec_is_under_way(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    launches = [
        asyncio.create_task(container.execute(f"e{n}", oci_process("sleep", "1000"), 0)) for n in range(4)
    ]
    await asyncio.sleep(0)
    await asyncio.wait_for(container.remove(), 20)
    results = await asyncio.gather(*launches, return_exceptions=True)
    for result in results:
        assert isinstance(result, WrongState) or (
            not isinstance(result, BaseException) and await result.wait() == 137
        )


async def test_remove_ends_those_who_wait_and_read(runtime: Runtime) -> None:
    container = await runtime.run("sleep", "1000")
    waiting = asyncio.create_task(container.init.wait())
    reading = asyncio.create_task(container.init.stdout.read(100))
    await asyncio.sleep(0)
    await container.remove()
    assert await waiting == 137
    assert await reading == b""

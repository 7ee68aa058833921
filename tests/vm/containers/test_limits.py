"""What a container in a guest may not do, and the figures it runs with."""

from __future__ import annotations

import pytest

from tests.scripted_host import ScriptedHost
from tests.vm.containers.guests import (
    BOX,
    SANDBOX_HOSTNAME,
    Guest,
    allow,
    blank_disk,
    pid_of_box,
    run_inside,
    run_to_end,
    running,
)

pytestmark = pytest.mark.asyncio(loop_scope="package")

AGENT_OOM_SCORE = "-997"
LIMIT_BYTES = 48 << 20


async def test_the_memory_limit(guest: Guest, host: ScriptedHost) -> None:
    spec = host.spec("sleep", "1000", container_id=BOX)
    spec.Linux.Resources.Memory.Limit = LIMIT_BYTES
    async with running(host, spec=spec):
        assert await guest.shell.run(f"cat /sys/fs/cgroup/{BOX}/memory.max") == str(LIMIT_BYTES)


async def test_oom_scores(guest: Guest, host: ScriptedHost) -> None:
    """Each process has the one it asks for; the agent's own, changed for crun's sake, comes back."""
    async with running(host, spec=host.spec("sleep", "1000", container_id=BOX, OOMScoreAdj=300)):
        for exec_id, score in (("high", 500), ("none", 0)):
            process = host.process("cat", "/proc/self/oom_score_adj", OOMScoreAdj=score)
            await host.call("ExecProcess", container_id=BOX, exec_id=exec_id, process=process)
            assert await host.output(BOX, exec_id) == f"{score}\n".encode()
        pid = await pid_of_box(guest)
        scores = await guest.shell.run(f"cat /proc/{pid}/oom_score_adj /proc/1/oom_score_adj")
        assert scores.split() == ["300", AGENT_OOM_SCORE]


async def test_the_guests_disk_is_out_of_reach(guest: Guest, host: ScriptedHost) -> None:
    """A node for it can be made, but not opened, not even where the host allows every device."""
    async with blank_disk(guest):
        spec = host.spec("sleep", "1000", container_id=BOX)
        spec.Linux.Resources.Devices.add(Allow=True, Type="a", Access="rwm")
        allow(spec, "CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN")
        async with running(host, spec=spec):
            for disk in ("vdb", "vda"):
                numbers = (await guest.shell.run(f"cat /sys/block/{disk}/dev")).replace(":", " ")
                assert await run_inside(host, f"mknod /dev/{disk} b {numbers}", exec_id=disk) == (0, b"")
            assert await run_inside(host, "head -c 1 /dev/vdb", exec_id="other") == (0, b"\0")
            for name, attempt in (("read", "head -c 1 /dev/vda"), ("mount", "mount -r /dev/vda /tmp")):
                status, said = await run_inside(host, attempt, exec_id=name)
                assert status != 0
                assert b"not permitted" in said or b"denied" in said


async def test_no_device_without_leave(guest: Guest, host: ScriptedHost) -> None:
    """Where the host's spec names no device, a container has the usual ones alone."""
    async with blank_disk(guest):
        spec = host.spec("sleep", "1000", container_id=BOX)
        allow(spec, "CAP_MKNOD", "CAP_DAC_OVERRIDE")
        async with running(host, spec=spec):
            numbers = (await guest.shell.run("cat /sys/block/vdb/dev")).replace(":", " ")
            assert await run_inside(host, "head -c 1 /dev/zero", exec_id="usual") == (0, b"\0")
            status, said = await run_inside(
                host, f"mknod /dev/own b {numbers}; head -c 1 /dev/own", exec_id="own"
            )
            assert status != 0
            assert b"Operation not permitted" in said


async def test_volumes(guest: Guest, host: ScriptedHost) -> None:
    """What is written into a volume is on the host; into a read-only one nothing can be written."""
    open_here, open_there = guest.share(f"open-{host.client.wire}")
    closed_here, closed_there = guest.share(f"closed-{host.client.wire}")
    (closed_here / "old").write_text("old\n")
    spec = host.spec("sleep", "1000", container_id=BOX)
    spec.Mounts.add(destination="/open", source=open_there, type="bind", options=["bind"])
    spec.Mounts.add(destination="/closed", source=closed_there, type="bind", options=["bind", "ro"])
    async with running(host, spec=spec):
        assert await run_inside(host, "echo new > /open/new; cat /closed/old", exec_id="may") == (0, b"old\n")
        for number, attempt in enumerate(("> /closed/new", "rm /closed/old", "touch /closed/old")):
            status, said = await run_inside(host, attempt, exec_id=f"may-not-{number}")
            assert status != 0
            assert b"Read-only file system" in said
    assert (open_here / "new").read_text() == "new\n"
    assert [path.name for path in closed_here.iterdir()] == ["old"]


async def test_host_names(guest: Guest, host: ScriptedHost) -> None:
    """The sandbox's containers share its name, whatever one of them asks for; the guest keeps its own."""
    own = await guest.shell.run("hostname")
    assert own != SANDBOX_HOSTNAME
    spec = host.spec("hostname", container_id=BOX)
    spec.Hostname = "inside"
    assert await run_to_end(host, spec=spec) == (0, f"{SANDBOX_HOSTNAME}\n".encode())
    assert await guest.shell.run("hostname") == own

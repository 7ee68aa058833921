"""Limits, figures, freezing and want of memory of real containers, through both wires."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.privileged.agents import (
    BOTH_WIRES,
    CGROUP,
    AgentProcess,
    Host,
    Wire,
    agent_process,
    guest_state,
    host_of,
)

MIB = 1 << 20

pytestmark = [
    BOTH_WIRES,
    pytest.mark.skipif(not Path("/sys/fs/cgroup/memory").is_dir(), reason="looks at cgroup v1 files"),
]


@pytest.fixture
def agent(run_dir: Path) -> Iterator[AgentProcess]:
    with agent_process(run_dir) as process:
        yield process


@pytest.fixture
async def host(agent: AgentProcess, wire: Wire, busybox_rootfs: Path, run_dir: Path) -> AsyncIterator[Host]:
    async with host_of(agent, wire, busybox_rootfs) as host:
        before = guest_state(ignored=run_dir)
        await host.call("CreateSandbox", sandbox_id="s1")
        yield host
        await host.finish()
        assert guest_state(ignored=run_dir) == before


def limit(controller: str, file: str, container_id: str = "c1") -> str:
    """What a file of the container's cgroup reads."""
    return Path(f"/sys/fs/cgroup/{controller}{CGROUP}/{container_id}/{file}").read_text().strip()


async def update(host: Host, **resources: Any) -> None:
    """UpdateContainer of c1."""
    await host.call("UpdateContainer", container_id="c1", resources=resources)


async def test_new_limits(host: Host) -> None:
    await host.run("c1", "sleep", "1000")
    await update(
        host,
        CPU={"Shares": 512, "Quota": 40000, "Period": 80000},
        Memory={"Limit": 64 * MIB, "Swap": 64 * MIB, "Reservation": 32 * MIB},
        Pids={"Limit": 33},
    )
    assert limit("cpu", "cpu.shares") == "512"
    assert limit("cpu", "cpu.cfs_quota_us") == "40000"
    assert limit("cpu", "cpu.cfs_period_us") == "80000"
    assert limit("memory", "memory.limit_in_bytes") == str(64 * MIB)
    assert limit("memory", "memory.memsw.limit_in_bytes") == str(64 * MIB)
    assert limit("memory", "memory.soft_limit_in_bytes") == str(32 * MIB)
    assert limit("pids", "pids.max") == "33"
    # Both at once upwards: the memory limit cannot go beyond that of memory and swap, which comes later.
    await update(host, Memory={"Limit": 128 * MIB, "Swap": 128 * MIB})
    assert limit("memory", "memory.limit_in_bytes") == str(128 * MIB)
    # And downwards, where memory and swap cannot go below memory.
    await update(host, Memory={"Limit": 32 * MIB, "Swap": 32 * MIB})
    assert limit("memory", "memory.memsw.limit_in_bytes") == str(32 * MIB)


async def test_zero_leaves_a_limit_and_minus_one_takes_it_away(host: Host) -> None:
    await host.run("c1", "sleep", "1000")
    await update(host, CPU={"Quota": 40000}, Memory={"Limit": 64 * MIB}, Pids={"Limit": 33})
    await update(host, CPU={"Shares": 300}, Memory={}, Pids={"Limit": 0})
    assert limit("cpu", "cpu.shares") == "300"
    assert limit("cpu", "cpu.cfs_quota_us") == "40000"
    assert limit("memory", "memory.limit_in_bytes") == str(64 * MIB)
    assert limit("pids", "pids.max") == "33"
    await update(host, CPU={"Quota": -1}, Memory={"Limit": -1}, Pids={"Limit": -1})
    assert limit("cpu", "cpu.cfs_quota_us") == "-1"
    assert int(limit("memory", "memory.limit_in_bytes")) > 1 << 60
    assert int(limit("memory", "memory.memsw.limit_in_bytes")) > 1 << 60
    assert limit("pids", "pids.max") == "max"
    assert limit("cpu", "cpu.shares") == "300"


async def test_an_update_that_fails_changes_nothing(host: Host) -> None:
    await host.run("c1", "sleep", "1000")
    await update(host, CPU={"Shares": 512}, Pids={"Limit": 33})
    code, message = await host.refused(
        "UpdateContainer",
        container_id="c1",
        resources={"CPU": {"Shares": 1024, "Period": 1}, "Pids": {"Limit": 44}},
    )
    assert (code, "cpu.cfs_period_us to 1" in message) == (2 if host.is_old else 13, True), message
    assert limit("cpu", "cpu.shares") == "512"
    assert limit("pids", "pids.max") == "33"


async def test_cpus(host: Host) -> None:
    """Those that the guest lacks: all that there are, or (later hosts) no change and no failure."""
    await host.run("c1", "sleep", "1000")
    everything = limit("cpuset", "cpuset.cpus")
    await update(host, CPU={"Cpus": "0", "Mems": "0"})
    assert limit("cpuset", "cpuset.cpus") == "0"
    # The directory above holds the sandbox's other containers: it keeps what it had.
    assert limit("cpuset", "cpuset.cpus", ".") == everything
    await update(host, CPU={"Cpus": "0,8000", "Shares": 77})
    assert limit("cpuset", "cpuset.cpus") == (everything if host.is_old else "0")
    assert limit("cpu", "cpu.shares") == "77"
    code, message = await host.refused("UpdateContainer", container_id="c1", resources={"CPU": {"Cpus": "x"}})
    assert (code, '"x" is no list of CPUs' in message) == (2 if host.is_old else 3, True)


async def test_a_parent_is_widened_for_a_cpu(host: Host) -> None:
    await host.run("c1", "sleep", "1000")
    everything = limit("cpuset", "cpuset.cpus")
    if everything == "0":
        pytest.skip("one CPU cannot be told from all")
    await update(host, CPU={"Cpus": "0"})
    Path(f"/sys/fs/cgroup/cpuset{CGROUP}/cpuset.cpus").write_text("0")
    await update(host, CPU={"Cpus": everything})
    assert limit("cpuset", "cpuset.cpus") == everything
    assert limit("cpuset", "cpuset.cpus", ".") == everything


async def test_update_of_nothing(host: Host) -> None:
    await host.run("c1", "sleep", "1000")
    if host.is_old:
        code, message = await host.refused("UpdateContainer", container_id="c1")
        assert (code, message) == (2, "Resources in the request are nil")
    else:
        await host.call("UpdateContainer", container_id="c1")


@pytest.mark.parametrize("method", ["UpdateContainer", "StatsContainer", "PauseContainer", "ResumeContainer"])
async def test_unknown_containers(host: Host, method: str) -> None:
    code, message = await host.refused(method, container_id="nobody")
    assert (code, message) == (5 if host.is_old else 3, 'container "nobody" not found')


async def test_figures(host: Host) -> None:
    await host.run(
        "c1", "sh", "-c", "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; echo done; sleep 1000"
    )
    await update(host, Memory={"Limit": 64 * MIB}, Pids={"Limit": 50})
    assert await host.read("c1") == b"done\n"
    stats = await host.call("StatsContainer", container_id="c1")
    cgroup = stats.cgroup_stats
    cpu = cgroup.cpu_stats.cpu_usage
    assert cpu.total_usage > 1_000_000
    assert sum(cpu.percpu_usage) == pytest.approx(cpu.total_usage, rel=0.05)
    assert len(cpu.percpu_usage) >= os.cpu_count()  # type: ignore[operator] # None only where unknown
    assert cpu.usage_in_usermode > 0
    assert cgroup.memory_stats.usage.limit == 64 * MIB
    assert 0 < cgroup.memory_stats.usage.usage <= cgroup.memory_stats.usage.max_usage
    assert cgroup.memory_stats.stats["rss"] > 0
    assert (cgroup.pids_stats.current, cgroup.pids_stats.limit) == (1, 50)
    assert cgroup.HasField("blkio_stats")
    names = {each.name for each in stats.network_stats}
    assert names == set(os.listdir("/sys/class/net")) - {"lo"}


async def test_figures_of_a_container_that_has_stopped(host: Host) -> None:
    await host.run("c1", "true")
    await host.wait("c1")
    stats = await host.call("StatsContainer", container_id="c1")
    assert stats.cgroup_stats.cpu_stats.cpu_usage.total_usage > 0
    assert list(stats.network_stats) == []


async def test_pause_and_resume(host: Host) -> None:
    await host.run("c1", "sh", "-c", "while :; do echo tick; sleep 0.01; done")
    assert await host.read("c1") != b""
    names: dict[str, Any] = {"container_id": "c1"}
    code, _ = await host.refused("ResumeContainer", **names)
    assert code == (2 if host.is_old else 13)
    await host.call("PauseContainer", **names)
    assert limit("freezer", "freezer.state") == "FROZEN"
    code, message = await host.refused("PauseContainer", **names)
    assert (code, "paused" in message) == (2 if host.is_old else 13, True)
    assert (await host.call("StatsContainer", **names)).cgroup_stats.pids_stats.current >= 1
    await update(host, Pids={"Limit": 9})
    await host.call("ResumeContainer", **names)
    assert limit("freezer", "freezer.state") == "THAWED"
    assert b"tick" in await host.read("c1")


async def test_a_paused_container_is_killed_and_removed(host: Host) -> None:
    for container_id in ("c1", "c2"):
        await host.run(container_id, "sleep", "1000")
        await host.call("PauseContainer", container_id=container_id)
    await host.call("SignalProcess", container_id="c1", exec_id="c1", signal=9)
    assert await host.wait("c1") == 137
    await host.remove("c1")
    await host.remove("c2")


async def test_pausing_races_with_removal(host: Host) -> None:
    await host.run("c1", "sleep", "1000")
    results = await asyncio.gather(
        host.call("PauseContainer", container_id="c1"),
        host.call("RemoveContainer", container_id="c1"),
        host.call("PauseContainer", container_id="c1"),
        return_exceptions=True,
    )
    assert not isinstance(results[1], BaseException), results
    assert (await host.refused("StatsContainer", container_id="c1"))[0] == (5 if host.is_old else 3)


async def test_stopped_containers_take_no_more_orders(host: Host) -> None:
    await host.run("c1", "true")
    await host.wait("c1")
    for method in ("PauseContainer", "ResumeContainer"):
        code, message = await host.refused(method, container_id="c1")
        assert (code, "stopped" in message) == (2 if host.is_old else 13, True)
    code, _ = await host.refused("UpdateContainer", container_id="c1", resources={"Pids": {"Limit": 9}})
    assert code == (2 if host.is_old else 9)


async def test_what_has_outlived_its_container_is_killed(host: Host) -> None:
    """In a shared pid namespace the end of a container's first process is not that of the others."""
    if host.is_old:
        return  # 1.x drops signals to a container that has stopped
    # Who inherits the orphan has to collect it, too: as a zombie it would still be counted.
    await host.run("c1", "sh", "-c", "while :; do sleep 0.05; done")
    script = "setsid sleep 1000 & exit 0"
    await host.run("c2", "sh", "-c", script, sandbox_pidns=True)
    assert await host.wait("c2") == 0
    stats = await host.call("StatsContainer", container_id="c2")
    assert stats.cgroup_stats.pids_stats.current == 1
    await host.call("SignalProcess", container_id="c2", exec_id="", signal=9)
    async with asyncio.timeout(10):
        while stats.cgroup_stats.pids_stats.current:  # v1 tells nobody that a cgroup has become empty
            stats = await host.call("StatsContainer", container_id="c2")


async def run_out_of_memory(host: Host, container_id: str) -> None:
    """A container that takes more memory than it may have, and is killed for it."""
    spec = host.spec("sh", "-c", "read x; tail /dev/zero; exit $?", container_id=container_id)
    spec.Linux.Resources.Memory.Limit = 16 * MIB
    spec.Linux.Resources.Memory.Swap = 16 * MIB
    await host.run(container_id, spec=spec)
    await host.call("WriteStdin", container_id=container_id, exec_id=container_id, data=b"go\n")


async def test_want_of_memory(host: Host) -> None:
    first, second = (asyncio.create_task(host.call("GetOOMEvent", None)) for _ in range(2))
    await run_out_of_memory(host, "c1")
    assert await host.wait("c1") == 137
    done, _ = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    assert [task.result().container_id for task in done] == ["c1"]
    assert len(done) == 1  # one event, one caller
    await run_out_of_memory(host, "c2")
    last = second if first in done else first
    assert (await asyncio.wait_for(last, 20)).container_id == "c2"
    assert await host.wait("c2") == 137


async def test_an_event_waits_for_its_caller(host: Host) -> None:
    await run_out_of_memory(host, "c1")
    await host.wait("c1")
    await host.remove("c1")
    assert (await host.call("GetOOMEvent")).container_id == "c1"


async def test_the_sandbox_s_own_container_is_not_watched_for_later_hosts(host: Host) -> None:
    await run_out_of_memory(host, "s1")
    await host.wait("s1")
    await run_out_of_memory(host, "c1")
    assert (await host.call("GetOOMEvent")).container_id == ("s1" if host.is_old else "c1")


async def test_waiting_ends_with_the_sandbox_of_a_later_host(
    agent: AgentProcess, wire: Wire, busybox_rootfs: Path
) -> None:
    async with host_of(agent, wire, busybox_rootfs) as host:
        await host.call("CreateSandbox", sandbox_id="s1")
        waiting = [asyncio.create_task(host.refused("GetOOMEvent", timeout_s=None)) for _ in range(2)]
        await host.call("Check")
        await host.finish()
        if host.is_old:
            done, _ = await asyncio.wait(waiting, timeout=0.2)
            assert not done
            for task in waiting:
                task.cancel()
        else:
            assert await asyncio.gather(*waiting) == [(13, "")] * 2


async def test_processes(host: Host) -> None:
    if not host.is_old:
        assert (await host.refused("GetDiagnosticData", log_type="core", container_id="c1"))[0] == 3
        return
    await host.run("c1", "sh", "-c", "sleep 1001 & echo $!; read x")
    assert await host.read("c1") != b""

    async def listed(**fields: Any) -> str:
        answer = await host.call("ListProcesses", container_id="c1", **fields)
        return bytes(answer.process_list).decode()

    pids = json.loads(await listed(format="json"))
    assert len(pids) == 2
    title, *lines = (await listed(format="table")).splitlines()
    assert title.split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert [int(line.split()[1]) for line in lines] == pids
    title, *lines = (await listed(format="table", args=["-eo", "pid,comm=NAME"])).splitlines()
    assert title.split() == ["PID", "NAME"]
    assert [line.split() for line in lines] == [
        [str(pid), name] for pid, name in zip(pids, ("sh", "sleep"), strict=True)
    ]
    for fields, told in (
        ({"format": "xml"}, "invalid format option"),
        ({"format": "table", "args": ["-o", "user"]}, "no column PID"),
        ({"format": "table", "args": ["-Z"]}, "ps option Z"),
    ):
        code, message = await host.refused("ListProcesses", container_id="c1", **fields)
        assert (code, told in message) == (2, True), message
    assert (await host.refused("ListProcesses", container_id="nobody", format="json"))[0] == 5

"""The guest itself, as a host finds and changes it through a running agent."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from host.client import AgentCallError
from tests.fakes.disks import loop_device
from tests.privileged.agents import BOTH_WIRES, Host, Wire, agent_process, host_of

SECONDS_OF_2262 = 1 << 62

NAT = b"""*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8080
COMMIT
"""
FILTER_6 = b"""*filter
:INPUT ACCEPT [0:0]
-A INPUT -s fd00::1/128 -j DROP
COMMIT
"""

# The calls that only later hosts know.
LATER = (
    "GetMetrics", "GetVolumeStats", "ResizeVolume", "GetIPTables", "SetIPTables", "AddSwap", "AddSwapPath",
    "UpdateEphemeralMounts", "RemoveStaleVirtiofsShareMounts", "MemAgentMemcgSet", "MemAgentCompactSet",
)  # fmt: skip


@contextlib.asynccontextmanager
async def serving(wire: Wire, directory: Path, rootfs: Path) -> AsyncIterator[Host]:
    """A host of an agent that has a network of its own."""
    with agent_process(directory, prefix=["unshare", "-n"]) as agent:
        async with host_of(agent, wire, rootfs) as host:
            yield host


@pytest.fixture(params=["ttrpc", "grpc"])
async def host(request: pytest.FixtureRequest, busybox_rootfs: Path, run_dir: Path) -> AsyncIterator[Host]:
    async with serving(request.param, run_dir, busybox_rootfs) as host:
        yield host


@pytest.fixture
async def new_host(busybox_rootfs: Path, run_dir: Path) -> AsyncIterator[Host]:
    async with serving("ttrpc", run_dir, busybox_rootfs) as host:
        yield host


async def test_cpus_that_are_there(host: Host) -> None:
    """Nothing is plugged in here: what a host asks for is there already, or it does not wait."""
    before = Path("/sys/devices/system/cpu/online").read_text()
    await host.call("OnlineCPUMem", nb_cpus=1, cpu_only=True)
    await host.call("OnlineCPUMem", wait=True)
    assert Path("/sys/devices/system/cpu/online").read_text() == before
    if host.is_old:
        code, message = await host.refused("OnlineCPUMem", wait=True, cpu_only=True)
        assert (code, "must be greater than 0" in message) == (2, True)


async def test_memory_by_probe(host: Host) -> None:
    """A kernel without the probe says so, in words that name what is missing."""
    await host.call("MemHotplugByProbe")
    has_probe = Path("/sys/devices/system/memory/probe").exists()
    if not has_probe:
        code, message = await host.refused("MemHotplugByProbe", memHotplugProbeAddr=[1 << 40])
        assert (code, "CONFIG_ARCH_MEMORY_PROBE" in message) == (12, True)
    details = await host.call("GetGuestDetails", mem_hotplug_probe=True)
    assert details.support_mem_hotplug_probe == has_probe


async def test_times_beyond_the_clock(host: Host) -> None:
    for fields in ({"Sec": -1}, {"Sec": SECONDS_OF_2262}, {"Sec": 1, "Usec": 1_000_000}, {"Usec": -1}):
        code, message = await host.refused("SetGuestDateTime", **fields)
        assert (code, "EINVAL" in message) == (13, True), fields


async def test_entropy(host: Host) -> None:
    await host.call("ReseedRandomDev", data=os.urandom(3 << 20))
    code, message = await host.refused("ReseedRandomDev")
    assert (code, message) == (2 if host.is_old else 13, "missing entropy data")


@BOTH_WIRES
async def test_entropy_that_the_kernel_does_not_count(
    wire: Wire, busybox_rootfs: Path, run_dir: Path
) -> None:
    """Without CAP_SYS_ADMIN: an old host's bytes are mixed in and it is content, a later one hears of it."""
    with agent_process(run_dir, prefix=["setpriv", "--bounding-set=-sys_admin"]) as agent:
        async with host_of(agent, wire, busybox_rootfs) as host:
            if host.is_old:
                await host.call("ReseedRandomDev", data=b"x" * 64)
            else:
                code, message = await host.refused("ReseedRandomDev", data=b"x" * 64)
                assert (code, "EPERM" in message) == (13, True)


async def test_calls_that_a_1x_host_does_not_know(busybox_rootfs: Path, run_dir: Path) -> None:
    """They are unimplemented for it, whatever it says."""
    async with serving("grpc", run_dir, busybox_rootfs) as host:
        for method in LATER:
            with pytest.raises(AgentCallError) as caught:
                await host.client._channel.call("grpc.AgentService", method, b"\x0a\x01/", 10.0)
            assert (caught.value.code, method in caught.value.message) == (12, True)


async def test_metrics(new_host: Host) -> None:
    """Of the agent, not of this test; counted; and complete enough for the hosts' dashboards."""
    await new_host.call("GetMetrics")
    text = (await new_host.call("GetMetrics")).metrics
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert values["kata_agent_scrape_count"] == "2"
    resident = int(Path(f"/proc/{new_host.agent.process.pid}/statm").read_text().split()[1]) * 4096
    assert abs(int(values["kata_agent_total_rss"]) - resident) < 16 << 20
    assert int(values['kata_guest_meminfo{item="mem_total"}']) == os.sysconf("SC_PHYS_PAGES") * 4096
    interfaces = {name.split('"')[1] for name in values if name.startswith("kata_guest_netdev_stat")}
    assert interfaces == {"lo"}
    assert any(name.startswith("kata_guest_filesystem_bytes") for name in values)


async def test_packet_filter_rules_of_both_families(new_host: Host) -> None:
    await new_host.call("SetIPTables", data=NAT)
    await new_host.call("SetIPTables", is_ipv6=True, data=FILTER_6)
    rules = bytes((await new_host.call("GetIPTables")).data)
    rules_6 = bytes((await new_host.call("GetIPTables", is_ipv6=True)).data)
    assert b"--dport 80 -j REDIRECT --to-ports 8080" in rules
    assert b"-A INPUT -s fd00::1/128 -j DROP" in rules_6
    assert b"8080" not in rules_6
    await new_host.call("SetIPTables", data=rules)  # what was read can be set again
    assert strip(bytes((await new_host.call("GetIPTables")).data)) == strip(rules)
    await new_host.call("SetIPTables")  # no table, no change
    assert strip(bytes((await new_host.call("GetIPTables")).data)) == strip(rules)


def strip(rules: bytes) -> list[bytes]:
    """Without comments, which have the time in them."""
    return [line for line in rules.splitlines() if not line.startswith(b"#")]


async def test_rules_that_are_none_change_nothing(new_host: Host) -> None:
    await new_host.call("SetIPTables", data=NAT)
    before = strip(bytes((await new_host.call("GetIPTables")).data))
    for bad in (b"nonsense\n", NAT.replace(b"REDIRECT", b"NOWHERE"), b"*nat\n\0\xff\nCOMMIT\n"):
        code, message = await new_host.refused("SetIPTables", data=bad)
        assert (code, "iptables-restore failed" in message) == (13, True)
    assert strip(bytes((await new_host.call("GetIPTables")).data)) == before


@contextlib.contextmanager
def swap_area(directory: Path) -> Iterator[str]:
    """A small disk to swap to; it is given back whatever happens."""
    image = directory / "swap"
    with image.open("wb") as file:
        file.truncate(1 << 20)
    subprocess.run(["mkswap", str(image)], check=True, capture_output=True)
    with loop_device(image) as node:
        try:
            yield node
        finally:
            subprocess.run(["swapoff", node], check=False, capture_output=True)


def swaps() -> list[str]:
    return [line.split()[0] for line in Path("/proc/swaps").read_text().splitlines()[1:]]


async def test_swap_space(new_host: Host, tmp_path: Path) -> None:
    with swap_area(tmp_path) as node:
        await new_host.call("AddSwapPath", path=node)
        assert node in swaps()
        code, message = await new_host.refused("AddSwapPath", path=node)
        assert (code, "EBUSY" in message) == (13, True)
    assert node not in swaps()
    bad = tmp_path / "bad"
    bad.write_bytes(bytes(1 << 16))
    for path, reason in ((str(bad), "EINVAL"), (f"{tmp_path}/missing", "ENOENT"), ("", "absolute")):
        code, message = await new_host.refused("AddSwapPath", path=path)
        assert (code, reason in message) == (13, True)


async def test_swap_to_a_disk_that_never_comes(new_host: Host) -> None:
    code, message = await new_host.refused("AddSwap", PCIPath=[31, 30])
    assert (code, "PCI path 1f.0/1e.0 did not appear" in message) == (13, True)
    for slots in ([], [32], [1 << 31]):
        assert (await new_host.refused("AddSwap", PCIPath=slots))[0] == 13


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("MemAgentMemcgSet", {}),
        ("MemAgentMemcgSet", {"disabled": True, "swappiness_max": 50}),
        ("MemAgentCompactSet", {"compact_order": 9}),
    ],
)
async def test_there_is_no_memory_agent(new_host: Host, method: str, fields: dict[str, Any]) -> None:
    assert await new_host.refused(method, **fields) == (13, "mem-agent is disabled")

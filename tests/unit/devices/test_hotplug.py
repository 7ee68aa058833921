"""CPUs, memory and disks that grow while the guest runs: a made-up sysfs, scripted uevents."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from agent.devices import sysfs
from agent.devices.capacity import Disk
from agent.devices.sysfs import Sysfs
from agent.devices.wait import Devices
from agent.errors import DeadlineExceeded, DeviceTimeout, KernelRefused, Unsupported
from tests.fakes.sysfs import build_sysfs
from tests.fakes.uevents import ScriptedUevents

CPU = "/devices/system/cpu"
MEMORY = "/devices/system/memory"
LONG_S = 30.0  # a wait that must be ended by an event


class Machine:
    """A guest whose kernel, played by the bus, takes notice of what is written to sysfs."""

    def __init__(self, root: Path) -> None:
        self.bus = ScriptedUevents()
        self.sys = build_sysfs(
            root / "sys",
            {
                CPU[1:]: {"online": "0\n", "cpu0/topology": {}, "cpufreq": {}, "cpuidle/online": "0"},
                MEMORY[1:]: {"block_size_bytes": "8000000\n", "memory0/online": "1\n"},
            },
        )

    def devices(self, timeout_s: float = LONG_S) -> Devices:
        return Devices(sysfs_root=str(self.sys), hotplug_timeout_s=timeout_s, bus=self.bus)

    def file(self, devpath: str) -> Path:
        return self.sys / devpath[1:]

    def plug_cpu(self, number: int) -> None:
        build_sysfs(self.sys, {f"{CPU[1:]}/cpu{number}/online": "0\n"})
        self.bus.add("cpu", f"{CPU}/cpu{number}")

    def switched_on(self) -> list[int]:
        return [n for n in range(1, 12) if self._is_on(n)]

    def _is_on(self, number: int) -> bool:
        file = self.file(f"{CPU}/cpu{number}/online")
        return file.exists() and file.read_text() == "1\n"

    async def until_waiting(self) -> None:
        for _ in range(1000):
            if self.bus.listener_count:
                break
            await asyncio.sleep(0)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def follow(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the list of online CPUs follow their switches, as the kernel's does."""
    switch = Sysfs.online_cpu

    def online_cpu(self: Sysfs, devpath: str) -> None:
        switch(self, devpath)
        numbers = ["0", *map(str, machine.switched_on())]
        machine.file(f"{CPU}/online").write_text(",".join(numbers) + "\n")

    monkeypatch.setattr(Sysfs, "online_cpu", online_cpu)


async def test_enough_cpus_are_online_already(machine: Machine) -> None:
    machine.file(f"{CPU}/online").write_text("0-3,6,8-9\n")
    processors = machine.devices().processors
    assert processors.online_count() == 7
    machine.plug_cpu(10)
    await processors.bring_online(7, LONG_S)
    assert machine.switched_on() == []


async def test_no_more_cpus_than_wanted(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(machine, monkeypatch)
    for number in (1, 2, 10):
        machine.plug_cpu(number)
    await machine.devices().processors.bring_online(3, LONG_S)
    assert machine.switched_on() == [1, 2]


async def test_cpus_that_come_later_are_awaited(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(machine, monkeypatch)
    wait = asyncio.ensure_future(machine.devices().processors.bring_online(3, LONG_S))
    await machine.until_waiting()
    for number in (1, 2):
        machine.bus.add("block", "/devices/virtual/block/loop0")  # none of our business
        machine.plug_cpu(number)
    await asyncio.wait_for(wait, 10)
    assert machine.switched_on() == [1, 2]
    assert machine.bus.listener_count == 0


async def test_lost_events_are_made_up_for(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(machine, monkeypatch)
    wait = asyncio.ensure_future(machine.devices().processors.bring_online(2, LONG_S))
    await machine.until_waiting()
    build_sysfs(machine.sys, {f"{CPU[1:]}/cpu1/online": "0\n"})
    machine.bus.lose_events()
    await asyncio.wait_for(wait, 10)


async def test_cpus_that_never_come(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(machine, monkeypatch)
    machine.plug_cpu(1)
    with pytest.raises(DeadlineExceeded, match=r"only 2 of 5 CPUs are online after 0\.1 s"):
        await machine.devices().processors.bring_online(5, 0.1)
    assert machine.switched_on() == [1]
    assert machine.bus.listener_count == 0


async def test_a_cpu_that_the_kernel_refuses(machine: Machine) -> None:
    build_sysfs(machine.sys, {f"{CPU[1:]}/cpu1/online": "0\n"})

    def refuse(self: Sysfs, devpath: str) -> None:
        raise KernelRefused(f"CPU online {devpath} failed (EBUSY)")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sysfs, "online_cpu", refuse)
        with pytest.raises(DeadlineExceeded, match=r"cpu1 failed \(EBUSY\)"):
            await machine.devices().processors.bring_online(2, 0.1)


async def test_a_guest_without_the_list_of_cpus(machine: Machine) -> None:
    machine.file(f"{CPU}/online").unlink()
    with pytest.raises(KernelRefused, match="ENOENT"):
        await machine.devices().processors.bring_online(2, 0.1)


async def test_all_memory_is_put_to_use(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    blocks = {name: {"online": "0\n"} for name in ("memory1", "memory2")}
    build_sysfs(machine.file(MEMORY), {**blocks, "memory3": {"state": "offline"}})
    caplog.set_level(logging.WARNING)
    await machine.devices().memory.bring_online()
    states = [machine.file(f"{MEMORY}/memory{n}/online").read_text() for n in range(3)]
    assert states == ["1\n"] * 3
    assert caplog.records == []


async def test_addresses_are_told_to_the_kernel(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    build_sysfs(machine.file(MEMORY), {"probe": ""})
    written: list[str] = []
    monkeypatch.setattr(sysfs, "_write", lambda path, text: written.append(f"{path.name} {text}"))
    await machine.devices().memory.probe([0x100000000, 0xABC0000, (1 << 64) - 1])
    assert written == ["probe 0x100000000", "probe 0xabc0000", "probe 0xffffffffffffffff"]


async def test_a_kernel_that_cannot_be_told_of_memory(machine: Machine) -> None:
    await machine.devices().memory.probe([])
    with pytest.raises(Unsupported, match="CONFIG_ARCH_MEMORY_PROBE"):
        await machine.devices().memory.probe([1])


def put_disk(machine: Machine, sectors: int) -> None:
    build_sysfs(
        machine.sys, {"dev/block/254:16": {"size": f"{sectors}\n", "uevent": "MAJOR=254\nDEVNAME=vdb\n"}}
    )


async def test_a_disk_that_is_large_enough(machine: Machine) -> None:
    put_disk(machine, 100)
    assert await machine.devices().grown_disk((254, 16), 51200) == Disk("vdb", 51200)


async def test_a_disk_that_is_about_to_grow(machine: Machine) -> None:
    """A SCSI disk is told to look again; then its change is announced."""
    put_disk(machine, 100)
    disk = machine.sys / "dev/block/254:16"
    build_sysfs(machine.sys, {"dev/block/254:16/device/rescan": ""})
    wait = asyncio.ensure_future(machine.devices().grown_disk((254, 16), 51201))
    async with asyncio.timeout(10):
        while (disk / "device/rescan").read_text() != "1":  # noqa: ASYNC110 - a file is no event
            await asyncio.sleep(0)
    # At one stroke, as in the kernel: the disk may be looked at just now.
    (disk / "grown").write_text("200\n")
    (disk / "grown").replace(disk / "size")
    machine.bus.send("change", "block", "/devices/pci0000:00/0000:00:02.0/virtio0/block/vdb")
    assert await asyncio.wait_for(wait, 10) == Disk("vdb", 102400)


async def test_a_disk_that_does_not_grow(machine: Machine) -> None:
    put_disk(machine, 100)
    with pytest.raises(DeviceTimeout, match="/dev/vdb has 51200 bytes and not 99999"):
        await machine.devices(timeout_s=0.05).grown_disk((254, 16), 99999)


async def test_a_number_that_is_no_disks(machine: Machine) -> None:
    with pytest.raises(Unsupported, match="no disk with the device number 0:42"):
        await machine.devices().grown_disk((0, 42), 1)

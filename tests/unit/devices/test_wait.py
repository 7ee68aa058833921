"""Waiting for devices, with a fake tree and scripted uevents; no wait here is longer than it must be."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from agent.devices.address import DeviceNode, MmioAddress, PciPath, ScsiAddress
from agent.devices.uevents import Uevent
from agent.devices.wait import Devices
from agent.errors import DeviceTimeout, InvalidRequest, KernelRefused
from tests.fakes.sysfs import build_sysfs, plug
from tests.fakes.uevents import ScriptedUevents

PATH = PciPath.parse("02/03")
BRIDGE = "/devices/pci0000:00/0000:00:02.0"
DISK = f"{BRIDGE}/0000:01:03.0/virtio0/block/vda"
LONG_S = 30.0  # a wait that must be ended by an event


class Machine:
    """A fake guest with a PCI bus and one bridge."""

    def __init__(self, root: Path) -> None:
        self.sys = build_sysfs(root / "sys", {f"{BRIDGE[1:]}/pci_bus/0000:01": {}, "bus/pci/rescan": ""})
        self.bus = ScriptedUevents()
        self.nodes: set[str] = {"/dev/vda", "/dev/vdb", "/dev/sda"}

    def devices(self, hotplug_timeout_s: float = LONG_S) -> Devices:
        return Devices(
            sysfs_root=str(self.sys),
            hotplug_timeout_s=hotplug_timeout_s,
            bus=self.bus,
            is_node=lambda path: path in self.nodes,
        )

    @property
    def was_rescanned(self) -> bool:
        return (self.sys / "bus/pci/rescan").read_text() == "1"

    async def until_waiting(self, listeners: int = 1) -> None:
        """Let tasks run until so many of them have subscribed and provoked."""
        for _ in range(1000):
            if self.bus.listener_count == listeners and self.was_rescanned:
                break
            await asyncio.sleep(0)
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


async def test_a_disk_that_is_there_is_found_without_provoking(machine: Machine) -> None:
    plug(machine.sys, "block", DISK)
    assert await machine.devices().block_node(PATH) == "/dev/vda"
    assert not machine.was_rescanned
    assert machine.bus.listener_count == 0


async def test_a_disk_that_the_rescan_brings_is_found_even_without_an_event(machine: Machine) -> None:
    devices = machine.devices()
    wait = asyncio.ensure_future(devices.block_node(PATH))
    await machine.until_waiting()
    plug(machine.sys, "block", DISK)
    machine.bus.lose_events()
    assert await wait == "/dev/vda"
    assert machine.was_rescanned


async def test_a_disk_that_comes_later_is_found_by_its_event(machine: Machine) -> None:
    wait = asyncio.ensure_future(machine.devices().block_node(PATH))
    await machine.until_waiting()
    machine.bus.add("block", f"{DISK}/vda1")
    machine.bus.send("remove", "block", DISK)
    assert not wait.done()
    machine.bus.add("block", DISK)
    assert await wait == "/dev/vda"
    assert machine.bus.listener_count == 0


async def test_a_disk_behind_a_bridge_that_is_itself_new(machine: Machine) -> None:
    wait = asyncio.ensure_future(machine.devices().block_node(PciPath.parse("04/01")))
    await machine.until_waiting()
    build_sysfs(machine.sys, {"devices/pci0000:00/0000:00:04.0/pci_bus/0000:02": {}})
    machine.bus.add("block", "/devices/pci0000:00/0000:00:04.0/0000:02:01.0/virtio1/block/vdb")
    assert await wait == "/dev/vdb"


async def test_two_waits_for_one_address_are_both_served(machine: Machine) -> None:
    devices = machine.devices()
    waits = [asyncio.ensure_future(devices.block_node(PATH)) for _ in range(2)]
    await machine.until_waiting(listeners=2)
    machine.bus.add("block", DISK)
    assert await asyncio.gather(*waits) == ["/dev/vda", "/dev/vda"]


async def test_a_deadline_tells_what_was_awaited_and_what_came(machine: Machine) -> None:
    wait = asyncio.ensure_future(machine.devices(0.2).block_node(PATH))
    await machine.until_waiting()
    for number in range(7):
        machine.bus.add("block", f"/devices/virtual/block/loop{number}")
    with pytest.raises(DeviceTimeout) as failure:
        await wait
    text = str(failure.value)
    assert text.startswith("disk at PCI path 02.0/03.0 did not appear within 0.2 s; 7 other uevents")
    assert "loop1," not in text
    assert text.endswith("add /devices/virtual/block/loop6")
    assert machine.bus.listener_count == 0


async def test_an_announced_disk_without_its_node_is_not_there_yet(machine: Machine) -> None:
    machine.nodes.clear()
    plug(machine.sys, "block", DISK)
    with pytest.raises(DeviceTimeout):
        await machine.devices(0.05).block_node(PATH)


async def test_a_cancelled_wait_leaves_no_listener(machine: Machine) -> None:
    wait = asyncio.ensure_future(machine.devices().block_node(PATH))
    await machine.until_waiting()
    wait.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wait
    assert machine.bus.listener_count == 0


async def test_a_bus_that_turns_out_ambiguous_ends_the_wait(machine: Machine) -> None:
    wait = asyncio.ensure_future(machine.devices().block_node(PATH))
    await machine.until_waiting()
    build_sysfs(machine.sys, {f"{BRIDGE[1:]}/pci_bus/0000:09": {}})
    machine.bus.add("block", DISK)
    with pytest.raises(InvalidRequest, match="several PCI buses"):
        await wait
    assert machine.bus.listener_count == 0


async def test_a_scsi_disk_is_scanned_for(machine: Machine) -> None:
    build_sysfs(machine.sys, {"class/scsi_host/host0/scan": ""})
    with pytest.raises(DeviceTimeout, match="SCSI address 0:3"):
        await machine.devices(0.01).block_node(ScsiAddress(0, 3))
    assert (machine.sys / "class/scsi_host/host0/scan").read_text() == "0 0 3"


async def test_an_mmio_disk_is_waited_for_by_its_node_alone(machine: Machine) -> None:
    plug(machine.sys, "block", "/devices/platform/LNRO0005:01/virtio1/block/vdb")
    assert await machine.devices().block_node(MmioAddress("/dev/vdb")) == "/dev/vdb"
    assert not machine.was_rescanned


async def test_a_node_is_not_waited_for(machine: Machine) -> None:
    devices = machine.devices()
    assert await devices.block_node(DeviceNode("/dev/vda")) == "/dev/vda"
    with pytest.raises(InvalidRequest, match="/dev/vdz is no block device"):
        await devices.block_node(DeviceNode("/dev/vdz"))
    assert machine.bus.starts == 0


async def test_a_network_interface_is_found_and_awaited(machine: Machine) -> None:
    devices = machine.devices()
    wait = asyncio.ensure_future(devices.net_interface(PATH))
    await machine.until_waiting()
    machine.bus.add("net", f"{BRIDGE}/0000:01:03.0/virtio0/net/eth7")
    assert await wait == "eth7"
    plug(machine.sys, "net", f"{BRIDGE}/0000:01:03.0/virtio0/net/eth7")
    assert await devices.net_interface(PATH) == "eth7"


async def test_plugged_memory_is_put_to_use(machine: Machine) -> None:
    memory = {"devices/system/memory": {"memory1/online": "0", "memory2/online": "0", "memory3/online": "1"}}
    build_sysfs(machine.sys, memory)
    devices = machine.devices()
    await devices.start()
    await devices.start()
    assert machine.bus.listener_count == 1
    machine.bus.add("memory", "/devices/system/memory/memory1", "")
    machine.bus.send("offline", "memory", "/devices/system/memory/memory2", "")
    machine.bus.add("memory", "/devices/system/memory/memory9", "")  # gone again: a warning, no failure
    await devices.stop()
    states = [(machine.sys / f"devices/system/memory/memory{n}/online").read_text() for n in (1, 2)]
    assert states == ["1", "0"]
    assert machine.bus.listener_count == 0


async def test_lost_events_mean_another_look_at_memory(machine: Machine) -> None:
    build_sysfs(machine.sys, {"devices/system/memory/memory5/online": "0"})
    devices = machine.devices()
    await devices.start()
    machine.bus.lose_events()
    await devices.stop()
    assert (machine.sys / "devices/system/memory/memory5/online").read_text() == "1"


async def test_a_refused_rescan_ends_the_wait_and_its_subscription(machine: Machine) -> None:
    (machine.sys / "bus/pci/rescan").unlink()
    (machine.sys / "bus/pci/rescan").mkdir()
    with pytest.raises(KernelRefused, match="PCI rescan"):
        await machine.devices().block_node(PATH)
    assert machine.bus.listener_count == 0


async def test_a_listener_may_leave_while_an_event_is_delivered() -> None:
    bus, heard = ScriptedUevents(), []
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:

        def once(event: Uevent | None) -> None:
            heard.append("first")
            first.close()

        first.enter_context(bus.subscribe(once))
        second.enter_context(bus.subscribe(lambda event: heard.append("second")))
        bus.add("block", DISK)
        bus.lose_events()
    assert heard == ["first", "second", "second"]

"""Device events of the running kernel."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from agent.devices.address import MmioAddress
from agent.devices.sysfs import Sysfs
from agent.devices.uevents import KernelUevents, Uevent
from agent.devices.wait import Devices
from agent.errors import DeviceTimeout
from agent.linux.namespaces import pin_new_namespace, unpin_namespace
from tests.fakes.disks import new_disk_number, plug_disk


async def test_a_disk_is_found_the_moment_it_is_plugged() -> None:
    devices = Devices(hotplug_timeout_s=10)
    with new_disk_number() as number:
        name = f"loop{number}"
        wait = asyncio.ensure_future(devices.block_node(MmioAddress(f"/dev/{name}")))
        bus = devices._bus
        await bus.start()
        await asyncio.sleep(0)  # lets the wait subscribe
        assert not wait.done()
        plug_disk(number)
        assert await wait == f"/dev/{name}"
        assert await devices.block_node(MmioAddress(f"/dev/{name}")) == f"/dev/{name}"
        [seen] = [device for device in Sysfs().devices("block") if device.name == name]
        assert seen.devpath == f"/devices/virtual/block/{name}"
    await devices.stop()


async def test_an_event_tells_what_the_kernel_tells() -> None:
    bus = KernelUevents()
    await bus.start()
    arrived: asyncio.Future[Uevent] = asyncio.get_running_loop().create_future()
    with new_disk_number() as number:
        devpath = f"/devices/virtual/block/loop{number}"

        def listen(event: Uevent | None) -> None:
            if event and event.device.devpath == devpath and event.action == "add" and not arrived.done():
                arrived.set_result(event)

        with bus.subscribe(listen):
            plug_disk(number)
            event = await asyncio.wait_for(arrived, 10)
    assert (event.device.subsystem, event.device.name) == ("block", f"loop{number}")
    bus.stop()


async def test_the_deadline_of_a_real_wait_quotes_real_events() -> None:
    devices = Devices(hotplug_timeout_s=0.5)
    await devices.start()
    wait = asyncio.ensure_future(devices.block_node(MmioAddress("/dev/never-there")))
    await asyncio.sleep(0)
    with new_disk_number() as number:
        plug_disk(number)
        with pytest.raises(DeviceTimeout, match=rf"/dev/never-there .*add /devices/virtual/.*loop{number}"):
            await wait
    await devices.stop()


def test_a_pinned_namespace_outlives_its_thread(run_dir: Path) -> None:
    path = f"{run_dir}/ns/uts"
    own = socket.gethostname()
    threads = threading.active_count()
    pin_new_namespace("uts", path, "pinned")
    pin_new_namespace("uts", path, "again")  # over what an earlier sandbox left
    assert socket.gethostname() == own
    assert threading.active_count() == threads
    assert hostname_in(path) == "again"
    unpin_namespace(path)
    unpin_namespace(path)


def hostname_in(path: str) -> str:
    """The host name that the uts namespace behind `path` shows."""
    command = ["nsenter", f"--uts={path}", "hostname"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

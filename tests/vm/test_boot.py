"""q35 with 9p: the guest boots, both wires answer, disks come and go while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import get_args

import pytest
import pytest_asyncio

from host import network
from host.client import Wire
from host.errors import HostError, InvalidInput
from host.vm.disks import BlockDriver, Disk
from tests.vm.machines import BootedVm, booted, ext4_disk, short_directory

pytestmark = pytest.mark.asyncio(loop_scope="module")

_STORAGE = "/run/kata-containers/sandbox/storage"
_SHARED = "/run/kata-containers/shared/containers/"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def machine(count_boot: Callable[[], None]) -> AsyncIterator[BootedVm]:
    """One q35 guest on its ext4 image, with a SCSI controller and a network."""
    async with (
        short_directory("q35") as directory,
        booted(directory, count_boot, shared_fs="9p", scsi=True, network="user", cpus=2) as vm,
    ):
        yield vm


@pytest.mark.parametrize("wire", get_args(Wire))
async def test_both_wires_answer(machine: BootedVm, wire: Wire) -> None:
    async with await machine.client(wire) as client:
        check = await client.call("Check", client.messages.CheckRequest())
        assert check.status == client.messages.HealthCheckResponse.SERVING
        version = await client.call("Version", client.messages.CheckRequest())
        assert version.agent_version


async def test_the_agent_is_process_1_on_a_read_only_root(machine: BootedVm) -> None:
    async with await machine.shell() as shell:
        assert "/sbin/init" in await shell.run("tr '\\0' ' ' < /proc/1/cmdline")
        assert await shell.run("awk '$2 == \"/\" { print $3, substr($4, 1, 2) }' /proc/mounts") == "ext4 ro"
        # Not even root can make the disk itself writable.
        assert await shell.run("cat /sys/block/vda/ro") == "1"


async def test_the_network_of_the_host_side(machine: BootedVm) -> None:
    async with await machine.client("ttrpc") as client, await machine.shell() as shell:
        await client.call("UpdateInterface", network.update_interface_request(client.messages))
        await client.call("UpdateRoutes", network.update_routes_request(client.messages))
        assert "10.0.2.15/24" in await shell.run("ip -4 -o address show dev eth0")
        assert "default via 10.0.2.2" in await shell.run("ip route")


async def test_share_and_plugged_disks_are_mounted(machine: BootedVm) -> None:
    """One CreateSandbox mounts the share and one disk of either bus, plugged in just before."""
    (machine.share / "note").write_text("from the host")
    pci = ext4_disk(machine.share / "pci.img", "on-pci", "a PCI disk")
    scsi = ext4_disk(machine.share / "scsi.img", "on-scsi", "a SCSI disk")
    plugged = [
        await machine.vm.plug_block(pci, "virtio-blk"),
        await machine.vm.plug_block(scsi, "virtio-scsi"),
    ]
    assert [(disk.driver, disk.source) for disk in plugged] == [("blk", "02/01"), ("scsi", "0:0")]
    messages = machine.ttrpc.messages
    share = messages.Storage(
        driver="9p",
        source="kataShared",
        fstype="9p",
        mount_point=_SHARED,
        options=["trans=virtio,version=9p2000.L,cache=mmap", "nodev", "msize=524288"],
    )
    disks = [
        messages.Storage(
            driver=disk.driver,
            source=disk.source,
            fstype="ext4",
            mount_point=f"{_STORAGE}/{disk.disk_id}",
            options=["ro"],
        )
        for disk in plugged
    ]
    request = messages.CreateSandboxRequest(sandbox_id="boot", hostname="guest", storages=[share, *disks])
    await machine.ttrpc.call("CreateSandbox", request)
    async with await machine.shell() as shell:
        assert await shell.run(f"cat {_SHARED}note") == "from the host"
        assert await shell.run(f"cat {_STORAGE}/on-pci/hello") == "a PCI disk"
        assert await shell.run(f"cat {_STORAGE}/on-scsi/hello") == "a SCSI disk"
        assert await shell.run(f"grep -c {_STORAGE}/ /proc/mounts") == "2"
        await shell.run(f"umount {_STORAGE}/on-pci {_STORAGE}/on-scsi")
    await machine.vm.unplug("on-pci")
    await machine.vm.unplug("on-scsi")
    async with await machine.shell() as shell:
        assert await shell.run("ls /sys/block | grep -v loop") == "vda"


@pytest.mark.parametrize("driver", get_args(BlockDriver))
async def test_a_disk_that_cannot_be_opened(machine: BootedVm, driver: BlockDriver) -> None:
    with pytest.raises(HostError, match=r"disk .*/none cannot be opened: .*No such file"):
        await machine.vm.plug_block(Disk("none", machine.share / "none"), driver)


async def test_many_disks_at_once(machine: BootedVm) -> None:
    """Addresses are the lowest free, and all come back when the disks go."""
    image = machine.share / "empty.img"
    image.write_bytes(bytes(1024 * 1024))
    disks = [Disk(f"many-{number}", image, read_only=True) for number in range(4)]
    for _ in range(2):
        plugged = await asyncio.gather(*(machine.vm.plug_block(disk, "virtio-blk") for disk in disks))
        assert [disk.source for disk in plugged] == ["02/01", "02/02", "02/03", "02/04"]
        async with await machine.shell() as shell:
            await shell.run("while [ $(ls /sys/block | grep -c vd) != 5 ]; do sleep 0.05; done")
        await asyncio.gather(*(machine.vm.unplug(disk.id) for disk in disks))


async def test_a_cold_disk_it_does_not_have(machine: BootedVm) -> None:
    with pytest.raises(InvalidInput, match="was started without a disk nothing"):
        machine.vm.cold_disk("nothing")

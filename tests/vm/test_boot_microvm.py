"""microvm with virtio-fs, whole root in memory: no PCI, disks on virtio-mmio in the order given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from host.errors import InvalidInput
from host.vm.disks import Disk
from tests.vm.machines import BootedVm, booted, ext4_disk, short_directory

pytestmark = pytest.mark.asyncio(loop_scope="module")

_STORAGE = "/run/kata-containers/sandbox/storage"
_SHARED = "/run/kata-containers/shared/containers/"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def machine(count_boot: Callable[[], None]) -> AsyncIterator[BootedVm]:
    """One microvm guest with two disks, its root in memory."""
    async with short_directory("micro") as directory:
        disks = tuple(ext4_disk(directory / f"{name}.img", name, f"disk {name}") for name in ("one", "two"))
        figures = {"machine": "microvm", "form": "initrd", "shared_fs": "virtio-fs", "cold_disks": disks}
        async with booted(directory, count_boot, memory_mib=768, **figures) as vm:
            yield vm


async def test_disks_are_where_the_host_says(machine: BootedVm) -> None:
    (machine.share / "note").write_text("from the host")
    plugged = [machine.vm.cold_disk(name) for name in ("one", "two")]
    assert [(disk.driver, disk.source) for disk in plugged] == [
        ("mmioblk", "/dev/vda"),
        ("mmioblk", "/dev/vdb"),
    ]
    messages = machine.ttrpc.messages
    share = messages.Storage(driver="virtio-fs", source="kataShared", fstype="virtiofs", mount_point=_SHARED)
    disks = [
        messages.Storage(
            driver=disk.driver, source=disk.source, fstype="ext4", mount_point=f"{_STORAGE}/{disk.disk_id}"
        )
        for disk in plugged
    ]
    request = messages.CreateSandboxRequest(sandbox_id="micro", storages=[share, *disks])
    await machine.ttrpc.call("CreateSandbox", request)
    async with await machine.shell() as shell:
        assert await shell.run(f"cat {_SHARED}note") == "from the host"
        assert await shell.run(f"cat {_STORAGE}/one/hello {_STORAGE}/two/hello") == "disk onedisk two"
        # ACPI's name for a virtio-mmio transport (QEMU, hw/acpi/aml-build: virtio_acpi_dsdt_add).
        assert "/platform/LNRO0005:" in await shell.run("readlink /sys/block/vda")


async def test_the_root_is_in_memory(machine: BootedVm) -> None:
    async with await machine.shell() as shell:
        assert await shell.run("awk '$2 == \"/\" { print $3 }' /proc/mounts") in {"rootfs", "tmpfs", "ramfs"}


async def test_takes_no_disk_while_it_runs(machine: BootedVm) -> None:
    with pytest.raises(InvalidInput, match="microvm takes no disk while it runs"):
        await machine.vm.plug_block(Disk("late", Path("/none")), "virtio-blk")

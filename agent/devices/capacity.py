"""Disks that grow while the guest runs.

The host enlarges the disk behind a volume; the guest's driver notices by itself (virtio-blk), or when
it is told to look again (SCSI), and the kernel announces a change of the disk.
Source: Documentation/ABI/testing/sysfs-block and sysfs-devices (`rescan` of a SCSI device).
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.devices.changes import wait_until
from agent.devices.sysfs import Sysfs
from agent.devices.uevents import UeventBus
from agent.errors import DeviceTimeout


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk, or a partition, as it is now."""

    name: str
    """Its node below /dev."""
    size_bytes: int


async def wait_for_capacity(
    number: tuple[int, int], size_bytes: int, *, sysfs: Sysfs, bus: UeventBus, timeout_s: float
) -> Disk:
    """The disk with the device `number` once it has `size_bytes`.

    Raises DeviceTimeout if it has not grown so far within `timeout_s`; Unsupported if `number` is no
    disk's; KernelRefused.
    """

    def look() -> Disk | None:
        name, size = sysfs.disk(number)
        return Disk(name, size) if size >= size_bytes else None

    if (disk := look()) is not None:  # a few bytes of sysfs, read on the loop
        return disk
    sysfs.rescan_disk(number)
    disk = await wait_until(
        bus, look, concerns=lambda event: event.device.subsystem == "block", timeout_s=timeout_s
    )
    if disk is None:
        name, size = sysfs.disk(number)
        raise DeviceTimeout(
            f"disk /dev/{name} has {size} bytes and not {size_bytes} after {timeout_s:g} s",
            hint="the host enlarges the disk before it asks for the volume to be resized",
        )
    return disk

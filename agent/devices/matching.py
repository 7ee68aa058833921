"""Which device an address means: one test for a device seen in sysfs and one that a uevent announces.

The shapes of the devpaths are the kernel's; docs/storage-drivers.md, "Addresses", shows each.
Only whole disks match, never their partitions.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from agent.devices.address import CcwAddress, DeviceAddress, DeviceNode, PciPath, PmemAddress, ScsiAddress
from agent.devices.sysfs import KernelDevice, Sysfs

Matcher = Callable[[KernelDevice], bool]


def block_matcher(address: DeviceAddress, sysfs: Sysfs) -> Matcher:
    """The test for the disk at `address`."""
    is_there = _place_matcher(address, sysfs)
    return lambda device: device.subsystem == "block" and bool(device.name) and is_there(device)


def interface_matcher(path: PciPath, sysfs: Sysfs) -> Matcher:
    """The test for a network interface of the PCI device at `path`."""

    def matches(device: KernelDevice) -> bool:
        place = sysfs.pci_devpath(path)
        return (
            device.subsystem == "net"
            and bool(device.name)
            and place is not None
            and device.devpath.startswith(f"{place}/")
        )

    return matches


def _place_matcher(address: DeviceAddress, sysfs: Sysfs) -> Matcher:
    match address:
        case PciPath():
            return lambda device: _is_virtio_disk_of(sysfs.pci_devpath(address), device.devpath)
        case CcwAddress():
            subchannel = r"0\.[0-3]\.[0-9a-f]{1,4}"
            return _pattern_matcher(
                rf"/devices/css0/{subchannel}/{re.escape(str(address))}/virtio\d+/block/[^/]+"
            )
        case ScsiAddress(target, lun):
            # Any virtio host, since an AHCI controller may have taken the lower host numbers.
            return _pattern_matcher(
                rf".*/virtio\d+/host(\d+)/target\1:0:{target}/\1:0:{target}:{lun}/block/[^/]+"
            )
        case PmemAddress(path):
            name = re.escape(path.removeprefix("/dev/"))
            return _pattern_matcher(rf"/devices/(LNXSYSTM.*|.*/ndbus\d+/.*)/block/{name}")
        case DeviceNode():
            return lambda device: (
                device.name == address.name
                and device.devpath.endswith(f"/block/{address.name.replace('/', '!')}")
            )


def _is_virtio_disk_of(place: str | None, devpath: str) -> bool:
    """Whether `devpath` is the whole virtio disk of the PCI device at `place`."""
    return (
        place is not None
        and devpath.startswith(place)
        and re.fullmatch(r"/virtio\d+/block/[^/]+", devpath[len(place) :]) is not None
    )


def _pattern_matcher(pattern: str) -> Matcher:
    compiled = re.compile(pattern)
    return lambda device: compiled.fullmatch(device.devpath) is not None

"""Device requests: checks, types, and what the spec is told."""

from __future__ import annotations

import os

import pytest

from agent.devices.address import DeviceAddress
from agent.devices.request import DeviceRequest, DeviceUpdate, resolve_devices
from agent.errors import InvalidRequest, NotFound, Unsupported


class NullDisks:
    """Every disk is /dev/null, which is there everywhere and needs no privilege."""

    def __init__(self, node: str = "/dev/null") -> None:
        self.node = node
        self.awaited: list[str] = []

    async def block_node(self, address: DeviceAddress) -> str:
        self.awaited.append(f"{type(address).__name__} {address}")
        return self.node


@pytest.mark.parametrize(
    ("request_", "awaited"),
    [
        (DeviceRequest("02/03", "blk", "/dev/vda", "/dev/a"), ["PciPath 02.0/03.0"]),
        (DeviceRequest("0.0.0002", "blk-ccw", "", "/dev/a"), ["CcwAddress 0.0.0002"]),
        (DeviceRequest("", "mmioblk", "/dev/vdb", "/dev/a"), ["MmioAddress /dev/vdb"]),
        (DeviceRequest("0:1", "scsi", "", "/dev/a"), ["ScsiAddress 0:1"]),
        (DeviceRequest("", "nvdimm", "/dev/pmem0", "/dev/a"), ["PmemAddress /dev/pmem0"]),
        (DeviceRequest("", "blk", "/dev/null", "/dev/a"), []),
    ],
)
async def test_each_type_waits_at_its_own_address(request_: DeviceRequest, awaited: list[str]) -> None:
    disks = NullDisks()
    [update] = await resolve_devices([request_], disks)
    number = os.stat("/dev/null").st_rdev
    assert update == DeviceUpdate("/dev/a", "/dev/null", "c", os.major(number), os.minor(number))
    assert disks.awaited == awaited


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (DeviceRequest("1", "", "", "/dev/a"), "invalid type for device"),
        (DeviceRequest("", "blk", "", "/dev/a"), "invalid ID and VM path for device"),
        (DeviceRequest("02", "blk", "", ""), "invalid container path for device"),
        (DeviceRequest("02", "floppy", "", "/dev/a"), "Unknown device type 'floppy'; known: blk,"),
    ],
)
async def test_all_are_checked_before_the_first_wait(bad: DeviceRequest, text: str) -> None:
    disks = NullDisks()
    with pytest.raises(InvalidRequest, match=text):
        await resolve_devices([DeviceRequest("02", "blk", "", "/dev/a"), bad], disks)
    assert disks.awaited == []


@pytest.mark.parametrize("kind", ["vfio-pci", "vfio-pci-gk", "vfio-ap", "vfio-ap-cold"])
async def test_vfio_is_refused_in_so_many_words(kind: str) -> None:
    with pytest.raises(Unsupported, match=kind):
        await resolve_devices([DeviceRequest("1", kind, "", "/dev/a")], NullDisks())


async def test_a_node_that_is_missing_or_no_device() -> None:
    request_ = DeviceRequest("02", "blk", "", "/dev/a")
    with pytest.raises(NotFound, match="no node /dev/nothing-here"):
        await resolve_devices([request_], NullDisks("/dev/nothing-here"))
    with pytest.raises(InvalidRequest, match="no device node"):
        await resolve_devices([request_], NullDisks("/dev"))

"""Which device an address means, and which near misses it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.devices.address import CcwAddress, DeviceAddress, MmioAddress, PciPath, PmemAddress, ScsiAddress
from agent.devices.matching import block_matcher, interface_matcher
from agent.devices.sysfs import KernelDevice, Sysfs
from tests.fakes.sysfs import build_sysfs

PCI = "/devices/pci0000:00/0000:00:02.0/0000:01:03.0"
CCW = "/devices/css0/0.0.0001/0.0.0002"
SCSI = "/devices/pci0000:00/0000:00:05.0/virtio3"
PMEM = "/devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0012:00/ndbus0/region0/pfn0.1/block"
VIRTIO_PMEM = "/devices/pci0000:00/0000:00:06.0/virtio4/ndbus0/region0/namespace0.0/block"


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    build_sysfs(tmp_path, {"devices/pci0000:00/0000:00:02.0/pci_bus/0000:01": {}})
    return Sysfs(str(tmp_path))


@pytest.mark.parametrize(
    ("address", "devpath"),
    [
        (PciPath.parse("02/03"), f"{PCI}/virtio0/block/vda"),
        (CcwAddress(0, 2), f"{CCW}/virtio1/block/vda"),
        (ScsiAddress(0, 1), f"{SCSI}/host0/target0:0:0/0:0:0:1/block/sda"),
        (ScsiAddress(0, 1), f"{SCSI}/host6/target6:0:0/6:0:0:1/block/sda"),
        (MmioAddress("/dev/vdb"), "/devices/platform/LNRO0005:01/virtio1/block/vdb"),
        (PmemAddress("/dev/pmem1"), f"{PMEM}/pmem1"),
        (PmemAddress("/dev/pmem1"), f"{VIRTIO_PMEM}/pmem1"),
    ],
)
def test_a_disk_is_recognised(sysfs: Sysfs, address: DeviceAddress, devpath: str) -> None:
    matches = block_matcher(address, sysfs)
    name = devpath.rpartition("/")[2]
    assert matches(KernelDevice("block", devpath, name))
    assert not matches(KernelDevice("block", f"{devpath}/{name}1", f"{name}1")), "a partition"
    assert not matches(KernelDevice("block", devpath, "")), "no node"
    assert not matches(KernelDevice("net", devpath, name)), "another class"


@pytest.mark.parametrize(
    ("address", "devpath"),
    [
        (PciPath.parse("02/03"), "/devices/pci0000:00/0000:00:02.0/0000:01:04.0/virtio0/block/vda"),
        (PciPath.parse("02/03"), f"{PCI}/block/vda"),
        (PciPath.parse("02/03"), f"{PCI}0/virtio0/block/vda"),
        (PciPath.parse("04/03"), f"{PCI}/virtio0/block/vda"),
        (CcwAddress(1, 2), f"{CCW}/virtio1/block/vda"),
        (CcwAddress(0, 0x20), f"{CCW}/virtio1/block/vda"),
        (CcwAddress(0, 2), f"/devices/css1{CCW[13:]}/virtio1/block/vda"),
        (ScsiAddress(0, 1), f"{SCSI}/host0/target0:0:0/0:0:0:11/block/sda"),
        (ScsiAddress(0, 1), f"{SCSI}/host0/target0:0:0/10:0:0:1/block/sda"),
        (ScsiAddress(0, 1), "/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:1/block/sda"),
        (MmioAddress("/dev/vdb"), "/devices/platform/LNRO0005:01/virtio1/block/vdba"),
        (PmemAddress("/dev/pmem1"), f"{PMEM}/pmem10"),
        (PmemAddress("/dev/pmem1"), "/devices/virtual/block/pmem1"),
    ],
)
def test_a_near_miss_is_not(sysfs: Sysfs, address: DeviceAddress, devpath: str) -> None:
    assert not block_matcher(address, sysfs)(KernelDevice("block", devpath, devpath.rpartition("/")[2]))


def test_an_interface_lies_below_its_pci_device(sysfs: Sysfs) -> None:
    matches = interface_matcher(PciPath.parse("02/03"), sysfs)
    assert matches(KernelDevice("net", f"{PCI}/virtio0/net/eth0", "eth0"))
    assert not matches(KernelDevice("net", f"{PCI}1/virtio0/net/eth0", "eth0"))
    assert not matches(KernelDevice("net", f"{PCI}/virtio0/net/eth0", ""))
    assert not matches(KernelDevice("block", f"{PCI}/virtio0/block/vda", "vda"))
    assert not interface_matcher(PciPath.parse("05/00"), sysfs)(
        KernelDevice("net", f"{PCI}/net/eth0", "eth0")
    )

"""sysfs, on a fake tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.devices.address import PciPath, ScsiAddress
from agent.devices.sysfs import Sysfs
from agent.errors import InvalidRequest, KernelRefused, Unsupported
from tests.fakes.sysfs import build_sysfs, plug

ROOT = "/devices/pci0000:00"


def test_a_pci_path_is_walked_as_the_tree_grows(tmp_path: Path) -> None:
    sysfs = Sysfs(str(tmp_path))
    assert sysfs.pci_devpath(PciPath.parse("02")) == f"{ROOT}/0000:00:02.0"
    assert sysfs.pci_devpath(PciPath.parse("02/03")) is None
    build_sysfs(tmp_path, {f"{ROOT[1:]}/0000:00:02.0/pci_bus/0000:01": {}})
    assert sysfs.pci_devpath(PciPath.parse("02/03")) == f"{ROOT}/0000:00:02.0/0000:01:03.0"
    assert sysfs.pci_devpath(PciPath.parse("02/03.1/04")) is None
    build_sysfs(tmp_path, {f"{ROOT[1:]}/0000:00:02.0/0000:01:03.1/pci_bus/0000:02": {}})
    path = sysfs.pci_devpath(PciPath.parse("02/03.1/04"))
    assert path == f"{ROOT}/0000:00:02.0/0000:01:03.1/0000:02:04.0"


def test_a_bridge_without_bus_entries_shows_its_bus_by_its_devices(tmp_path: Path) -> None:
    build_sysfs(tmp_path, {f"{ROOT[1:]}/0000:00:02.0": {"0000:07:00.0": {}, "power": {}, "vendor": "x"}})
    assert Sysfs(str(tmp_path)).pci_devpath(PciPath.parse("02/00")) == f"{ROOT}/0000:00:02.0/0000:07:00.0"


def test_a_bridge_with_two_buses_is_no_way(tmp_path: Path) -> None:
    build_sysfs(tmp_path, {f"{ROOT[1:]}/0000:00:02.0/pci_bus": {"0000:01": {}, "0000:02": {}}})
    with pytest.raises(InvalidRequest, match="0000:01, 0000:02"):
        Sysfs(str(tmp_path)).pci_devpath(PciPath.parse("02/00"))


def test_another_root_complex_has_buses_of_its_own(tmp_path: Path) -> None:
    build_sysfs(tmp_path, {"devices/pci0000:20/0000:20:00.0/pci_bus/0000:21": {}})
    path = Sysfs(str(tmp_path)).pci_devpath(PciPath.parse("20/00/02"))
    assert path == "/devices/pci0000:20/0000:20:00.0/0000:21:02.0"


def test_on_arm64_the_root_bus_lies_below_a_platform_device(tmp_path: Path) -> None:
    build_sysfs(tmp_path, {"devices/platform/4010000000.pcie/pci0000:00": {}})
    path = Sysfs(str(tmp_path)).pci_devpath(PciPath.parse("02"))
    assert path == "/devices/platform/4010000000.pcie/pci0000:00/0000:00:02.0"


def test_devices_of_a_class(tmp_path: Path) -> None:
    sysfs = Sysfs(str(tmp_path))
    assert list(sysfs.devices("block")) == []
    plug(tmp_path, "block", f"{ROOT}/0000:00:02.0/virtio0/block/vda")
    plug(tmp_path, "block", "/devices/x/block/cciss!c0d0")
    assert {(device.name, device.devpath) for device in sysfs.devices("block")} == {
        ("vda", f"{ROOT}/0000:00:02.0/virtio0/block/vda"),
        ("cciss/c0d0", "/devices/x/block/cciss!c0d0"),
    }


def test_a_rescan_is_written_and_a_guest_without_pci_needs_none(tmp_path: Path) -> None:
    sysfs = Sysfs(str(tmp_path))
    sysfs.rescan_pci()
    assert list(tmp_path.iterdir()) == []
    build_sysfs(tmp_path, {"bus/pci/rescan": ""})
    sysfs.rescan_pci()
    assert (tmp_path / "bus/pci/rescan").read_text() == "1"


def test_a_refused_rescan_names_the_file(tmp_path: Path) -> None:
    build_sysfs(tmp_path, {"bus/pci/rescan": {}})
    with pytest.raises(KernelRefused, match=r"PCI rescan .*/bus/pci/rescan failed: .*EISDIR"):
        Sysfs(str(tmp_path)).rescan_pci()


def test_every_scsi_host_is_scanned_for_just_that_address(tmp_path: Path) -> None:
    build_sysfs(tmp_path, {"class/scsi_host": {"host0/scan": "", "host1/scan": ""}})
    Sysfs(str(tmp_path)).scan_scsi(ScsiAddress(3, 7))
    for host in ("host0", "host1"):
        assert (tmp_path / "class/scsi_host" / host / "scan").read_text() == "0 3 7"


def test_one_host_that_refuses_the_scan_does_not_stop_the_others(tmp_path: Path) -> None:
    hosts = (
        build_sysfs(tmp_path, {"class/scsi_host": {"host0/scan": {}, "host1/scan": ""}}) / "class/scsi_host"
    )
    Sysfs(str(tmp_path)).scan_scsi(ScsiAddress(3, 7))
    assert (hosts / "host1/scan").read_text() == "0 3 7"
    (hosts / "host1/scan").unlink()
    with pytest.raises(KernelRefused, match="SCSI scan"):
        Sysfs(str(tmp_path)).scan_scsi(ScsiAddress(3, 7))


def test_scsi_needs_scsi_but_not_a_host(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="no SCSI"):
        Sysfs(str(tmp_path)).scan_scsi(ScsiAddress(0, 0))
    build_sysfs(tmp_path, {"class/scsi_host": {}})
    Sysfs(str(tmp_path)).scan_scsi(ScsiAddress(0, 0))


def test_memory_is_put_to_use(tmp_path: Path) -> None:
    build_sysfs(
        tmp_path,
        {"devices/system/memory": {"memory1/online": "1", "memory2/online": "0\n", "block_size_bytes": "8"}},
    )
    sysfs = Sysfs(str(tmp_path))
    assert sysfs.offline_memory() == ["/devices/system/memory/memory2"]
    sysfs.online_memory("/devices/system/memory/memory2")
    assert sysfs.offline_memory() == []
    with pytest.raises(KernelRefused, match="memory9"):
        sysfs.online_memory("/devices/system/memory/memory9")

"""The guest's hardware as sysfs shows it, below a root that tests may choose.

Sources: Documentation/admin-guide/sysfs-rules.rst and Documentation/ABI/testing/sysfs-bus-pci,
sysfs-class-scsi_host, sysfs-devices-memory and sysfs-devices-system-cpu of the Linux kernel.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.devices.address import PciPath, ScsiAddress
from agent.errors import InvalidRequest, KernelRefused, Unsupported

_SECTOR_BYTES = 512  # the unit of a disk's `size`, whatever its own sectors (ABI/stable/sysfs-block)
_CPU = re.compile(r"cpu[0-9]+", re.ASCII)
_PCI_ADDRESS = re.compile(r"([0-9a-f]{4,}:[0-9a-f]{2}):[0-9a-f]{2}\.[0-7]")


@dataclass(frozen=True, slots=True)
class KernelDevice:
    """A device, in the terms that sysfs and uevents share."""

    subsystem: str
    devpath: str
    """Its directory below /sys, beginning with `/devices/`."""
    name: str
    """A disk's node below /dev, a network device's interface; empty for what has neither."""


def is_block_node(path: str) -> bool:
    """Whether `path` is a block device node: its type, not a bit of it."""
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


class Sysfs:
    """sysfs below `root`. Reads are a few bytes; the scans block until the kernel has looked."""

    def __init__(self, root: str = "/sys") -> None:
        self._root = Path(os.path.realpath(root))

    def devices(self, subsystem: str) -> Iterator[KernelDevice]:
        """Every device of the class `subsystem` that is there now."""
        for entry in self._entries(self._root / "class" / subsystem):
            directory = os.path.realpath(entry)
            # A slash in a disk's name is "!" in sysfs, as in cciss!c0d0 (sysfs-rules.rst).
            yield KernelDevice(
                subsystem, directory.removeprefix(str(self._root)), entry.name.replace("!", "/")
            )

    def pci_devpath(self, path: PciPath) -> str | None:
        """The devpath that `path` leads to; None while a bridge on the way is not there.

        Raises InvalidRequest if a bridge on the way has several buses behind it.
        """
        devpath = self._pci_root(path.root_complex)
        bus: str | None = f"0000:{path.root_complex:02x}"
        for step, slot in enumerate(path.slots):
            if step > 0:
                bus = self._bus_behind(devpath)
            if bus is None:
                return None
            devpath = f"{devpath}/{bus}:{slot}"
        return devpath

    def rescan_pci(self) -> None:
        """Have the kernel look for new PCI devices; a guest without a PCI bus has none to look for.

        Needed where no hot-plug notification arrives, as in a guest without ACPI.
        Raises KernelRefused.
        """
        try:
            _write(self._root / "bus/pci/rescan", "1")
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise KernelRefused.from_oserror("PCI rescan", error) from error

    def scan_scsi(self, address: ScsiAddress) -> None:
        """Have every SCSI host look for `address` on its channel 0.

        Not a precaution: Kata's hosts boot guests with `scsi_mod.scan=none`. A host of another
        kind (AHCI) refuses such an address; that is an error only if every host does.
        Raises Unsupported (no SCSI in this guest), KernelRefused.
        """
        hosts = self._root / "class/scsi_host"
        if not hosts.is_dir():
            raise Unsupported(f"no SCSI in this guest's kernel to look for {address}")
        refusals: list[OSError] = []
        accepted = False
        for host in self._entries(hosts):
            try:
                _write(host / "scan", f"0 {address.target} {address.lun}")
                accepted = True
            except OSError as error:
                refusals.append(error)
        if refusals and not accepted:
            raise KernelRefused.from_oserror("SCSI scan", refusals[0]) from refusals[0]

    def offline_memory(self) -> list[str]:
        """The devpaths of memory blocks that are plugged in but not in use."""
        directory = self._root / "devices/system/memory"
        return [
            f"/devices/system/memory/{block.name}"
            for block in self._entries(directory)
            if block.name.startswith("memory") and _read(block / "online") == "0"
        ]

    def online_memory(self, devpath: str) -> None:
        """Put the memory block at `devpath` to use. Raises KernelRefused."""
        try:
            _write(self._root / devpath.lstrip("/") / "online", "1")
        except OSError as error:
            raise KernelRefused.from_oserror("memory online", error) from error

    def probe_memory(self, address: int) -> None:
        """Announce memory at the physical `address`. Raises Unsupported, KernelRefused."""
        try:
            _write(self._root / "devices/system/memory/probe", f"0x{address:x}")
        except FileNotFoundError as error:
            raise Unsupported(
                "this kernel takes no word of plugged memory", hint="it needs CONFIG_ARCH_MEMORY_PROBE"
            ) from error
        except OSError as error:
            raise KernelRefused.from_oserror(f"memory probe at 0x{address:x}", error) from error

    def online_cpus(self) -> str:
        """The list of the CPUs in use, as the kernel writes it. Raises KernelRefused."""
        try:
            return (self._root / "devices/system/cpu/online").read_text(encoding="ascii").strip()
        except OSError as error:
            raise KernelRefused.from_oserror("reading the online CPUs", error) from error

    def offline_cpus(self) -> list[str]:
        """The devpaths of CPUs that are plugged in but not in use, in the order of their numbers.

        One without `online`, as the first often is, cannot be switched off and so is in use.
        """
        directory = self._root / "devices/system/cpu"
        numbers = sorted(
            int(entry.name[3:]) for entry in self._entries(directory) if _CPU.fullmatch(entry.name)
        )
        return [
            f"/devices/system/cpu/cpu{number}"
            for number in numbers
            if _read(directory / f"cpu{number}/online") == "0"
        ]

    def online_cpu(self, devpath: str) -> None:
        """Put the CPU at `devpath` to use; blocks until it runs. Raises KernelRefused."""
        try:
            _write(self._root / devpath.lstrip("/") / "online", "1")
        except OSError as error:
            raise KernelRefused.from_oserror("CPU online", error) from error

    def disk(self, number: tuple[int, int]) -> tuple[str, int]:
        """Name below /dev and size in bytes of the disk with the device number (major, minor).

        Raises Unsupported if no disk has it, as is so for filesystems without one.
        """
        directory = self._disk_directory(number)
        size, event = _read(directory / "size"), _read(directory / "uevent")
        name = re.search(r"^DEVNAME=(.+)$", event, re.MULTILINE)
        if name is None or not size.isdecimal():
            raise Unsupported(f"there is no disk with the device number {number[0]}:{number[1]}")
        return name[1], int(size) * _SECTOR_BYTES

    def rescan_disk(self, number: tuple[int, int]) -> None:
        """Have the driver look again how large a disk is, where it has to be told. Raises KernelRefused."""
        try:
            _write(self._disk_directory(number) / "device/rescan", "1")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):  # most drivers notice by themselves
                raise KernelRefused.from_oserror("disk rescan", error) from error

    def _disk_directory(self, number: tuple[int, int]) -> Path:
        return self._root / "dev/block" / f"{number[0]}:{number[1]}"

    def _pci_root(self, root_complex: int) -> str:
        """The devpath of a root bus: /devices/pci0000:NN, or below a platform device on arm64."""
        name = f"pci0000:{root_complex:02x}"
        if not (self._root / "devices" / name).is_dir():
            for found in sorted((self._root / "devices/platform").glob(f"*.pcie/{name}")):
                return f"/{found.relative_to(self._root)}"
        return f"/devices/{name}"

    def _bus_behind(self, devpath: str) -> str | None:
        """The bus behind the bridge at `devpath`, as `DDDD:BB`."""
        bridge = self._root / devpath.lstrip("/")
        buses = {entry.name for entry in self._entries(bridge / "pci_bus")}
        if not buses:  # some bridges show only the devices behind them
            matches = (_PCI_ADDRESS.fullmatch(entry.name) for entry in self._entries(bridge))
            buses = {match[1] for match in matches if match}
        if len(buses) > 1:
            raise InvalidRequest(f"several PCI buses behind the bridge {devpath}: {', '.join(sorted(buses))}")
        return next(iter(buses), None)

    @staticmethod
    def _entries(directory: Path) -> list[Path]:
        """What lies in `directory`, sorted; nothing if it is missing or just being removed."""
        try:
            return sorted(directory.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    """Write `text` in one call, as sysfs wants it, and never create the file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode("ascii"))
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(descriptor)

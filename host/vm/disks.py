"""Disks: what they are called on the host, on QEMU's buses and in the guest.

The numbering is the Kata runtime's (virtcontainers/utils/utils.go, pkg/types/pcipath.go); it must
be, since the agent turns these addresses back into devices.
"""

from __future__ import annotations

import heapq
import re
import string
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from host.errors import HostError, InvalidInput
from host.vm.programs import find_program

BlockDriver = Literal["virtio-blk", "virtio-scsi"]
DriverWord = Literal["blk", "scsi", "mmioblk"]

# The bridge that takes hot-plugged disks sits in this slot of the root bus (Kata: bridge slot 2 + i).
BRIDGE_SLOT = 2
# A conventional PCI bus has 32 slots; slot 0 of the bridge is its hot-plug controller's.
BRIDGE_SLOTS = range(1, 32)
# A SCSI id is index / 256, a LUN index % 256 (Kata: GetSCSIIdLun).
SCSI_DISKS = range(0, 65536)

# QEMU limits a serial and a node name to 20 and 31 bytes; prefixes take the rest.
_DISK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,17}")


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk image or block device of the host's. `id` is unique within a machine (18 bytes)."""

    id: str
    path: Path
    format: Literal["raw", "qcow2"] = "raw"
    read_only: bool = False

    def __post_init__(self) -> None:
        """Raise InvalidInput for an id that QEMU would not take."""
        if not _DISK_ID.fullmatch(self.id):
            raise InvalidInput(f"{self.id!r} is no disk id", "use up to 18 letters, digits, _ and -")


@dataclass(frozen=True, slots=True)
class PluggedDisk:
    """A disk in a machine, as a storage request names it: the agent's driver word and the source."""

    disk_id: str
    driver: DriverWord
    source: str


class NumberPool:
    """Hands out the lowest free number of a range."""

    def __init__(self, numbers: range) -> None:
        self._free = list(numbers)
        self._taken: set[int] = set()

    def take(self) -> int:
        """The lowest free number. Raises IndexError when none is left."""
        number = heapq.heappop(self._free)
        self._taken.add(number)
        return number

    def give_back(self, number: int) -> None:
        """Make `number` free again; a number that is free already is left alone."""
        if number in self._taken:
            self._taken.remove(number)
            heapq.heappush(self._free, number)


def virtio_disk_name(index: int) -> str:
    """The kernel's name for virtio disk number `index`: 0 is vda, 25 vdz, 26 vdaa, 702 vdaaa.

    Source: sd_format_disk_name() in Linux, which virtio_blk uses too (virtblk_name_format).
    Raises ValueError for a negative index.
    """
    if index < 0:
        raise ValueError(f"disk index {index} is negative")
    letters = ""
    while index >= 0:
        index, letter = divmod(index, 26)
        letters = string.ascii_lowercase[letter] + letters
        index -= 1
    return f"vd{letters}"


def scsi_id_and_lun(index: int) -> tuple[int, int]:
    """The SCSI id and LUN of disk number `index`. Raises ValueError outside 0..65535."""
    if index not in SCSI_DISKS:
        raise ValueError(f"SCSI disk index {index} is not in 0..{SCSI_DISKS.stop - 1}")
    return divmod(index, 256)


def pci_path(bridge_slot: int, device_slot: int) -> str:
    """The address of a device behind a bridge, both slots in hexadecimal: `02/01`."""
    return f"{bridge_slot:02x}/{device_slot:02x}"


def overlay_command(qemu_img: Path, base: Path, base_format: str, overlay: Path) -> list[str]:
    """The command that makes `overlay`, a qcow2 file that takes all writes in place of `base`."""
    return [
        str(qemu_img),
        "create",
        "-q",
        *("-f", "qcow2"),
        *("-b", str(base.absolute()), "-F", base_format),
        str(overlay),
    ]


def make_overlay(base: Path, overlay: Path, *, base_format: Literal["raw", "qcow2"] = "raw") -> None:
    """Make a throw-away overlay, so that nothing a guest writes reaches `base`.

    Blocks for some milliseconds. Raises HostError with qemu-img's own words if it fails.
    """
    command = overlay_command(find_program("qemu-img"), base, base_format, overlay)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostError(
            f"no overlay on {base} could be made", done.stderr.strip() or "qemu-img gave no reason"
        )

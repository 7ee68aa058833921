"""Where the host says a device is: one frozen type per bus, parsed once, printed back the same.

An address is never a bare string past this file. Formats: docs/storage-drivers.md, "Addresses".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from agent.errors import InvalidRequest

_PCI_SLOT = re.compile(r"([0-9a-fA-F]{1,2})(?:\.([0-7]))?")
_CCW = re.compile(r"0\.([0-3])\.([0-9a-fA-F]{1,4})")
_SCSI = re.compile(r"([0-9]{1,3}):([0-9]{1,5})", re.ASCII)
_DEVICE_NODE = re.compile(r"/dev/(?!\.)[^/\0]+(?:/(?!\.)[^/\0]+)*")

_MAX_PCI_SLOT = 0x1F
_MAX_SCSI_TARGET = 255  # virtio-scsi's max_target (virtio 1.2, 5.6.4)
_MAX_SCSI_LUN = 16383  # virtio-scsi's max_lun (virtio 1.2, 5.6.4)


@dataclass(frozen=True, slots=True)
class PciSlot:
    """A place on one PCI bus."""

    slot: int
    function: int = 0

    def __str__(self) -> str:
        return f"{self.slot:02x}.{self.function:x}"


@dataclass(frozen=True, slots=True)
class PciPath:
    """The slots to pass from a root bus to a device; not bus numbers, which only the guest knows.

    `02/03` is the device in slot 3 behind the bridge in slot 2. Kata 1.x's "bridge/device" address
    is the same text. A first element of 0x20 or more, before two others, is no slot (a slot is at
    most 0x1f) but the number of the root complex, as of a pxb-pcie expander.
    """

    slots: tuple[PciSlot, ...]
    root_complex: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `SS[.F]/SS[.F]/...`, all hexadecimal. Raises InvalidRequest."""
        elements = text.split("/")
        root_complex = 0
        if len(elements) >= 3 and re.fullmatch(r"[2-9a-fA-F][0-9a-fA-F]", elements[0]):
            root_complex = int(elements.pop(0), 16)
        return cls(tuple(_pci_slot(element, text) for element in elements), root_complex)

    def __str__(self) -> str:
        complex_part = [f"{self.root_complex:02x}"] if self.root_complex else []
        return "/".join(complex_part + [str(slot) for slot in self.slots])


@dataclass(frozen=True, slots=True)
class CcwAddress:
    """A device on the channel subsystem of s390x: `0.<subchannel set>.<device number>`."""

    subchannel_set: int
    device_number: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `0.n.dddd`, n up to 3, dddd hexadecimal. Raises InvalidRequest."""
        match = _CCW.fullmatch(text)
        if match is None:
            raise InvalidRequest(f"ccw bus id {text!r} does not have the form 0.n.dddd with n from 0 to 3")
        return cls(int(match[1]), int(match[2], 16))

    def __str__(self) -> str:
        return f"0.{self.subchannel_set}.{self.device_number:04x}"


@dataclass(frozen=True, slots=True)
class ScsiAddress:
    """A logical unit behind the guest's virtio SCSI host: target and LUN on channel 0."""

    target: int
    lun: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `target:lun`, both decimal. Raises InvalidRequest."""
        match = _SCSI.fullmatch(text)
        if match is None:
            raise InvalidRequest(f"SCSI address {text!r} does not have the form target:lun")
        address = cls(int(match[1]), int(match[2]))
        if address.target > _MAX_SCSI_TARGET or address.lun > _MAX_SCSI_LUN:
            raise InvalidRequest(
                f"SCSI address {text!r} is beyond target {_MAX_SCSI_TARGET} or LUN {_MAX_SCSI_LUN}"
            )
        return address

    def __str__(self) -> str:
        return f"{self.target}:{self.lun}"


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """A node below /dev that is there already: a disk the guest was booted with."""

    path: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take `/dev/NAME`, without `..` or hidden names. Raises InvalidRequest."""
        if _DEVICE_NODE.fullmatch(text) is None:
            raise InvalidRequest(f"{text!r} is no device node below /dev")
        return cls(text)

    @property
    def name(self) -> str:
        """The kernel's name of the device, as DEVNAME shows it: the path below /dev."""
        return self.path.removeprefix("/dev/")

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class MmioAddress(DeviceNode):
    """A virtio-mmio disk, which has no address but the node the host predicts: `/dev/vdX`."""


@dataclass(frozen=True, slots=True)
class PmemAddress(DeviceNode):
    """A persistent-memory disk: `/dev/pmemN`."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take `/dev/pmemN`. Raises InvalidRequest."""
        if re.fullmatch(r"/dev/pmem[0-9.]+s?", text, re.ASCII) is None:
            raise InvalidRequest(f"{text!r} is no persistent-memory disk /dev/pmemN")
        return cls(text)


DeviceAddress = PciPath | CcwAddress | ScsiAddress | MmioAddress | PmemAddress | DeviceNode


def _pci_slot(element: str, whole: str) -> PciSlot:
    match = _PCI_SLOT.fullmatch(element)
    if match is None:
        raise InvalidRequest(f"PCI path {whole!r}: {element!r} does not have the form SS or SS.F")
    slot = int(match[1], 16)
    if slot > _MAX_PCI_SLOT:
        raise InvalidRequest(f"PCI path {whole!r}: slot {element!r} is beyond 1f")
    return PciSlot(slot, int(match[2] or "0"))

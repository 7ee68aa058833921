"""scsi: a disk behind the guest's virtio SCSI host.

The host plugs the disk and sends its target and LUN (`0:3`). Guests of Kata boot with
`scsi_mod.scan=none`, so the disk shows only after a scan for just that address. Its filesystem
appears at the mount point. Facts: docs/storage-drivers.md, section scsi.
"""

from __future__ import annotations

from agent.devices.address import DeviceAddress, ScsiAddress
from agent.storage.handler import BlockStorageHandler


class Scsi(BlockStorageHandler):
    """Disks by SCSI target and LUN."""

    drivers = ("scsi",)

    def address(self, source: str) -> DeviceAddress:
        """Target and LUN. Raises InvalidRequest."""
        return ScsiAddress.parse(source)

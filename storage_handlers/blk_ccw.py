"""blk-ccw: a virtio disk on the channel subsystem of s390x.

The host plugs the disk and sends its bus id (`0.0.0002`). The disk's filesystem appears at the mount
point. Virtio devices on ccw arrive online: nothing is written to their `online` file.
Facts: docs/storage-drivers.md, section blk-ccw.
"""

from __future__ import annotations

from agent.devices.address import CcwAddress, DeviceAddress
from agent.storage.handler import BlockStorageHandler


class VirtioBlkCcw(BlockStorageHandler):
    """Disks by ccw bus id."""

    drivers = ("blk-ccw",)

    def address(self, source: str) -> DeviceAddress:
        """A bus id. Raises InvalidRequest."""
        return CcwAddress.parse(source)

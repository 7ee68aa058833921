"""blk: a virtio disk on the PCI bus.

The host plugs the disk and sends the PCI path to it (`02/03`); for a disk that the guest was booted
with it may send the node instead (`/dev/vda`). The disk's filesystem appears at the mount point.
Facts: docs/storage-drivers.md, section blk.
"""

from __future__ import annotations

from agent.devices.address import DeviceAddress, DeviceNode, PciPath
from agent.storage.handler import BlockStorageHandler


class VirtioBlkPci(BlockStorageHandler):
    """Disks by PCI path, or by node."""

    drivers = ("blk",)

    def address(self, source: str) -> DeviceAddress:
        """A node if `source` lies below /dev, else a PCI path. Raises InvalidRequest."""
        if source.startswith("/dev"):
            return DeviceNode.parse(source)
        return PciPath.parse(source)

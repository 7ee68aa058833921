"""mmioblk: a virtio disk on the virtio-mmio bus, as in microvm and Firecracker.

That bus gives a disk no address, so the host predicts the node (`/dev/vdb`) and sends that; it may
have to be waited for. The disk's filesystem appears at the mount point.
Facts: docs/storage-drivers.md, section mmioblk.
"""

from __future__ import annotations

from agent.devices.address import DeviceAddress, MmioAddress
from agent.storage.handler import BlockStorageHandler


class VirtioBlkMmio(BlockStorageHandler):
    """Disks by the node they are expected to have."""

    drivers = ("mmioblk",)

    def address(self, source: str) -> DeviceAddress:
        """A node below /dev. Raises InvalidRequest."""
        return MmioAddress.parse(source)

"""nvdimm: a disk in persistent memory, an NVDIMM or virtio-pmem.

The host plugs it and sends the node that it expects (`/dev/pmem1`), which may have to be waited for.
The disk's filesystem appears at the mount point; with the option `dax` its files are not copied into
the page cache. Facts: docs/storage-drivers.md, section nvdimm.
"""

from __future__ import annotations

from agent.devices.address import DeviceAddress, PmemAddress
from agent.storage.handler import BlockStorageHandler


class Nvdimm(BlockStorageHandler):
    """Disks by the number of their persistent memory."""

    drivers = ("nvdimm",)

    def address(self, source: str) -> DeviceAddress:
        """A node `/dev/pmemN`. Raises InvalidRequest."""
        return PmemAddress.parse(source)

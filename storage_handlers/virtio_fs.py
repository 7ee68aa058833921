"""virtio-fs: a directory of the host, shared by virtiofsd.

The host exports the directory under a tag (`kataShared`) and sends that as source; the directory
appears at the mount point. The driver is called `virtio-fs`, its filesystem type `virtiofs`.
Facts: docs/storage-drivers.md, section virtio-fs.
"""

from __future__ import annotations

from agent.storage.handler import SharedFilesystemHandler


class VirtioFs(SharedFilesystemHandler):
    """Shares by virtio-fs tag."""

    drivers = ("virtio-fs",)

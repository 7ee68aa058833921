"""9p: a directory of the host, shared over virtio-9p.

The host exports the directory under a tag (`kataShared`) and sends that as source; the directory
appears at the mount point. Options name the transport: `trans=virtio,version=9p2000.L,cache=mmap`.
Facts: docs/storage-drivers.md, section 9p.
"""

from __future__ import annotations

from agent.storage.handler import SharedFilesystemHandler


class Plan9(SharedFilesystemHandler):
    """Shares by 9p tag."""

    drivers = ("9p",)

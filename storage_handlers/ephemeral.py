"""ephemeral: a filesystem in the guest's memory, which the containers of a sandbox share.

Nothing comes from the host: a tmpfs, or a hugetlbfs whose pages are reserved first, appears at the
mount point and goes with the last container that uses it. All options hold; `fsgid=N` gives the
root directory to a group. Huge pages: `pagesize=` and `size=`, together or as items of their own.
Facts: docs/storage-drivers.md, section ephemeral.
"""

from __future__ import annotations

import dataclasses
import stat

from agent.errors import InvalidRequest
from agent.storage.handler import AttachedStorage, Guest, StackedStorage, StorageHandler, StorageRequest
from agent.storage.mount_options import named_number, named_size, without

_TMPFS_MODE = 0o1777  # a tmpfs's own default (tmpfs(5))
_HUGETLBFS_MODE = 0o755  # a hugetlbfs's (fs/hugetlbfs/inode.c)


class Ephemeral(StorageHandler):
    """tmpfs and hugetlbfs."""

    drivers = ("ephemeral",)

    async def attach(self, request: StorageRequest, guest: Guest) -> AttachedStorage:
        """Mount it, after reserving its pages if they are huge.

        Raises InvalidRequest, LimitReached (not enough huge pages), KernelRefused.
        """
        match request.fstype:
            case "tmpfs":
                return await self.mount(request.source, _with_group(request, _TMPFS_MODE), guest)
            case "hugetlbfs":
                return await self._huge(_with_group(request, _HUGETLBFS_MODE), guest)
            case other:
                raise InvalidRequest(f"ephemeral: filesystem {other!r} is neither tmpfs nor hugetlbfs")

    async def _huge(self, request: StorageRequest, guest: Guest) -> AttachedStorage:
        page_size_bytes = named_size(request.options, "pagesize")
        size_bytes = named_size(request.options, "size")
        if not page_size_bytes or not size_bytes or size_bytes < page_size_bytes:
            raise InvalidRequest(
                f"ephemeral: huge pages need pagesize= and size= of a page at least, not {request.options}"
            )
        numbers = f"pagesize={page_size_bytes},size={size_bytes}"  # the kernel knows no "1Gi"
        options = (*without(request.options, "pagesize", "size"), numbers)
        async with StackedStorage(request.mount_point) as storage:
            storage.add(await guest.hugepages.reserve(page_size_bytes, size_bytes // page_size_bytes))
            request = dataclasses.replace(request, options=options)
            storage.add(await self.mount(request.source, request, guest))
            return storage


def _with_group(request: StorageRequest, default_mode: int) -> StorageRequest:
    """`fsgid=N` in the words of both filesystems: `gid=N`, and the setgid bit in `mode=`."""
    gid = named_number(request.options, "fsgid")
    if gid is None:
        return request
    mode = named_number(request.options, "mode", base=8)
    mode = (default_mode if mode is None else mode) | stat.S_ISGID
    options = (*without(request.options, "fsgid", "gid", "mode"), f"gid={gid}", f"mode={mode:o}")
    return dataclasses.replace(request, options=options)

"""local: an empty directory in the guest, which the containers of a sandbox share.

Nothing comes from the host: the directory is made at the mount point, and goes with the last
container that uses it. Options: `mode=0777` (octal), `fsgid=N` (the group it belongs to).
Facts: docs/storage-drivers.md, section local.
"""

from __future__ import annotations

import stat

from agent.errors import InvalidRequest
from agent.storage.handler import AttachedStorage, Guest, StorageHandler, StorageRequest
from agent.storage.mount_options import named_number

_DEFAULT_MODE = 0o777  # what both of Kata's agents give it, whatever the umask


class Local(StorageHandler):
    """Plain directories."""

    drivers = ("local",)

    async def attach(self, request: StorageRequest, guest: Guest) -> AttachedStorage:
        """Make the directory. Raises InvalidRequest, KernelRefused."""
        mode = named_number(request.options, "mode", base=8)
        gid = named_number(request.options, "fsgid")
        mode = _DEFAULT_MODE if mode is None else mode
        if mode > 0o7777:
            raise InvalidRequest(f"local: mode {mode:o} is beyond 7777")
        if gid is not None:
            mode |= stat.S_ISGID  # so that what is made in it belongs to the group as well
        return await guest.mounts.make_directory(request.mount_point, mode=mode, gid=gid)

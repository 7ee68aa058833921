"""overlayfs: directories of the guest laid over each other.

The host sends the layers in the options: `lowerdir=A:B`, and for one to be written to `upperdir=` and
`workdir=`. With the option `io.katacontainers.fs-opt.overlay-rw` the agent provides these two, in the
container's bundle. Each driver option `io.katacontainers.volume.overlayfs.create_directory=DIR` has a
directory made first. The result appears at the mount point.
Facts: docs/storage-drivers.md, section overlayfs.
"""

from __future__ import annotations

import dataclasses

from agent.errors import InvalidRequest, Unsupported
from agent.storage.handler import AttachedStorage, Guest, StackedStorage, StorageHandler, StorageRequest
from agent.storage.mount_options import MountOptions

# Sources: kata-containers src/agent/src/storage/fs_handler.rs and src/libs/kata-types/src/mount.rs.
_WRITABLE = "io.katacontainers.fs-opt.overlay-rw"
_CREATE_DIRECTORY = "io.katacontainers.volume.overlayfs.create_directory="


class Overlayfs(StorageHandler):
    """Overlays."""

    drivers = ("overlayfs",)

    async def attach(self, request: StorageRequest, guest: Guest) -> AttachedStorage:
        """Make the directories, then mount the overlay. Raises InvalidRequest, Unsupported, KernelRefused."""
        directories = _directories_to_make(request)
        if _WRITABLE in request.options:
            if not request.bundle:
                raise InvalidRequest("No container id in rw overlay")
            upper, work = f"{request.bundle}/upper", f"{request.bundle}/work"
            directories += upper, work
            options = (*request.options, f"upperdir={upper}", f"workdir={work}")
            # Hosts send names of their own snapshotters' filesystems with this option.
            request = dataclasses.replace(request, fstype="overlay", options=options)
        if request.fstype != "overlay":
            raise InvalidRequest(f"overlayfs: filesystem {request.fstype!r} is not overlay")
        MountOptions.parse(request.options)  # refused before anything is made
        async with StackedStorage(request.mount_point) as storage:
            for path in directories:
                storage.add(await guest.mounts.make_directory(path))
            storage.add(await self.mount(request.source, request, guest))
            return storage


def _directories_to_make(request: StorageRequest) -> list[str]:
    for option in request.driver_options:
        if not option.startswith(_CREATE_DIRECTORY):
            raise Unsupported(f"overlayfs: unknown driver option {option}")
    return [option.removeprefix(_CREATE_DIRECTORY) for option in request.driver_options]

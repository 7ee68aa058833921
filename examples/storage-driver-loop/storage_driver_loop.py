"""loop: the filesystem in an image file.

The source is the path of a file in the guest, for instance on the directory that the host shares. A
loop device is put over it, and what the file holds appears at the mount point.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from agent.errors import KernelRefused
from agent.linux.blocking import run_blocking
from agent.linux.paths import fd_path
from agent.storage.handler import AttachedStorage, Guest, StorageHandler, StorageRequest
from agent.storage.mount_options import MountOptions

# <linux/loop.h>
LOOP_CONFIGURE, LOOP_CTL_GET_FREE = 0x4C0A, 0x4C82
LO_FLAGS_READ_ONLY, LO_FLAGS_AUTOCLEAR = 1, 4


class Loop(StorageHandler):
    """Image files by path."""

    drivers = ("loop",)

    async def attach(self, request: StorageRequest, guest: Guest) -> AttachedStorage:
        """Put a loop device over the file and mount it. Raises InvalidRequest, KernelRefused."""
        options = MountOptions.parse(request.options)  # bad ones are refused before anything is taken
        device = await run_blocking(_loop_device, request.source, options.read_only, undo=os.close)
        try:
            return await self.mount(os.readlink(fd_path(device)), request, guest)
        finally:
            os.close(device)  # the mount, if there is one, holds the device and takes it along


def _loop_device(image: str, read_only: bool) -> int:
    """A loop device over `image` that goes with its last user; its descriptor. Raises KernelRefused."""
    flags = LO_FLAGS_AUTOCLEAR | (LO_FLAGS_READ_ONLY if read_only else 0)
    try:
        with open(image, "rb" if read_only else "r+b") as file, open("/dev/loop-control", "rb") as control:
            config = struct.pack("=II52xI240x", file.fileno(), 0, flags)  # struct loop_config
            while True:
                number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
                device = os.open(f"/dev/loop{number}", os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.ioctl(device, LOOP_CONFIGURE, config)
                    return device
                except OSError as error:
                    os.close(device)
                    if error.errno != errno.EBUSY:  # somebody took the device between the two calls
                        raise
    except OSError as error:
        error.filename = error.filename or image
        raise KernelRefused.from_oserror("loop device", error) from error

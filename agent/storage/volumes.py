"""Volumes that are mounted: how full they are, and letting them grow.

A filesystem grows while it is in use, by the tools of its own kind; nothing is ever made smaller.
Sources: statfs(2), resize2fs(8), xfs_growfs(8).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from agent.devices.wait import Devices
from agent.errors import InvalidRequest, KernelRefused, LaunchFailed, Unsupported
from agent.linux.blocking import run_blocking
from agent.linux.mountinfo import MountEntry, mount_of
from agent.processes.reaper import Reaper
from agent.processes.spawn import Completed, run

_EXT = ("ext2", "ext3", "ext4")
_RESIZE2FS = "resize2fs"
_XFS_GROWFS = "xfs_growfs"
# Assumed. Growing writes only the new parts' bookkeeping, but the disk may be a busy network's.
_TIMEOUT_S = 50.0

# A line of what xfs_growfs says of a filesystem, before it does anything.
_XFS_DATA = re.compile(rb"^data +=.*?bsize=(\d+) +blocks=(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Usage:
    """How much there is, is in use, and is free, the part that only root may use included."""

    total: int
    available: int

    @property
    def used(self) -> int:
        """What is not free."""
        return self.total - self.available


@dataclass(frozen=True, slots=True)
class VolumeUsage:
    """What a filesystem has of bytes, and of inodes: both 0 where it does not count them."""

    size_bytes: Usage
    inodes: Usage


def volume_usage(path: str) -> VolumeUsage:
    """How full the filesystem is on which `path` lies. Blocks. Raises OSError."""
    descriptor = _open(path)
    try:
        status = os.fstatvfs(descriptor)
    finally:
        os.close(descriptor)
    return VolumeUsage(
        Usage(status.f_blocks * status.f_frsize, status.f_bfree * status.f_frsize),
        Usage(status.f_files, status.f_ffree),
    )


async def grow_volume(path: str, size_bytes: int, *, devices: Devices, reaper: Reaper) -> None:
    """Let the filesystem at `path` have `size_bytes`, rounded down to its blocks; 0: all of its disk.

    If the disk is still smaller, its growth is awaited. A filesystem that has that size stays as it is.

    Raises Unsupported (it has no disk, or is of a kind that does not grow), InvalidRequest (it is
    larger already), DeviceTimeout, KernelRefused, DeadlineExceeded.
    """
    mount = await run_blocking(_mount_behind, path)
    if mount.fstype not in (*_EXT, "xfs"):
        raise Unsupported(f"{path}: a filesystem of type {mount.fstype} does not grow, only ext4 and xfs do")
    disk = await devices.grown_disk(mount.device, size_bytes)
    size_bytes = size_bytes or disk.size_bytes
    if mount.fstype == "xfs":
        await _grow_xfs(reaper, mount.mount_point, size_bytes)
    else:
        await _grow_ext(reaper, f"/dev/{disk.name}", mount.mount_point, size_bytes)


async def _grow_ext(reaper: Reaper, node: str, mount_point: str, size_bytes: int) -> None:
    if size_bytes < (now := (await run_blocking(volume_usage, mount_point)).size_bytes.total):
        raise InvalidRequest(f"{mount_point} has {now} bytes and cannot shrink to {size_bytes}")
    await _checked(reaper, [_RESIZE2FS, node, f"{size_bytes >> 10}K"], package="e2fsprogs")


async def _grow_xfs(reaper: Reaper, mount_point: str, size_bytes: int) -> None:
    """xfs_growfs counts in blocks, and would shrink a filesystem if it could: so it is asked first."""
    done = await _checked(reaper, [_XFS_GROWFS, "-n", mount_point], package="xfsprogs")
    geometry = _XFS_DATA.search(done.stdout)
    if geometry is None:
        raise KernelRefused(f"{_XFS_GROWFS} -n {mount_point} tells no size: {_words(done.stdout)}")
    block_bytes, blocks = int(geometry[1]), int(geometry[2])
    wanted = size_bytes // block_bytes
    if wanted < blocks:
        raise InvalidRequest(
            f"{mount_point} has {blocks * block_bytes} bytes and cannot shrink to {size_bytes}"
        )
    if wanted > blocks:
        await _checked(reaper, [_XFS_GROWFS, "-D", str(wanted), mount_point], package="xfsprogs")


async def _checked(reaper: Reaper, argv: Sequence[str], *, package: str) -> Completed:
    try:
        done = await run(reaper, argv, timeout_s=_TIMEOUT_S)
    except LaunchFailed as error:
        raise Unsupported(f"{error}", hint=f"the guest needs {package}") from error
    if done.returncode != 0:
        said = _words(done.stderr or done.stdout)
        raise KernelRefused(f"{' '.join(argv)} failed with {done.returncode}: {said}")
    return done


def _words(said: bytes) -> str:
    return " ".join(said.decode(errors="replace").split())


def _mount_behind(path: str) -> MountEntry:
    """The mount on which `path` lies. Raises KernelRefused."""
    try:
        descriptor = _open(path)
        try:
            return mount_of(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KernelRefused.from_oserror("looking at the volume", error) from error


def _open(path: str) -> int:
    """Open `path` without doing anything to it: not even a fifo's other end is waited for."""
    if not path or "\0" in path:
        raise InvalidRequest(f"{path!r} is no path of a volume")
    return os.open(path, os.O_PATH | os.O_CLOEXEC)

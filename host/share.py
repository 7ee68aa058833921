"""The directory that a sandbox shares with its guest, and what is put into it.

A sandbox has two directories. `mounts` is the host's: root filesystems and volumes are bind-mounted
into it. `shared` is exported to the guest: a read-only receiver (slave) of `mounts`. The guest
therefore cannot make, replace or remove an entry, yet each entry that the host mounts appears, with
its own read-only or writable state.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from host.bind_mounts import (
    BindMount,
    bind_mount,
    make_read_only,
    remove_mount_point,
    unmount_below,
    unmount_path,
)
from host.container_config import Mount
from host.errors import HostError, InvalidInput
from host.linux_mount import MountFlag, mount, mount_holding, read_mountinfo, set_propagation
from host.undo import UndoStack

# Where the guest mounts the share. The slash at the end belongs to it: the 1.x agent makes only the
# directory part of this path before it mounts.
GUEST_SHARED_DIR = "/run/kata-containers/shared/containers/"

DIRECTORY_MODE = 0o750
_NAME_MAX = 255  # bytes in a file name, limits.h


@dataclass(frozen=True, slots=True)
class SharedPath:
    """The two directories of one sandbox."""

    mounts: Path
    shared: Path

    @classmethod
    def of(cls, sandbox_dir: Path) -> SharedPath:
        """The directories below `sandbox_dir`, whether they exist or not."""
        return cls(mounts=sandbox_dir / "mounts", shared=sandbox_dir / "shared")


@dataclass(frozen=True, slots=True)
class SharedMount:
    """A volume or file in the share: the container's `mount`, and the name it has there."""

    mount: Mount
    name: str

    @property
    def guest_path(self) -> str:
        return GUEST_SHARED_DIR + self.name


def setup_shared_path(sandbox_dir: Path) -> SharedPath:
    """Make the sandbox's two directories, and `shared` the read-only receiver of `mounts`.

    Raises HostError; what a failed call has made is gone again.
    """
    share = SharedPath.of(sandbox_dir.resolve())
    with contextlib.ExitStack() as undo:
        undo.callback(remove_shared_path, sandbox_dir)
        for directory in (share.mounts, share.shared):
            directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        _make_sender(share.mounts)
        bind_mount(share.mounts, share.shared, read_only=True, propagation="slave")
        undo.pop_all()
    return share


def remove_shared_path(sandbox_dir: Path) -> None:
    """Unmount all that a sandbox has mounted and remove its two directories.

    Needs nothing but the path, so it also clears up after a process that was killed. Safe to call
    twice. Nothing that lies on another mount is removed. Raises HostError.
    """
    share = SharedPath.of(Path(os.path.realpath(sandbox_dir)))
    unmount_below(share.shared)
    unmount_below(share.mounts)
    for directory in (share.shared, share.mounts):
        _remove_mount_points(directory)


def mount_shared_dir_mounts(
    share: SharedPath, container_id: str, mounts: Iterable[Mount], undo: UndoStack
) -> list[SharedMount]:
    """Put the host's files and directories among `mounts` into the share, in their order.

    What reaches the guest in another way (`needs_sharing`) is left out. The way back is pushed on
    `undo` as each mount is made. Raises HostError.
    """
    shared = []
    for entry in mounts:
        if not needs_sharing(entry):
            continue
        name = shared_name(container_id, entry.destination)
        bind = bind_mount(
            entry.source, share.mounts / name, read_only=entry.is_read_only, propagation="private"
        )
        undo.push(f"unmount {bind.destination}", bind.release)
        if entry.is_read_only:
            # A remount does not propagate: without this the guest could write through the share.
            make_read_only(share.shared / name)
        shared.append(SharedMount(entry, name))
    return shared


def bind_mount_container_rootfs(share: SharedPath, container_id: str, rootfs: Path) -> BindMount:
    """Put `rootfs` into the share. Whether it is read-only, the OCI spec tells the guest.

    Raises HostError.
    """
    return bind_mount(rootfs, share.mounts / container_id / "rootfs", propagation="private")


def unbind_container_rootfs(share: SharedPath, container_id: str) -> None:
    """Take a container's root filesystem out of the share by its name alone; absence is no error.

    Raises HostError: a symlink stands where the container's directory should be.
    """
    rootfs = share.mounts / container_id / "rootfs"
    unmount_path(rootfs)
    for directory in (rootfs, rootfs.parent):
        remove_mount_point(directory)


def needs_sharing(entry: Mount) -> bool:
    """Whether `entry` is something of the host's that only the share can bring into the guest."""
    return (
        entry.type == "bind"
        and not is_system_mount(entry.source)
        and os.path.normpath(entry.destination) != "/dev/shm"
        and not is_block_device(entry.source)
        and not is_host_device(entry.destination)
    )


def is_system_mount(path: str) -> bool:
    """Whether `path` is /proc or /sys or lies below: the guest has its own."""
    return _is_below(path, "/proc") or _is_below(path, "/sys")


def is_block_device(path: str | Path) -> bool:
    """Whether `path` leads to a block device, which is plugged into the VM rather than shared."""
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


def is_host_device(path: str) -> bool:
    """Whether `path` is /dev, or something below it that exists and is no regular file."""
    normal = os.path.normpath(path)
    if normal == "/dev":
        return True
    if not _is_below(normal, "/dev"):
        return False
    try:
        return not stat.S_ISREG(os.stat(normal).st_mode)
    except OSError:
        return False


def shared_name(container_id: str, destination: str) -> str:
    """A fresh name in the share, which tells the container and the destination it is for.

    Raises InvalidInput if `destination` is not an absolute path below the root.
    """
    normal = os.path.normpath(destination)
    base = os.path.basename(normal)
    if not normal.startswith("/") or not base:
        raise InvalidInput(f"{destination!r} cannot be a mount's destination", "give an absolute path")
    stem = f"{container_id}-{secrets.token_hex(8)}-"
    room = _NAME_MAX - len(stem.encode())
    return stem + os.fsencode(base)[:room].decode(errors="ignore")


def _is_below(path: str, directory: str) -> bool:
    normal = os.path.normpath(path)
    return normal == directory or normal.startswith(directory + "/")


def _make_sender(directory: Path) -> None:
    """See to it that mounts made below `directory` propagate to receivers bound from it.

    They do if the mount it lies on is shared (`/run` under systemd is; in many containers and under
    a small init it is not). Otherwise it becomes a shared mount of its own.
    """
    if mount_holding(directory, read_mountinfo()).is_shared:
        return
    try:
        mount(directory, directory, "bind", MountFlag.BIND)
        set_propagation(directory, MountFlag.SHARED)
    except OSError as error:
        raise HostError(f"Could not make {directory} a shared mount: {error.strerror}") from error


def _remove_mount_points(directory: Path) -> None:
    """Remove `directory` with the mount points in it: one level of files and directories of directories.

    A directory that holds anything else stays, with its content.
    """
    if not directory.is_dir() or directory.is_symlink():
        return
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            for inner in entry.iterdir():
                remove_mount_point(inner)
        remove_mount_point(entry)
    remove_mount_point(directory)

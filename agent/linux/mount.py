"""mount(2) and umount2(2), typed; no policy.

The standard library has neither call. Sources: mount(2), umount2(2); the numbers are those of
<linux/mount.h> and, for the unmount flags, <sys/mount.h>.
"""

from __future__ import annotations

import ctypes
import enum
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)
_libc.mount.restype = ctypes.c_int
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.umount2.restype = ctypes.c_int

_MNT_DETACH = 0x2
_UMOUNT_NOFOLLOW = 0x8


class MountFlag(enum.IntFlag):
    """The MS_* flags of mount(2), under the kernel's names (<linux/mount.h>)."""

    RDONLY = 0x1
    NOSUID = 0x2
    NODEV = 0x4
    NOEXEC = 0x8
    SYNCHRONOUS = 0x10
    REMOUNT = 0x20
    MANDLOCK = 0x40
    DIRSYNC = 0x80
    NOATIME = 0x400
    NODIRATIME = 0x800
    BIND = 0x1000
    MOVE = 0x2000
    REC = 0x4000
    SILENT = 0x8000
    POSIXACL = 0x10000
    UNBINDABLE = 0x20000
    PRIVATE = 0x40000
    SLAVE = 0x80000
    SHARED = 0x100000
    RELATIME = 0x200000
    I_VERSION = 0x800000
    STRICTATIME = 0x1000000
    LAZYTIME = 0x2000000


# The flags a mount has of its own, beside its filesystem's, and the bit by which statvfs(3) shows
# each (<bits/statvfs.h>). A bind remount without one of them would take it away.
PER_MOUNT_FLAGS = {
    0x1: MountFlag.RDONLY,
    0x2: MountFlag.NOSUID,
    0x4: MountFlag.NODEV,
    0x8: MountFlag.NOEXEC,
    0x400: MountFlag.NOATIME,
    0x800: MountFlag.NODIRATIME,
    0x1000: MountFlag.RELATIME,
}


def mount(
    source: str,
    target: str,
    fstype: str = "",
    flags: MountFlag = MountFlag(0),  # noqa: B008 - an immutable value
    data: str = "",
) -> None:
    """Call mount(2). Empty `fstype` and `data` are passed as NULL.

    Raises OSError with `source` and `target` in filename and filename2; ValueError for a NUL byte.
    """
    result = _libc.mount(
        _c_text(source), _c_text(target), _c_text(fstype) or None, int(flags), _c_text(data) or None
    )
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), source, None, target)


def umount(target: str, *, detach: bool = False, nofollow: bool = True) -> None:
    """Call umount2(2) on the topmost mount at `target`.

    `detach` takes a busy mount out of the tree now and ends it when its last user goes;
    `nofollow` refuses a `target` that is a symbolic link (EINVAL). Raises OSError.
    """
    flags = (_MNT_DETACH if detach else 0) | (_UMOUNT_NOFOLLOW if nofollow else 0)
    if _libc.umount2(_c_text(target), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def bind_mount(
    source: str,
    target: str,
    *,
    recursive: bool = False,
    read_only: bool = False,
    propagation: MountFlag | None = None,
) -> None:
    """Make `source` appear at `target` too; `recursive` takes the mounts below it along.

    The kernel ignores both MS_RDONLY and the propagation flags in the call that binds, so each
    takes a call of its own (mount(2), "Creating a bind mount"). `read_only` covers the topmost
    mount, not those that `recursive` took along. If a later call fails, the bind is taken back.
    Raises OSError.
    """
    mount(source, target, "", MountFlag.BIND | (MountFlag.REC if recursive else MountFlag(0)))
    try:
        if propagation is not None:
            set_propagation(target, propagation)
        if read_only:
            remount_bind_read_only(target)
    except OSError:
        umount(target, detach=True, nofollow=False)
        raise


def remount_bind(
    target: str,
    add: MountFlag,
    clear: MountFlag = MountFlag(0),  # noqa: B008 - an immutable value
) -> None:
    """Add and clear per-mount flags of the mount whose root is `target`; its others stay.

    Raises OSError.
    """
    mount("none", target, "", MountFlag.REMOUNT | MountFlag.BIND | (_present(target) & ~clear) | add)


def remount(
    target: str,
    add: MountFlag = MountFlag(0),  # noqa: B008 - an immutable value
    clear: MountFlag = MountFlag(0),  # noqa: B008 - an immutable value
    data: str = "",
) -> None:
    """Give the filesystem whose mount has its root at `target` new options in `data`.

    The mount keeps its flags but for those that are added and cleared: the bare call would take
    nosuid, nodev and noexec away. Raises OSError.
    """
    mount("none", target, "", MountFlag.REMOUNT | (_present(target) & ~clear) | add, data)


def remount_bind_read_only(target: str) -> None:
    """Make the mount whose root is `target` read-only, and only that mount. Raises OSError."""
    remount_bind(target, MountFlag.RDONLY)


def set_propagation(target: str, propagation: MountFlag) -> None:
    """Set how mounts at `target` travel: PRIVATE, SHARED, SLAVE or UNBINDABLE, perhaps with REC.

    Raises OSError.
    """
    mount("none", target, "", propagation)


def _present(target: str) -> MountFlag:
    """The flags that the mount at `target` has of its own."""
    status = os.statvfs(target).f_flag
    present = MountFlag(0)
    for bit, flag in PER_MOUNT_FLAGS.items():
        if status & bit:
            present |= flag
    return present


def _c_text(text: str) -> bytes:
    """`text` for a C call. A NUL byte would end it early and silently: ValueError."""
    encoded = os.fsencode(text)
    if b"\0" in encoded:
        raise ValueError(f"NUL byte in {text!r}")
    return encoded

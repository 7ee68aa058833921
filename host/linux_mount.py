"""The kernel's mount calls as the host side needs them, and its mount table: typed, no policy.

The agent has its own such layer, which the host does not import: the host runs without the agent.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")


class MountFlag(enum.IntFlag):
    """Flags of mount(2), from include/uapi/linux/mount.h."""

    RDONLY = 0x1
    NOSUID = 0x2
    NODEV = 0x4
    NOEXEC = 0x8
    REMOUNT = 0x20
    NOATIME = 0x400
    NODIRATIME = 0x800
    BIND = 0x1000
    REC = 0x4000
    UNBINDABLE = 0x20000
    PRIVATE = 0x40000
    SLAVE = 0x80000
    SHARED = 0x100000
    RELATIME = 0x200000


_PLAIN = MountFlag(0)


class UnmountFlag(enum.IntFlag):
    """Flags of umount2(2), from include/linux/fs.h."""

    DETACH = 0x2
    NOFOLLOW = 0x8


# What statvfs(3) calls the flags that a bind remount would otherwise clear, and their names in
# mount(2). In a user namespace the kernel refuses (EPERM) a remount that clears one of them.
_KEPT_BY_REMOUNT = (
    (os.ST_NOSUID, MountFlag.NOSUID),
    (os.ST_NODEV, MountFlag.NODEV),
    (os.ST_NOEXEC, MountFlag.NOEXEC),
    (os.ST_NOATIME, MountFlag.NOATIME),
    (os.ST_NODIRATIME, MountFlag.NODIRATIME),
    (os.ST_RELATIME, MountFlag.RELATIME),
)


@functools.cache
def _libc() -> ctypes.CDLL:
    """The C library, with the argument types of the two calls declared."""
    libc = ctypes.CDLL(None, use_errno=True)
    text = ctypes.c_char_p
    libc.mount.argtypes = (text, text, text, ctypes.c_ulong, text)
    libc.umount2.argtypes = (text, ctypes.c_int)
    return libc


def mount(
    source: str | Path, target: str | Path, fstype: str, flags: MountFlag = _PLAIN, data: str = ""
) -> None:
    """mount(2). Raises OSError that names both paths."""
    result: int = _libc().mount(
        os.fsencode(source), os.fsencode(target), fstype.encode(), int(flags), os.fsencode(data) or None
    )
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(source), None, os.fspath(target))


def unmount(target: str | Path) -> None:
    """umount2(2), lazily and never through a symlink in the last component. Raises OSError."""
    result: int = _libc().umount2(os.fsencode(target), int(UnmountFlag.DETACH | UnmountFlag.NOFOLLOW))
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(target))


def set_propagation(target: str | Path, kind: MountFlag) -> None:
    """Change how mount events travel to and from `target` (mount_namespaces(7)). Raises OSError."""
    mount("none", target, "", kind)


def remount_read_only(target: str | Path) -> None:
    """Make the one mount at `target` read-only, keeping its nosuid, nodev, noexec and atime flags.

    The change is this mount's own: it does not propagate to the mount's copies (tried on 6.18).
    Raises OSError.
    """
    present = os.statvfs(target).f_flag
    flags = MountFlag.REMOUNT | MountFlag.BIND | MountFlag.RDONLY
    for reported, kept in _KEPT_BY_REMOUNT:
        if present & reported:
            flags |= kept
    mount(target, target, "", flags)


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of /proc/PID/mountinfo (proc(5))."""

    mount_id: int
    parent_id: int
    device: str  # "major:minor"
    root: str  # the path within the filesystem that is mounted here
    mount_point: str
    options: tuple[str, ...]
    tags: tuple[str, ...]  # the optional fields: "shared:N", "master:N", ...
    fstype: str
    source: str
    super_options: tuple[str, ...]

    @property
    def is_shared(self) -> bool:
        """Mounts made beneath this one appear in its peers and receivers."""
        return any(tag.startswith("shared:") for tag in self.tags)


def parse_mountinfo(lines: Iterable[str]) -> list[MountEntry]:
    """The entries of a mountinfo file, in the kernel's order (a later one covers an earlier one)."""
    return [_parse_line(line) for line in lines if line.strip()]


def read_mountinfo(path: Path = MOUNTINFO) -> list[MountEntry]:
    """The mounts of this process's namespace. Raises OSError."""
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        return parse_mountinfo(file)


def _parse_line(line: str) -> MountEntry:
    fields = line.rstrip("\n").split(" ")
    separator = fields.index("-", 6)
    fstype, source, super_options = fields[separator + 1 : separator + 4]
    return MountEntry(
        mount_id=int(fields[0]),
        parent_id=int(fields[1]),
        device=fields[2],
        root=_unescape(fields[3]),
        mount_point=_unescape(fields[4]),
        options=tuple(fields[5].split(",")),
        tags=tuple(fields[6:separator]),
        fstype=fstype,
        source=_unescape(source),
        super_options=tuple(super_options.split(",")),
    )


_OCTAL = re.compile(r"\\([0-7]{3})")


def _unescape(text: str) -> str:
    """Undo the kernel's escapes of blank, tab, newline and backslash (`\\040`), the only four it makes."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def mount_holding(path: Path, table: Iterable[MountEntry]) -> MountEntry:
    """The mount that `path` lies on, found by the id that the kernel gives an open file.

    Raises OSError if there is no such file, ValueError if `table` is of another mount namespace.
    """
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        details = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    finally:
        os.close(descriptor)
    mount_id = int(details.split("mnt_id:")[1].split()[0])  # proc(5), /proc/PID/fdinfo
    for entry in table:
        if entry.mount_id == mount_id:
            return entry
    raise ValueError(f"the mount that holds {path} (id {mount_id}) is not in the mount table")


def mounts_below(path: Path, table: Iterable[MountEntry], *, itself: bool = True) -> list[MountEntry]:
    """The mounts at (if `itself`) and beneath `path`, newest first: the order to unmount them in."""
    inside = [
        entry
        for entry in table
        if Path(entry.mount_point).is_relative_to(path) and (itself or Path(entry.mount_point) != path)
    ]
    return inside[::-1]

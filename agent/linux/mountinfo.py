"""The mount table, as /proc/[pid]/mountinfo shows it. Source: proc_pid_mountinfo(5)."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of mountinfo."""

    mount_id: int
    parent_id: int
    device: tuple[int, int]
    """Major and minor number of the filesystem's device."""
    root: str
    """The directory of the filesystem that is the root of this mount."""
    mount_point: str
    options: tuple[str, ...]
    """What holds for this mount alone: ro, nosuid, ..."""
    propagation: tuple[str, ...]
    """`shared:N`, `master:N`, `propagate_from:N`, `unbindable`; empty for a private mount."""
    fstype: str
    source: str
    super_options: tuple[str, ...]
    """What holds for the filesystem, whatever the mount."""

    @property
    def read_only(self) -> bool:
        """Whether a write through this mount is refused."""
        return "ro" in self.options or "ro" in self.super_options


def parse_line(line: str) -> MountEntry:
    """Parse one line. Raises ValueError if it is not one of mountinfo's."""
    before, separator, after = line.partition(" - ")
    fields, tail = before.split(" "), after.split(" ")
    if not separator or len(fields) < 6 or len(tail) < 3:
        raise ValueError(f"not a line of mountinfo: {line!r}")
    major, _, minor = fields[2].partition(":")
    return MountEntry(
        mount_id=int(fields[0]),
        parent_id=int(fields[1]),
        device=(int(major), int(minor)),
        root=_unescape(fields[3]),
        mount_point=_unescape(fields[4]),
        options=tuple(fields[5].split(",")),
        propagation=tuple(fields[6:]),
        fstype=_unescape(tail[0]),
        source=_unescape(tail[1]),
        super_options=tuple(tail[2].split(",")),
    )


def read_mountinfo(path: str = "/proc/self/mountinfo") -> list[MountEntry]:
    """The mount table in the kernel's order. Raises OSError, ValueError."""
    text = Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    return [parse_line(line) for line in text.split("\n") if line]


def mount_of(descriptor: int) -> MountEntry:
    """The mount on which the open file `descriptor` lies (proc_pid_fdinfo(5)).

    Raises OSError(ESTALE) if it has been unmounted meanwhile.
    """
    text = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii")
    match = re.search(r"^mnt_id:\s*(\d+)$", text, re.MULTILINE)
    assert match is not None  # there since Linux 3.15
    for entry in read_mountinfo():
        if entry.mount_id == int(match[1]):
            return entry
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))


def mounts_below(path: str, table: Iterable[MountEntry] | None = None) -> list[MountEntry]:
    """The mounts at `path` and below it, in an order in which they can be unmounted.

    A mount comes before the one it stands on; between strangers the newer comes first. `path` is
    absolute and is compared as text, so it holds no symbolic link. Raises OSError.
    """
    entries = list(read_mountinfo() if table is None else table)
    parents = {entry.mount_id: entry.parent_id for entry in entries}
    prefix = path.rstrip("/") + "/"
    chosen = [entry for entry in entries if (entry.mount_point.rstrip("/") + "/").startswith(prefix)]
    # sorted() is stable: reversed() puts the newer of two equally deep mounts first.
    return sorted(reversed(chosen), key=lambda entry: -_depth(entry.mount_id, parents))


def _depth(mount_id: int, parents: dict[int, int]) -> int:
    """How many mounts `mount_id` stands on. A mount namespace's root may name itself as parent."""
    depth = 0
    seen = {mount_id}
    while (mount_id := parents.get(mount_id, mount_id)) not in seen:
        seen.add(mount_id)
        depth += 1
    return depth


def _unescape(field: str) -> str:
    """Undo the kernel's escapes: space, tab, newline and backslash as three octal digits."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)

"""Mount options as the host writes them -> what mount(2) takes. Pure: nothing is mounted here.

The words are those of fstab(5) and mount(8), with the meaning that runc and Kata's container mounts
give them (docs/storage-drivers.md, "Mount options").
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from agent.errors import InvalidRequest
from agent.linux.mount import MountFlag

NO_FLAGS = MountFlag(0)

_SET: dict[str, MountFlag] = {
    "acl": MountFlag.POSIXACL,
    "bind": MountFlag.BIND,
    "defaults": NO_FLAGS,
    "dirsync": MountFlag.DIRSYNC,
    "iversion": MountFlag.I_VERSION,
    "lazytime": MountFlag.LAZYTIME,
    "mand": MountFlag.MANDLOCK,
    "noatime": MountFlag.NOATIME,
    "nodev": MountFlag.NODEV,
    "nodiratime": MountFlag.NODIRATIME,
    "noexec": MountFlag.NOEXEC,
    "nosuid": MountFlag.NOSUID,
    "rbind": MountFlag.BIND | MountFlag.REC,
    "relatime": MountFlag.RELATIME,
    "remount": MountFlag.REMOUNT,
    "ro": MountFlag.RDONLY,
    "silent": MountFlag.SILENT,
    "strictatime": MountFlag.STRICTATIME,
    "sync": MountFlag.SYNCHRONOUS,
}

_CLEAR: dict[str, MountFlag] = {
    "async": MountFlag.SYNCHRONOUS,
    "atime": MountFlag.NOATIME,
    "dev": MountFlag.NODEV,
    "diratime": MountFlag.NODIRATIME,
    "exec": MountFlag.NOEXEC,
    "loud": MountFlag.SILENT,
    "noacl": MountFlag.POSIXACL,
    "noiversion": MountFlag.I_VERSION,
    "nolazytime": MountFlag.LAZYTIME,
    "nomand": MountFlag.MANDLOCK,
    "norelatime": MountFlag.RELATIME,
    "nostrictatime": MountFlag.STRICTATIME,
    "rw": MountFlag.RDONLY,
    "suid": MountFlag.NOSUID,
}

_PROPAGATION: dict[str, MountFlag] = {
    "private": MountFlag.PRIVATE,
    "rprivate": MountFlag.PRIVATE | MountFlag.REC,
    "shared": MountFlag.SHARED,
    "rshared": MountFlag.SHARED | MountFlag.REC,
    "slave": MountFlag.SLAVE,
    "rslave": MountFlag.SLAVE | MountFlag.REC,
    "unbindable": MountFlag.UNBINDABLE,
    "runbindable": MountFlag.UNBINDABLE | MountFlag.REC,
}

# Words that hosts leave in the list as notes to the agent; a filesystem would refuse them.
_NOTES = ("io.katacontainers.", "X-kata.")

# mount(2) copies one page of data, the closing NUL byte included, and cuts off the rest silently.
_PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class MountOptions:
    """A list of options, taken apart."""

    flags: MountFlag = NO_FLAGS
    """What the first mount(2) call gets."""
    clear: MountFlag = NO_FLAGS
    """What the list takes away: matters where flags are there already, as in a remount."""
    propagation: tuple[MountFlag, ...] = ()
    """One further call each, in this order; mount(2) takes no two in one call."""
    data: str = ""
    """The filesystem's own options, in the order in which they came."""

    @property
    def read_only(self) -> bool:
        """Whether a write is to be refused."""
        return MountFlag.RDONLY in self.flags

    @classmethod
    def parse(cls, items: Iterable[str]) -> MountOptions:
        """Take `items` apart; later words win over earlier ones.

        Each item is one word or one string of data: `trans=virtio,version=9p2000.L` passes through
        whole. Raises InvalidRequest for a word only mount(8) can carry out, for a NUL byte, and
        for more than a page of data.
        """
        flags = clear = NO_FLAGS
        propagation: list[MountFlag] = []
        data: list[str] = []
        for item in items:
            if (added := _SET.get(item)) is not None:
                flags, clear = flags | added, clear & ~added
            elif (removed := _CLEAR.get(item)) is not None:
                flags, clear = flags & ~removed, clear | removed
            elif (mode := _PROPAGATION.get(item)) is not None:
                propagation.append(mode)
            elif item == "loop":
                raise InvalidRequest("mount option 'loop' is mount(8)'s, not the kernel's")
            elif item and not item.startswith(_NOTES):
                data.append(item)
        return cls(flags, clear, tuple(propagation), _checked(",".join(data)))


def _checked(data: str) -> str:
    size_bytes = len(os.fsencode(data))
    if size_bytes >= _PAGE_SIZE:
        raise InvalidRequest(f"mount options are {size_bytes} bytes long, the kernel takes {_PAGE_SIZE - 1}")
    if "\0" in data:
        raise InvalidRequest(f"NUL byte in mount options {data!r}")
    return data


# The suffixes of sizes in mount options and in Kubernetes quantities; both count in powers of 1024 here.
_SIZE = re.compile(r"([0-9]+)(?:([KMGT])i?B?)?", re.ASCII | re.IGNORECASE)
_FACTOR = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def named_number(items: Iterable[str], name: str, *, base: Literal[8, 10] = 10) -> int | None:
    """The number of `name=NUMBER` among `items`, the last one winning; None if it is not there.

    Raises InvalidRequest for what is no unsigned number of that base.
    """
    text = _named(items, name)
    digits = "[0-7]+" if base == 8 else "[0-9]+"
    if text is None:
        return None
    if re.fullmatch(digits, text, re.ASCII) is None:
        raise InvalidRequest(f"option {name}={text}: {text!r} is no number of base {base}")
    return int(text, base)


def named_size(items: Iterable[str], name: str) -> int | None:
    """The bytes of `name=SIZE` among `items`, SIZE as in `2097152`, `2M` or `1Gi`; None without it.

    Raises InvalidRequest.
    """
    text = _named(items, name)
    if text is None:
        return None
    if (match := _SIZE.fullmatch(text)) is None:
        raise InvalidRequest(f"option {name}={text}: {text!r} is no size")
    return int(match[1]) * _FACTOR[(match[2] or "").upper()]


def without(items: Iterable[str], *names: str) -> tuple[str, ...]:
    """`items` without `name=...` for each of `names`, wherever in a comma-separated item it stands."""
    prefixes = tuple(f"{name}=" for name in names)
    kept = (",".join(word for word in item.split(",") if not word.startswith(prefixes)) for item in items)
    return tuple(item for item in kept if item)


def _named(items: Iterable[str], name: str) -> str | None:
    words = (word for item in items for word in item.split(","))
    values = [value for key, sign, value in (word.partition("=") for word in words) if sign and key == name]
    return values[-1] if values else None

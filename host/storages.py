"""What a sandbox and a container ask the agent to mount before anything runs: the `Storage` messages.

Everything here is pure: it looks at mounts and answers with new lists; nothing is shared between
two sandboxes. Names, numbers and order: kata-containers/runtime virtcontainers/kata_agent.go (1.x)
and kata-containers src/runtime/virtcontainers/kata_agent.go (4.x).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from google.protobuf.message import Message

from host.agent_messages import Messages
from host.container_config import SHM_SIZE_BYTES, Mount
from host.errors import HostError, InvalidInput
from host.linux_mount import MountEntry
from host.share import GUEST_SHARED_DIR

GUEST_SANDBOX_DIR = "/run/kata-containers/sandbox"
GUEST_SHM = f"{GUEST_SANDBOX_DIR}/shm"
GUEST_EPHEMERAL_DIR = f"{GUEST_SANDBOX_DIR}/ephemeral"
GUEST_STORAGE_DIR = f"{GUEST_SANDBOX_DIR}/storage"

SHARE_TAG = "kataShared"
# Bytes in one 9p request. Kata's constant is 8192, which is also where Linux begins to warn; larger
# ones make fewer requests of a file. 125 pages is all that virtio takes (net/9p/trans_virtio.c).
DEFAULT_MSIZE = 512_000

SHM_OPTIONS = ("noexec", "nosuid", "nodev", "mode=1777")
# Kata's hosts send `rbind` alone. crun 1.8 then clears the three flags that the tmpfs has (tried).
SHM_BIND_OPTIONS = ("rbind", "noexec", "nosuid", "nodev")

# The block drivers by the names of Kata's configuration, and the storage driver each one is in the guest.
STORAGE_DRIVERS = {
    "virtio-blk": "blk",  # source: a PCI path, or the node if the path is not known
    "virtio-mmio": "mmioblk",  # source: the node
    "virtio-blk-ccw": "blk-ccw",  # source: the ccw bus id
    "virtio-scsi": "scsi",  # source: "id:lun"
}

# Words of a tmpfs's own among a mount's options; the others belong to the bind in the container.
_TMPFS_WORDS = ("size=", "nr_blocks=", "nr_inodes=", "mode=", "uid=", "gid=")


@dataclass(frozen=True, slots=True)
class Storage:
    """One storage; the fields are those of the message."""

    driver: str
    source: str
    fstype: str
    mount_point: str
    options: tuple[str, ...] = ()
    driver_options: tuple[str, ...] = ()

    def message(self, messages: Messages) -> Message:
        """The message of the generation whose classes `messages` holds."""
        return messages.Storage(
            driver=self.driver,
            driver_options=self.driver_options,
            source=self.source,
            fstype=self.fstype,
            options=self.options,
            mount_point=self.mount_point,
        )


@dataclass(frozen=True, slots=True)
class GuestDevice:
    """One device for a container; the fields are those of the `Device` message."""

    id: str
    type: str
    vm_path: str
    container_path: str

    @classmethod
    def on_disk(cls, driver: str, source: str, container_path: str) -> GuestDevice:
        """The disk that the guest finds by `driver` and `source`, as those of a storage."""
        is_node = source.startswith("/dev/")
        address = "" if driver == "blk" and is_node else source
        return cls(address, driver, source if is_node else "", container_path)

    def message(self, messages: Messages) -> Message:
        """The message of the generation whose classes `messages` holds."""
        return messages.Device(
            id=self.id, type=self.type, vm_path=self.vm_path, container_path=self.container_path
        )


def storage_driver(block_driver: str) -> str:
    """The storage driver of a block driver's name. Raises InvalidInput."""
    try:
        return STORAGE_DRIVERS[block_driver]
    except KeyError:
        raise InvalidInput(
            f"Unknown block device driver: {block_driver}", f"known are {', '.join(STORAGE_DRIVERS)}"
        ) from None


def share_storage(shared_fs: str, *, msize: int = DEFAULT_MSIZE, dax: bool = False) -> Storage:
    """The sandbox's share over `shared_fs` ("9p" or "virtio-fs"). Raises InvalidInput."""
    if shared_fs == "9p":
        options = ("trans=virtio,version=9p2000.L,cache=mmap", "nodev", f"msize={msize}")
        return Storage("9p", SHARE_TAG, "9p", GUEST_SHARED_DIR, options)
    if shared_fs == "virtio-fs":
        return Storage("virtio-fs", SHARE_TAG, "virtiofs", GUEST_SHARED_DIR, ("dax",) if dax else ())
    raise InvalidInput(f"unknown shared filesystem: {shared_fs}", "known are 9p, virtio-fs")


def shm_storage(size_bytes: int) -> Storage:
    """The sandbox's /dev/shm, which its containers bind."""
    return Storage("ephemeral", "shm", "tmpfs", GUEST_SHM, (*SHM_OPTIONS, f"size={size_bytes}"))


def sandbox_storages(
    shared_fs: str | None, *, shm_size: int, msize: int = DEFAULT_MSIZE, dax: bool = False
) -> list[Storage]:
    """What CreateSandbox asks for: the share, if there is one, and shm, if its size is not 0 bytes."""
    storages = [] if shared_fs is None else [share_storage(shared_fs, msize=msize, dax=dax)]
    return [*storages, shm_storage(shm_size)] if shm_size > 0 else storages


def rootfs_storage(driver: str, source: str, fstype: str, mount_point: str) -> Storage:
    """A container's root filesystem on the disk that the guest finds by `driver` and `source`."""
    # Snapshots of one base carry the same UUID, of which xfs mounts only the first.
    options = ("nouuid",) if fstype == "xfs" else ()
    return Storage(driver, source, fstype, mount_point, options)


def handle_shm(mounts: Iterable[Mount], shm_size: int) -> list[Mount]:
    """/dev/shm from the sandbox's shm if it has one (`shm_size` > 0 bytes), else a tmpfs of its own."""
    return [_shm(entry, shm_size) if _is_shm(entry) else entry for entry in mounts]


def handle_ephemeral_storage(
    mounts: Iterable[Mount], *, fs_group: Mapping[str, int] | None = None
) -> tuple[list[Mount], list[Storage]]:
    """The mounts of type `ephemeral`: a tmpfs in the guest for each, which the container binds.

    A size (or another word of tmpfs's own) among the options goes to the tmpfs. `fs_group` gives a
    source's group on the host, if that is not root's.
    """
    changed, storages = [], []
    for entry in mounts:
        if entry.type != "ephemeral":
            changed.append(entry)
            continue
        place = f"{GUEST_EPHEMERAL_DIR}/{_last_name(entry)}"
        own = tuple(word for word in entry.options if word.startswith(_TMPFS_WORDS))
        group = (fs_group or {}).get(entry.source, 0)
        options = (*own, f"fsgid={group}") if group else own
        storages.append(Storage("ephemeral", "tmpfs", "tmpfs", place, options))
        changed.append(entry.from_guest(place, options=[w for w in entry.options if w not in own]))
    return changed, storages


def handle_hugepages(
    mounts: Iterable[Mount], table: Sequence[MountEntry], limits: Mapping[int, int]
) -> tuple[list[Mount], list[Storage]]:
    """The mounts of type `local` whose source is a hugetlbfs of the host's.

    `table` is the host's mount table; `limits` maps a page size to the container's limit, both in
    bytes, for a filesystem that names no size itself. Must come before `handle_local_storage`.
    Raises HostError: nothing says how much.
    """
    hugetlbfs = {entry.mount_point: entry for entry in table if entry.fstype == "hugetlbfs"}
    changed, storages = [], []
    for entry in mounts:
        source = os.path.normpath(entry.source)
        if entry.type != "local" or source not in hugetlbfs:
            changed.append(entry)
            continue
        place = f"{GUEST_EPHEMERAL_DIR}/{_last_name(entry)}"
        option = _hugepage_option(hugetlbfs[source], limits)
        storages.append(Storage("ephemeral", "nodev", "hugetlbfs", place, (option,)))
        changed.append(entry.from_guest(place))
    return changed, storages


def handle_local_storage(
    mounts: Iterable[Mount], sandbox_id: str, rootfs_suffix: str
) -> tuple[list[Mount], list[Storage]]:
    """The mounts of type `local`: a directory in the sandbox's own container for each.

    It relies on the first container carrying the sandbox's id, as Kata's hosts do.
    """
    base = os.path.join(GUEST_SHARED_DIR, sandbox_id, rootfs_suffix, "local")
    changed, storages = [], []
    for entry in mounts:
        if entry.type != "local":
            changed.append(entry)
            continue
        place = os.path.join(base, _last_name(entry))
        storages.append(Storage("local", "local", "local", place, ("mode=0777",)))
        options = entry.options if {"bind", "rbind"} & set(entry.options) else ("rbind", *entry.options)
        changed.append(entry.from_guest(place, options=options))
    return changed, storages


def classify_empty_dirs(mounts: Iterable[Mount], table: Sequence[MountEntry]) -> list[Mount]:
    """Kubernetes' emptyDir volumes by what they are on the host: memory `ephemeral`, disk `local`.

    `table` is the host's mount table. A source counts as memory if a tmpfs is mounted exactly there.
    """
    tmpfs = {entry.mount_point for entry in table if entry.fstype == "tmpfs"}
    classified = []
    for entry in mounts:
        source = Path(os.path.normpath(entry.source))
        if source.parent.name == "kubernetes.io~empty-dir":
            entry = replace(entry, type="ephemeral" if str(source) in tmpfs else "local")
        classified.append(entry)
    return classified


def _is_shm(entry: Mount) -> bool:
    return entry.destination == "/dev/shm" and entry.type != "ephemeral"


def _shm(entry: Mount, shm_size: int) -> Mount:
    if shm_size > 0:
        return entry.from_guest(GUEST_SHM, options=SHM_BIND_OPTIONS)
    options = (*SHM_OPTIONS, f"size={SHM_SIZE_BYTES}")
    return replace(entry, type="tmpfs", source="shm", options=options)


def _last_name(entry: Mount) -> str:
    name = os.path.basename(os.path.normpath(entry.source))
    if name in ("", ".", ".."):
        raise InvalidInput(f"the {entry.type} mount at {entry.destination} has no name", "give a source")
    return name


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int:
    """Bytes from a size as mounts and Kubernetes write it: `2048`, `2M`, `1Gi`. Raises InvalidInput."""
    number = text.strip().removesuffix("B").removesuffix("i")
    unit = number[-1:].upper() if number[-1:].isalpha() else ""
    digits = number[:-1] if unit else number
    if unit not in _UNITS or not (digits.isascii() and digits.isdigit()):
        raise InvalidInput(f"{text!r} is no size", "write it as 2M or 1Gi")
    return int(digits) * _UNITS[unit]


def _hugepage_option(entry: MountEntry, limits: Mapping[int, int]) -> str:
    words = dict(word.split("=", 1) for word in entry.super_options if "=" in word)
    if "pagesize" not in words:
        raise HostError(f"the hugetlbfs at {entry.mount_point} does not tell its page size")
    page_size = parse_size(words["pagesize"])
    size = parse_size(words["size"]) if words.get("size") else limits.get(page_size, 0)
    if size <= 0:
        raise HostError(
            f"nothing says how large the huge pages at {entry.mount_point} are to be",
            "mount them with size=, or give the container a hugepage limit",
        )
    return f"pagesize={page_size},size={size}"

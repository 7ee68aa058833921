"""What the user gave as a root filesystem: told by its content, never by its name."""

from __future__ import annotations

import enum
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path

from host.errors import InvalidInput


class RootfsKind(enum.StrEnum):
    """The forms in which a root filesystem can be given."""

    DIRECTORY = "directory"
    TAR = "tar"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class RootfsSource:
    """A root filesystem of the user's, which is only ever read. `fstype` is empty unless it is an image."""

    path: Path  # absolute, without symlinks
    kind: RootfsKind
    fstype: str = ""


@dataclass(frozen=True, slots=True)
class _Magic:
    """Bytes at an offset that tell a format (magic(5); e2fsprogs, xfsprogs: the superblocks)."""

    name: str
    offset: int
    content: bytes

    def matches(self, head: bytes) -> bool:
        return head[self.offset : self.offset + len(self.content)] == self.content


# The ext4 driver mounts what ext2 and ext3 wrote; all three have one magic.
_FILESYSTEMS = (_Magic("ext4", 0x438, b"\x53\xef"), _Magic("xfs", 0, b"XFSB"))

# Formats that people try, each with what to do.
_REFUSED = (
    (
        _Magic("a qcow2 image", 0, b"QFI\xfb"),
        "convert it with `qemu-img convert -O raw`",
    ),
    (
        _Magic("compressed with zstd", 0, b"\x28\xb5\x2f\xfd"),
        "unpack it first with `zstd -d`",
    ),
    (_Magic("a squashfs image", 0, b"hsqs"), "unpack it with `unsquashfs` and give the directory"),
    (_Magic("a btrfs image", 0x10040, b"_BHRfS_M"), "give a directory, a tar, or an ext4 or xfs image"),
    (
        _Magic("a disk with a partition table", 510, b"\x55\xaa"),
        "give the one partition that holds the root filesystem",
    ),
)
_HEAD_BYTES = 0x10048


def identify_rootfs(path: str | Path) -> RootfsSource:
    """What lies at `path`. Raises InvalidInput: nothing, or nothing that can be a root filesystem."""
    given = Path(path)
    try:
        real = given.resolve(strict=True)
        mode = real.stat().st_mode
    except (OSError, RuntimeError):  # RuntimeError: a loop of symlinks, on Python 3.11
        raise InvalidInput(
            f"there is no root filesystem at {given}", "name a directory, a tar, or an ext4 or xfs image"
        ) from None
    if stat.S_ISDIR(mode):
        return RootfsSource(real, RootfsKind.DIRECTORY)
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise InvalidInput(f"{given} is neither a directory, a file nor a block device")
    return _identify_file(given, real)


def filesystem_type(path: Path) -> str:
    """The type of the filesystem at the head of `path`: "ext4", "xfs", or empty. Raises OSError."""
    head = _head(path)
    return next((magic.name for magic in _FILESYSTEMS if magic.matches(head)), "")


def _identify_file(given: Path, real: Path) -> RootfsSource:
    # The filesystems come first: a tar of nothing but zeros is a valid one, and so an image's head.
    if fstype := filesystem_type(real):
        return RootfsSource(real, RootfsKind.IMAGE, fstype)
    head = _head(real)
    for magic, advice in _REFUSED:
        if magic.matches(head):
            raise InvalidInput(f"{given} is {magic.name}", advice)
    if any(head) and tarfile.is_tarfile(real):
        return RootfsSource(real, RootfsKind.TAR)
    raise InvalidInput(f"{given} is neither a tar nor an ext4 or xfs image")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)

"""An ext4 image made from a directory, without mounting anything."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from host.errors import HostError
from host.short_programs import run_program
from host.vm.programs import find_program

BLOCK_BYTES = 4096
# What is left free for the container, and how many bytes there are to one inode (mke2fs.conf's default).
DEFAULT_FREE_BYTES = 1 << 30
BYTES_PER_INODE = 16384
_INODE_BYTES = 256


@dataclass(frozen=True, slots=True)
class TreeUsage:
    """What a tree takes in a filesystem: bytes of whole blocks, and inodes."""

    content_bytes: int
    inodes: int


def measure_tree(tree: Path) -> TreeUsage:
    """Measure `tree`, as far as it lies on one filesystem. Hard links count once. Raises OSError."""
    device = tree.stat().st_dev
    seen: set[int] = set()
    content_bytes = 0
    pending = [tree]
    while pending:
        directory = pending.pop()
        content_bytes += BLOCK_BYTES
        with os.scandir(directory) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if status.st_dev != device or status.st_ino in seen:
                    continue
                seen.add(status.st_ino)
                if stat.S_ISDIR(status.st_mode):
                    pending.append(Path(entry.path))
                    content_bytes += status.st_size  # a large directory has more than one block
                elif stat.S_ISREG(status.st_mode):
                    content_bytes += min(status.st_blocks * 512, status.st_size) + BLOCK_BYTES
    return TreeUsage(content_bytes, len(seen) + 1)


def image_size(usage: TreeUsage, free_bytes: int) -> tuple[int, int]:
    """The size in bytes (whole MiB) of an image for such a tree, and its number of inodes."""
    inodes = usage.inodes + free_bytes // BYTES_PER_INODE + 1024
    # Block maps and bitmaps take some percent; the inode tables what the inodes do.
    needed = usage.content_bytes * 105 // 100 + inodes * _INODE_BYTES + free_bytes + (16 << 20)
    return -(-needed >> 20) << 20, inodes


def make_ext4_image(tree: Path, image: Path, *, free_bytes: int = DEFAULT_FREE_BYTES) -> None:
    """Write the content of `tree` (owners, modes, links, devices, attributes) as an ext4 `image`.

    The image is sparse: what is free takes no space. It has no journal and no reserved blocks, for
    nobody mends or keeps it. Mounts below `tree` must not be there: mke2fs would go into them.
    Blocks for seconds. Raises HostError with mke2fs' own words.
    """
    try:
        size, inodes = image_size(measure_tree(tree), free_bytes)
        with image.open("xb") as file:
            file.truncate(size)
        owner = tree.stat()
    except OSError as error:
        raise HostError(f"no image of {tree} could be made: {error}") from error
    command: list[str | Path] = [
        find_program("mke2fs"),
        *("-q", "-F", "-t", "ext4"),
        *("-b", str(BLOCK_BYTES), "-I", str(_INODE_BYTES), "-N", str(inodes), "-m", "0"),
        *("-O", "^has_journal"),
        *("-E", f"root_owner={owner.st_uid}:{owner.st_gid},lazy_itable_init=1,nodiscard"),
        *("-d", tree.absolute()),
        image.absolute(),
    ]
    run_program(f"no image of {tree} could be made", command)

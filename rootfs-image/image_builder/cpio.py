"""Writing a cpio archive of the kind the kernel unpacks as its first root.

Format: kernel.org, Documentation/driver-api/early-userspace/buffer-format.rst ("newc").
The archive depends on the tree's names, modes and contents alone: owners and times are zero, so
that the same tree gives the same bytes.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from image_builder.commands import program
from image_builder.errors import ImageBuildError

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"
_ALIGNMENT = 4
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Node:
    """A device node that the archive carries besides the tree's own files."""

    name: str
    mode: int
    major: int
    minor: int


# The kernel opens it for the first process before anything is mounted (init/main.c).
CONSOLE = Node("dev/console", stat.S_IFCHR | 0o600, 5, 1)


def write_archive(root: Path, output: IO[bytes], *, nodes: tuple[Node, ...] = (CONSOLE,)) -> int:
    """Write the tree below `root` and `nodes` to `output`; return the number of bytes."""
    writer = _Writer(output)
    taken = {node.name for node in nodes}
    for path in _walk(root):
        name = path.relative_to(root).as_posix()
        if name not in taken:
            writer.add_path(name, path)
    for node in nodes:
        writer.add(node.name, node.mode, rdev=(node.major, node.minor))
    writer.add(_TRAILER, 0)
    return writer.written


def write_compressed(root: Path, target: Path, *, level: int) -> None:
    """Write the tree below `root` as a zstd-compressed archive. Raises ImageBuildError."""
    with target.open("wb") as output:
        zstd = subprocess.Popen(
            [program("zstd"), "-q", "-c", f"-{level}", "-T0"], stdin=subprocess.PIPE, stdout=output
        )
        assert zstd.stdin is not None  # asked for above
        try:
            write_archive(root, zstd.stdin)
        except BrokenPipeError:
            pass  # its status tells
        finally:
            zstd.stdin.close()
            status = zstd.wait()
    if status != 0:
        raise ImageBuildError(f"zstd ended with status {status} while writing {target}")


def _walk(root: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(root):
        names.sort()
        place = Path(directory)
        if place != root:
            yield place
        links = [name for name in names if (place / name).is_symlink()]
        for name in sorted(files + links):
            yield place / name


class _Writer:
    def __init__(self, output: IO[bytes]) -> None:
        self._output = output
        self._inode = 0
        self.written = 0

    def add_path(self, name: str, path: Path) -> None:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            target = os.fsencode(path.readlink())
            self.add(name, status.st_mode, size=len(target))
            self._put(target)
        elif stat.S_ISREG(status.st_mode):
            self.add(name, status.st_mode, size=status.st_size)
            with path.open("rb") as source:
                while chunk := source.read(_CHUNK):
                    self._put(chunk)
        elif stat.S_ISDIR(status.st_mode):
            self.add(name, status.st_mode)
        else:
            raise ImageBuildError(f"{path} is neither a file, a directory nor a link")
        self._pad()

    def add(self, name: str, mode: int, *, size: int = 0, rdev: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        encoded = os.fsencode(name) + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (self._inode, mode, 0, 0, links, 0, size, 0, 0, *rdev, len(encoded), 0)
        self._put(_MAGIC + b"".join(b"%08X" % field for field in fields) + encoded)
        self._pad()

    def _put(self, data: bytes) -> None:
        self._output.write(data)
        self.written += len(data)

    def _pad(self) -> None:
        self._put(bytes(-self.written % _ALIGNMENT))

"""Files that a host pushes into the guest where the two share no filesystem.

A file arrives in pieces. They gather under a hidden name of its own beside the final one, readable
for root alone, until the last piece is there; then owner, mode and name are set, in this order. So
nobody ever sees half a file, or a file with the wrong permissions, and what stood under the name
before stays until it is replaced in one step.

Every path is resolved beneath a root that openat2(2) never leaves, whatever links lie on the way
(CVE-2026-41326), and what has been resolved is used by descriptor. Directories that are there
already keep their mode and owner; only those made on the way get what the host says.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import posixpath
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agent.errors import InvalidRequest, KernelRefused
from agent.linux.blocking import run_blocking
from agent.linux.paths import open_beneath, open_directory, remove_tree_at

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC

# How many files may be under way at once. A host sends one after the other; this bounds what hosts
# that never finish can leave behind.
_MOST_UNFINISHED = 64


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a file goes: the way of names from `root`, never empty."""

    root: str
    names: tuple[str, ...]

    @classmethod
    def parse(cls, root: str, path: str) -> Destination:
        """`path`, which is absolute or is taken as such, cleaned as text. Raises InvalidRequest."""
        cleaned = posixpath.normpath(f"/{path.lstrip('/')}")
        if not path or "\0" in path or not cleaned.startswith(f"{root}/"):
            raise InvalidRequest(f"path {path!r} is not below {root}")
        return cls(root, tuple(cleaned.removeprefix(f"{root}/").split("/")))

    def __str__(self) -> str:
        return posixpath.join(self.root, *self.names)


@dataclass(frozen=True, slots=True)
class Attributes:
    """Permission bits and owner; -1 for an owner or a group that is to stay as it is."""

    mode: int
    uid: int = -1
    gid: int = -1


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of a file that will have `file_size` of them."""

    offset: int
    data: bytes
    file_size: int


@dataclass(frozen=True, slots=True)
class _Upload:
    """A file under way: its hidden name, who it is, and how long it will be."""

    name: str
    identity: tuple[int, int]
    file_size: int


class CopiedFiles:
    """Takes files, directories and links. One request at a time has its turn.

    Methods raise InvalidRequest before anything is touched, and KernelRefused.
    """

    def __init__(self) -> None:
        self._uploads: dict[Destination, _Upload] = {}  # the one that began first comes first
        self._turn = asyncio.Lock()

    async def write(
        self, destination: Destination, piece: Piece, attributes: Attributes, *, parents: Attributes
    ) -> None:
        """Take a piece of a regular file; with the last one it appears, in place of what was there.

        The first piece, offset 0, begins the file anew. A later one may repeat bytes that have come,
        but leave no gap. After KernelRefused the file is no longer under way.
        """
        _check(destination, piece)
        await self._in_turn(destination, lambda: self._write(destination, piece, attributes, parents))

    async def make_directory(
        self, destination: Destination, attributes: Attributes, *, parents: Attributes
    ) -> None:
        """Make a directory, in place of what else was there; one that is there keeps what lies in it."""
        await self._in_turn(destination, lambda: _make_directory(destination, attributes, parents))

    async def make_link(
        self, destination: Destination, target: bytes, attributes: Attributes, *, parents: Attributes
    ) -> None:
        """Make a symbolic link, in one step in place of what was there. `target` may lead anywhere."""
        if not target or b"\0" in target:
            raise InvalidRequest(f"the link {destination} has no usable target")
        await self._in_turn(destination, lambda: _make_link(destination, target, attributes, parents))

    async def discard_unfinished(self) -> None:
        """Forget the files under way, and remove what has come of them."""
        async with self._turn:
            for destination in list(self._uploads):
                await run_blocking(self._discard, destination)

    async def _in_turn(self, destination: Destination, step: Callable[[], None]) -> None:
        async with self._turn:
            try:
                await run_blocking(step)
            except OSError as error:
                named = OSError(error.errno, error.strerror, str(destination))
                raise KernelRefused.from_oserror("copying to", named) from error

    def _write(
        self, destination: Destination, piece: Piece, attributes: Attributes, parents: Attributes
    ) -> None:
        if piece.offset == 0:
            self._discard(destination)
            self._begin(destination, piece.file_size, parents)
        upload = self._uploads.get(destination)
        if upload is None:
            raise InvalidRequest(f"{destination}: nothing has come yet of what goes on at {piece.offset}")
        if upload.file_size != piece.file_size:
            raise InvalidRequest(
                f"{destination} was to have {upload.file_size} bytes and now {piece.file_size}"
            )
        try:
            self._go_on(destination, upload, piece, attributes)
        except OSError:
            self._discard(destination)
            raise

    def _begin(self, destination: Destination, file_size: int, parents: Attributes) -> None:
        if len(self._uploads) >= _MOST_UNFINISHED:
            self._discard(next(iter(self._uploads)))
        name = _hidden_name()
        with _parent_of(destination, make=parents) as parent:
            file = os.open(name, _FILE | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=parent)
            try:
                self._uploads[destination] = _Upload(name, _identity(file), file_size)
            finally:
                os.close(file)

    def _go_on(self, destination: Destination, upload: _Upload, piece: Piece, attributes: Attributes) -> None:
        with _parent_of(destination) as parent:
            file = os.open(upload.name, _FILE, dir_fd=parent)
            try:
                if _identity(file) != upload.identity:  # a container may write in this directory, too
                    raise FileExistsError(
                        errno.EEXIST, "somebody has put another file in place of the unfinished one"
                    )
                there = os.fstat(file).st_size
                if piece.offset > there:
                    raise InvalidRequest(f"{destination}: a gap from {there} to {piece.offset}")
                _write_all(file, piece)
                if os.fstat(file).st_size < upload.file_size:
                    return
                _dress(file, attributes)
            finally:
                os.close(file)
            _move_over(parent, upload.name, destination.names[-1])
        del self._uploads[destination]

    def _discard(self, destination: Destination) -> None:
        """Forget a file under way, if it is, and remove what has come of it."""
        upload = self._uploads.pop(destination, None)
        if upload is None:
            return
        with contextlib.suppress(OSError), _parent_of(destination) as parent:
            os.unlink(upload.name, dir_fd=parent)


def _check(destination: Destination, piece: Piece) -> None:
    if piece.offset < 0 or piece.file_size < 0:
        raise InvalidRequest(f"{destination}: offset {piece.offset} or size {piece.file_size} is negative")
    if piece.offset + len(piece.data) > piece.file_size:
        raise InvalidRequest(
            f"{destination}: {len(piece.data)} bytes at {piece.offset} go beyond its {piece.file_size}"
        )


def _make_directory(destination: Destination, attributes: Attributes, parents: Attributes) -> None:
    name = destination.names[-1]
    with _parent_of(destination, make=parents) as parent:
        try:
            directory = os.open(name, _DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            directory = _new_directory(parent, name)
        except NotADirectoryError:  # a file, or a link, wherever it leads
            os.unlink(name, dir_fd=parent)
            directory = _new_directory(parent, name)
        try:
            _dress(directory, attributes)
        finally:
            os.close(directory)


def _make_link(destination: Destination, target: bytes, attributes: Attributes, parents: Attributes) -> None:
    name = _hidden_name()
    with _parent_of(destination, make=parents) as parent:
        os.symlink(target, name, dir_fd=parent)
        try:
            os.chown(name, attributes.uid, attributes.gid, dir_fd=parent, follow_symlinks=False)
            _move_over(parent, name, destination.names[-1])
        except OSError:
            os.unlink(name, dir_fd=parent)
            raise


@contextlib.contextmanager
def _parent_of(destination: Destination, *, make: Attributes | None = None) -> Iterator[int]:
    """The directory in which `destination` lies; `make`: what of the way is missing, with these."""
    if make is not None:
        os.makedirs(destination.root, exist_ok=True)
    with open_directory(destination.root) as root:
        way = destination.names[:-1]
        try:
            parent = open_beneath(root, "/".join((".", *way)), os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            if make is None:
                raise
            parent = _make_way(root, way, make)
        try:
            yield parent
        finally:
            os.close(parent)


def _make_way(root: int, way: tuple[str, ...], attributes: Attributes) -> int:
    """Make the missing directories of `way`; the last one, opened.

    Each step is resolved from the root, so that a link may lead up and down beneath it.
    """
    current = os.dup(root)
    try:
        for depth, name in enumerate(way, start=1):
            try:
                below = open_beneath(root, "/".join(way[:depth]), os.O_PATH | os.O_DIRECTORY)
            except FileNotFoundError:  # also at a link that leads nowhere; then mkdir refuses
                below = _new_directory(current, name)
                _dress(below, attributes)
            os.close(current)
            current = below
        return os.dup(current)
    finally:
        os.close(current)


def _new_directory(parent: int, name: str) -> int:
    os.mkdir(name, 0o700, dir_fd=parent)
    return os.open(name, _DIRECTORY, dir_fd=parent)


def _dress(descriptor: int, attributes: Attributes) -> None:
    """Set owner, then mode: chown(2) clears the setuid and setgid bits, and the umask has no say."""
    os.fchown(descriptor, attributes.uid, attributes.gid)
    os.fchmod(descriptor, attributes.mode)


def _move_over(parent: int, hidden: str, name: str) -> None:
    """Give `hidden` its name, in one step unless a directory has to go first."""
    try:
        os.rename(hidden, name, src_dir_fd=parent, dst_dir_fd=parent)
    except IsADirectoryError:
        remove_tree_at(parent, name)
        os.rename(hidden, name, src_dir_fd=parent, dst_dir_fd=parent)


def _write_all(file: int, piece: Piece) -> None:
    left, offset = memoryview(piece.data), piece.offset
    while left:
        written = os.pwrite(file, left, offset)
        left, offset = left[written:], offset + written


def _hidden_name() -> str:
    return f".copying-{secrets.token_hex(16)}"


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino

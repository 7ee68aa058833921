"""Mount points: where a host may have the agent mount, and the directories the agent makes for it.

Two rules hold here. A mount point lies below one of the allowed roots, checked in code and not only
by policy (GHSA-fmg6-v47x-52wr). And the way to it is walked name by name without following a link:
part of it may lie in a directory into which a container writes (CVE-2019-19921).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from agent.errors import InvalidRequest, KernelRefused

ALLOWED_ROOTS = ("/run/kata-containers",)
"""Where all of Kata's hosts, 1.x to 4.1, place their storages (docs/storage-drivers.md, "Places")."""

Kind = Literal["directory", "file"]

_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def normal_path(path: str) -> str:
    """`path` without doubled or trailing slashes: two spellings of a mount point are one.

    Raises InvalidRequest unless it is absolute and free of `.`, `..` and NUL.
    """
    names = [name for name in path.split("/") if name]
    if not path.startswith("/") or not names or "\0" in path or {".", ".."} & set(names):
        raise InvalidRequest(f"mount point {path!r} is no absolute path free of '.' and '..'")
    return "/" + "/".join(names)


@dataclass(frozen=True, slots=True)
class Place:
    """A claimed mount point. What stands there is opened anew each time, since mounts change it."""

    path: str
    root: str
    names: tuple[str, ...]
    """The way from `root` to it, never empty."""
    made: bool
    """Whether the claim made it."""

    @contextlib.contextmanager
    def open(self) -> Iterator[int]:
        """What stands at the place now, the topmost mount, as an O_PATH descriptor. Raises OSError."""
        with self.open_parent() as parent:
            descriptor = os.open(self.names[-1], _STEP, dir_fd=parent)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def open_parent(self) -> Iterator[int]:
        """The directory of the place, as an O_PATH descriptor. Raises OSError."""
        current = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in self.names[:-1]:
                below = os.open(name, _STEP | os.O_DIRECTORY, dir_fd=current)
                os.close(current)
                current = below
            yield current
        finally:
            os.close(current)

    def at(self, path: str) -> Place:
        """The place of `path`, which lies at or below this one."""
        names = tuple(path.removeprefix(self.root).strip("/").split("/"))
        return Place(path, self.root, names, made=False)


class MountPoints:
    """The mount points in use below `roots`, and the directories that were made for them.

    Methods block for a few directory operations; any thread may call them.
    """

    def __init__(self, roots: Sequence[str] = ALLOWED_ROOTS) -> None:
        self._roots = tuple(roots)
        self._lock = threading.Lock()
        # Each directory or file that was made, with the number of claims which stand on it: it goes
        # with the last of them, not with the one that happened to make it.
        self._made: dict[str, int] = {}

    def locate(self, mount_point: str) -> Place:
        """The place of `mount_point`, without looking whether anything is there.

        Raises InvalidRequest outside the allowed roots.
        """
        path = normal_path(mount_point)
        for root in self._roots:
            if path.startswith(f"{root}/"):
                real_root = os.path.realpath(root)
                names = tuple(path.removeprefix(f"{root}/").split("/"))
                return Place(os.path.join(real_root, *names), real_root, names, made=False)
        raise InvalidRequest(f"mount point {mount_point!r} lies outside {', '.join(self._roots)}")

    def claim(self, mount_point: str, kind: Kind) -> Place:
        """Make sure that `mount_point` is there, with all directories above it, and hold it.

        Missing directories get mode 0755, a file 0644. To be given back. On failure nothing that
        this call made is left. Raises InvalidRequest (outside the roots, a link or a thing of the
        wrong kind in the way), KernelRefused.
        """
        place = self.locate(mount_point)
        os.makedirs(place.root, mode=0o755, exist_ok=True)
        with self._lock:
            held: list[str] = []
            try:
                self._walk(place, kind, held)
            except BaseException:
                self._let_go(place, held)
                raise
            made = self._made.get(place.path) == 1
        return Place(place.path, place.root, place.names, made)

    def give_back(self, place: Place) -> None:
        """Let go of a claim. What was made for claims and serves no other now is removed if empty."""
        with self._lock:
            paths = [os.path.join(place.root, *place.names[: i + 1]) for i in range(len(place.names))]
            self._let_go(place, [path for path in paths if path in self._made])

    def _walk(self, place: Place, kind: Kind, held: list[str]) -> None:
        """Go to `place`, make what is missing, and note in `held` what of the way was ever made."""
        current = os.open(place.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for depth, name in enumerate(place.names, start=1):
                path = os.path.join(place.root, *place.names[:depth])
                step: Kind = kind if depth == len(place.names) else "directory"
                try:
                    if _make(current, name, step):
                        self._made[path] = 0
                    if path in self._made:
                        self._made[path] += 1
                        held.append(path)
                    below = _enter(current, name, step, path)
                except OSError as error:
                    error.filename = path
                    raise KernelRefused.from_oserror(f"making {step}", error) from error
                os.close(current)
                current = below
        finally:
            os.close(current)

    def _let_go(self, place: Place, held: list[str]) -> None:
        for path in reversed(held):
            self._made[path] -= 1
            if self._made[path] == 0:
                del self._made[path]
                # Not empty, or on a filesystem that has become read-only: then it stays.
                with contextlib.suppress(OSError), place.at(path).open_parent() as parent:
                    _remove_empty(parent, os.path.basename(path))


def _make(parent: int, name: str, kind: Kind) -> bool:
    """Make `name` in `parent` unless something of that name is there; whether it was made."""
    try:
        if kind == "directory":
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o644, dir_fd=parent))
    except FileExistsError:
        return False
    except OSError as error:
        # A read-only filesystem, or one without mkdir, may say so before it says that the name exists.
        if error.errno in (errno.EROFS, errno.ENOSYS) and _exists(parent, name):
            return False
        raise
    return True


def _exists(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError:
        return False
    return True


def _enter(parent: int, name: str, kind: Kind, path: str) -> int:
    """Open `name` without following a link. Raises InvalidRequest if it is not of `kind`."""
    descriptor = os.open(name, _STEP, dir_fd=parent)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISLNK(mode) or stat.S_ISDIR(mode) != (kind == "directory"):
        os.close(descriptor)
        found = "a link" if stat.S_ISLNK(mode) else "a directory" if stat.S_ISDIR(mode) else "a file"
        raise InvalidRequest(f"{path} is {found} where a {kind} is needed to mount")
    return descriptor


def _remove_empty(parent: int, name: str) -> None:
    if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        os.rmdir(name, dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)

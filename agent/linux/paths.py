"""Opening and removing files where somebody else may move the ground: openat2(2) and fd-relative calls.

Sources: openat2(2), <linux/openat2.h>; the system call's number, 437, is the same on every CPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agent.linux.mountinfo import mounts_below

_SYS_OPENAT2 = 437
_RESOLVE_NO_XDEV = 0x01
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_RESOLVE_IN_ROOT = 0x10

# The kernel gives up with EAGAIN when a directory on the way is renamed while it resolves "..".
_ATTEMPTS = 32


class _OpenHow(ctypes.Structure):
    """struct open_how (<linux/openat2.h>)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def open_beneath(
    root: int | str,
    path: str,
    flags: int,
    mode: int = 0,
    *,
    in_root: bool = False,
    follow_links: bool = True,
) -> int:
    """Open `path` as seen from the directory `root` without ever leaving it; the new descriptor.

    By default an absolute `path`, a `..` or a link that would leave `root` fails with EXDEV. With
    `in_root` all three are taken as in a chroot: an absolute path starts at `root`, `..` stops
    there. Without `follow_links` any symbolic link on the way fails with ELOOP. Magic links of
    /proc are never followed. The descriptor is close-on-exec. Raises OSError.
    """
    resolve = _RESOLVE_NO_MAGICLINKS | (_RESOLVE_IN_ROOT if in_root else _RESOLVE_BENEATH)
    if not follow_links:
        resolve |= _RESOLVE_NO_SYMLINKS
    if isinstance(root, int):
        return _openat2(root, path, flags, mode, resolve)
    with open_directory(root) as root_fd:
        return _openat2(root_fd, path, flags, mode, resolve)


@contextlib.contextmanager
def open_directory(path: str) -> Iterator[int]:
    """The directory `path`, as an O_PATH descriptor for the length of a `with` block."""
    directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)


def fd_path(descriptor: int) -> str:
    """A path that leads to exactly the file behind `descriptor`, for calls that take only paths."""
    return f"/proc/self/fd/{descriptor}"


def remove_tree(path: str) -> None:
    """Remove `path` with all that lies in it; a `path` that is missing is no error.

    A link is removed, not followed. If a mount lies at or below `path` nothing is removed and
    OSError(EBUSY) names it; a mount that arrives meanwhile is not entered either (EXDEV).
    A tree of any depth needs two descriptors and no recursion. Raises OSError.
    """
    parent_path, name = os.path.split(path.rstrip("/"))
    if name in ("", ".", ".."):
        raise ValueError(f"{path!r} names no entry of a directory")
    resolved = os.path.join(os.path.realpath(parent_path), name)
    for entry in mounts_below(resolved):
        raise OSError(errno.EBUSY, "a mount stands in the tree to be removed", path, None, entry.mount_point)
    with open_directory(os.path.dirname(resolved)) as parent:
        try:
            remove_tree_at(parent, name)
        except OSError as error:
            error.filename = path
            raise


def remove_tree_at(parent: int, name: str) -> None:
    """Remove the entry `name` of the directory `parent` as `remove_tree` does, by descriptors alone.

    For places whose path somebody else may bend meanwhile. Mounts are met, not looked for, so files
    beside one may be gone when it stops the removal (EXDEV, EBUSY). Raises OSError.
    """
    try:
        if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            directory = _step(parent, name)
            try:
                visit_tree(directory, _unlink, _rmdir)
            finally:
                os.close(directory)
            _rmdir(parent, name)
        else:
            _unlink(parent, name)
    except FileNotFoundError:
        return


Visit = Callable[[int, str], None]
"""Is told a directory's descriptor and the name of an entry in it."""


def visit_tree(top: int, on_file: Visit, on_directory: Visit) -> None:
    """Visit all that lies in the directory `top`, each directory after what lies in it.

    No link is followed and no mount entered (EXDEV); an entry that vanishes meanwhile is passed
    over. Two descriptors and no recursion at any depth. Raises OSError.
    """
    current = _step(top, ".")
    way: list[_Level] = []
    try:
        way.append(_Level("", _identity(current), _visit_files(current, on_file)))
        while True:
            if way[-1].pending:
                child = way[-1].pending.pop()
                with contextlib.suppress(FileNotFoundError):
                    current = _replace(current, _step(current, child))
                    way.append(_Level(child, _identity(current), _visit_files(current, on_file)))
                continue
            left = way.pop()
            if not way:
                return
            # ".." leads elsewhere once somebody has moved the directory: then this is not our tree.
            current = _replace(current, _step(current, ".."))
            if _identity(current) != way[-1].identity:
                raise OSError(errno.ESTALE, "a directory moved away while its tree was being visited")
            on_directory(current, left.name)
    finally:
        os.close(current)


@dataclass(slots=True)
class _Level:
    """A directory on the way down: its name in its parent, who it is, what is left to enter."""

    name: str
    identity: tuple[int, int]
    pending: list[str]


def _visit_files(directory: int, on_file: Visit) -> list[str]:
    """Visit everything in `directory` that is no directory; the names of those that are."""
    with os.scandir(directory) as entries:
        listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in listed:
        if not is_directory:
            on_file(directory, name)
    return [name for name, is_directory in listed if is_directory]


def _unlink(directory: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _rmdir(directory: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=directory)


def _step(directory: int, name: str) -> int:
    """Open the neighbour `name` of `directory`, on the same mount and not through a link."""
    return _openat2(directory, name, os.O_RDONLY | os.O_DIRECTORY, 0, _RESOLVE_NO_XDEV | _RESOLVE_NO_SYMLINKS)


def _replace(old: int, new: int) -> int:
    os.close(old)
    return new


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _openat2(directory: int, path: str, flags: int, mode: int, resolve: int) -> int:
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise ValueError(f"NUL byte in {path!r}")
    for _ in range(_ATTEMPTS):
        descriptor: int = _libc.syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_int(directory),
            ctypes.c_char_p(encoded),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if descriptor >= 0:
            return descriptor
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(number, os.strerror(number), path)

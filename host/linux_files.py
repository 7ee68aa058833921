"""Reading files of a tree that is not trusted, beneath its root."""

from __future__ import annotations

import ctypes
import functools
import os
import stat
from pathlib import Path

_SYS_OPENAT2 = 437  # the same number on every architecture, asm-generic/unistd.h
_RESOLVE_NO_MAGICLINKS = 0x02  # linux/openat2.h
_RESOLVE_IN_ROOT = 0x10


class _OpenHow(ctypes.Structure):
    """struct open_how, linux/openat2.h."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def open_in_root(root: Path, path: str, flags: int) -> int:
    """Open `path` as a process whose root is `root` would: links and `..` stay inside (openat2(2)).

    Returns a close-on-exec file descriptor. Raises OSError.
    """
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
        descriptor: int = _libc().syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_int(top),
            ctypes.c_char_p(os.fsencode(path)),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if descriptor < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(root / path.lstrip("/")))
        return descriptor
    finally:
        os.close(top)


def read_text_in_root(root: Path, path: str, limit: int = 1 << 20) -> str:
    """The first `limit` bytes of a file in the tree at `root`; empty if there is no regular file.

    Raises OSError for anything else that keeps it from being read.
    """
    try:
        descriptor = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(limit).decode(errors="surrogateescape")
    finally:
        os.close(descriptor)

"""open_tree(2) and move_mount(2), typed: mounts that are in no tree, on their way to another; no policy.

The standard library has neither call. The numbers are the same on every CPU; flags are those of
<linux/mount.h> and <linux/fcntl.h>.
"""

from __future__ import annotations

import ctypes
import os

_SYS_OPEN_TREE, _SYS_MOVE_MOUNT = 428, 429

_OPEN_TREE_CLONE = 0x1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_MOVE_MOUNT_F_EMPTY_PATH = 0x04
_MOVE_MOUNT_T_EMPTY_PATH = 0x40

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def clone_tree(place: int) -> int:
    """A copy of the mount at the descriptor `place`, with those below it, attached nowhere.

    The copy goes when the returned descriptor is closed, unless it has been attached. `place` has to be
    in the caller's mount namespace. Raises OSError.
    """
    flags = _AT_EMPTY_PATH | _AT_RECURSIVE | _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC
    return _call("open_tree", _SYS_OPEN_TREE, ctypes.c_int(place), b"", ctypes.c_uint(flags))


def attach_tree(tree: int, target: int) -> None:
    """Mount what `clone_tree` returned on the file or directory behind the descriptor `target`.

    `target` has to be in the caller's mount namespace. Raises OSError.
    """
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    _call(
        "move_mount",
        _SYS_MOVE_MOUNT,
        ctypes.c_int(tree),
        b"",
        ctypes.c_int(target),
        b"",
        ctypes.c_uint(flags),
    )


def _call(name: str, number: int, *arguments: ctypes.c_int | ctypes.c_uint | bytes) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), name)
    return result

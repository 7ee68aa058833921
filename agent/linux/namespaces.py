"""Namespaces that outlive the thread which made them, pinned by a bind mount on a file.

Sources: unshare(2), namespaces(7); numbers from <linux/sched.h>.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import threading
from collections.abc import Callable
from typing import Literal, TypeVar

from agent.linux.mount import MountFlag, mount, umount

NamespaceKind = Literal["ipc", "uts"]

_CLONE_FLAGS: dict[NamespaceKind, int] = {
    "uts": 0x04000000,  # CLONE_NEWUTS
    "ipc": 0x08000000,  # CLONE_NEWIPC
}

_CLONE_FS = 0x00000200
_CLONE_NEWNS = 0x00020000

_Result = TypeVar("_Result")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.unshare.argtypes = (ctypes.c_int,)
_libc.unshare.restype = ctypes.c_int
_libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)
_libc.setns.restype = ctypes.c_int


def pin_new_namespace(kind: NamespaceKind, path: str, hostname: str | None = None) -> None:
    """Make a new namespace of `kind` and keep it alive behind the file `path`.

    `hostname` becomes the name that a `uts` namespace shows. A file left over at `path` is
    replaced: a pinned namespace cannot be opened for writing, not even by root (EPERM, tried).
    Blocks for a thread's life; on failure nothing is left at `path`. Raises OSError.
    """
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    unpin_namespace(path)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, 0o444))
    try:
        _in_own_thread(lambda: _unshare_and_bind(kind, path, hostname))
    except BaseException:
        unpin_namespace(path)
        raise


def unpin_namespace(path: str) -> None:
    """Let the namespace behind `path` go and remove the file; neither need be there.

    Detached, because a container that still lives in it must not hold up the sandbox's end.
    Raises OSError.
    """
    with contextlib.suppress(FileNotFoundError):
        while _is_pinned(path):
            umount(path, detach=True)
        os.unlink(path)


def in_mount_namespace(namespace: int, action: Callable[[], _Result]) -> _Result:
    """Run `action` in another mount namespace, whose root is `/` for it; what it returns.

    `namespace` is a descriptor of a /proc/PID/ns/mnt. Only a thread of its own goes there: it gives
    up sharing its root with the rest of the process first (setns(2), CLONE_FS). Blocks. Raises OSError,
    and what `action` raises.
    """
    results: list[_Result] = []

    def body() -> None:
        _check(_libc.unshare(_CLONE_FS), "unshare CLONE_FS")
        _check(_libc.setns(namespace, _CLONE_NEWNS), "setns mount")
        results.append(action())

    _in_own_thread(body)
    return results[0]


def _is_pinned(path: str) -> bool:
    """Whether something is mounted on the file `path`: it then shows another device, nsfs's."""
    return os.lstat(path).st_dev != os.lstat(os.path.dirname(path)).st_dev


def _unshare_and_bind(kind: NamespaceKind, path: str, hostname: str | None) -> None:
    _check(_libc.unshare(_CLONE_FLAGS[kind]), f"unshare {kind}")
    if hostname is not None:
        socket.sethostname(hostname)
    mount(f"/proc/thread-self/ns/{kind}", path, "", MountFlag.BIND)


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), call)


def _in_own_thread(action: Callable[[], None]) -> None:
    """Run `action` in a fresh thread that ends afterwards: unshare(2) acts on the calling thread."""
    failures: list[BaseException] = []

    def body() -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - carried over to the caller, whatever it is
            failures.append(error)

    thread = threading.Thread(target=body, name="namespace")
    thread.start()
    thread.join()
    for failure in failures:
        raise failure

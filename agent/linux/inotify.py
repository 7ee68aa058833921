"""inotify(7), typed: to be told of a change instead of looking again and again; no policy.

The standard library has none of these calls. Numbers are those of <sys/inotify.h>.
"""

from __future__ import annotations

import contextlib
import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.inotify_init1.argtypes = (ctypes.c_int,)
_libc.inotify_init1.restype = ctypes.c_int
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
_libc.inotify_add_watch.restype = ctypes.c_int

_IN_MODIFY = 0x2

# Room for many events at once; one about a file carries no name.
_BUFFER_BYTES = 4096


def watch_modifications(path: str) -> int:
    """A descriptor that becomes readable whenever the file `path` is modified.

    The caller closes it. It is non-blocking and close-on-exec. Raises OSError.
    """
    descriptor: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        raise _last_error("inotify_init1")
    if _libc.inotify_add_watch(descriptor, os.fsencode(path), _IN_MODIFY) < 0:
        error = _last_error(path)
        os.close(descriptor)
        raise error
    return descriptor


def drain(descriptor: int) -> None:
    """Take all that a descriptor of `watch_modifications` has to tell. Raises OSError."""
    with contextlib.suppress(BlockingIOError):
        while os.read(descriptor, _BUFFER_BYTES):
            pass


def _last_error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), what)

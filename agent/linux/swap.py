"""swapon(2), typed. Source: swapon(2)."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.swapon.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.swapon.restype = ctypes.c_int


def swap_on(path: str) -> None:
    """Use the swap area at `path`, which mkswap(8) has made, with the default priority.

    Raises OSError: EINVAL (no swap area, or no disk or plain file), EBUSY (in use already), EPERM.
    """
    if _libc.swapon(os.fsencode(path), 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)

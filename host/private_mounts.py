"""A mount namespace of one's own, in which later mounts of the host still appear."""

from __future__ import annotations

import ctypes
import os

from host.errors import HostError
from host.linux_mount import MountFlag, set_propagation

CLONE_NEWNS = 0x00020000  # linux/sched.h


def enter_private_mounts() -> None:
    """Give this process, and all it will start, its own mount namespace (unshare(2)).

    Its mounts are receivers of the host's (slave): what the administrator mounts later is seen,
    what is mounted here is not seen outside and goes with the last process. Must be called while
    the process has one thread. Raises HostError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise HostError(f"a private mount namespace is refused ({reason})", "run pykata as root")
    try:
        set_propagation("/", MountFlag.SLAVE | MountFlag.REC)
    except OSError as error:
        raise HostError(f"the mounts below / cannot be made receivers: {error.strerror}") from error

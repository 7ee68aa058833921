"""What a process can do to itself and to the machine, typed; no policy.

The standard library has none of these calls (or not on Python 3.11).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import termios
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
_libc.prctl.restype = ctypes.c_int
_libc.reboot.argtypes = (ctypes.c_int,)
_libc.reboot.restype = ctypes.c_int

_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
_RB_POWER_OFF = 0x4321FEDC  # <sys/reboot.h>
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914  # <linux/sockios.h>
_IFF_UP = 0x1  # <linux/if.h>
_IFREQ = struct.Struct("16sH22x")  # struct ifreq with its ifr_flags; netdevice(7)


def set_child_subreaper() -> None:
    """Become the parent of every descendant that loses its own. prctl(2). Raises OSError."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise _last_error()


def power_off() -> None:
    """Switch the machine off at once; returns only by raising OSError. reboot(2).

    File systems are not synced: `os.sync()` comes first.
    """
    # c_int takes the constant's low 32 bits, as the system call does.
    if _libc.reboot(_RB_POWER_OFF) != 0:
        raise _last_error()


def set_hostname(name: str) -> None:
    """Name the machine in this UTS namespace. sethostname(2). Raises OSError."""
    socket.sethostname(name)


def take_controlling_terminal(fd: int) -> None:
    """Lead a new session whose controlling terminal is the terminal at `fd`.

    setsid(2), TIOCSCTTY of ioctl_tty(2). A process that leads its group already keeps its
    session. Raises OSError when `fd` is no terminal, or another session's.
    """
    if os.getsid(0) != os.getpid():
        os.setsid()
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)


def set_oom_score_adjust(value: int) -> None:
    """Set how soon the kernel picks this process when memory runs out: -1000 never, 1000 first.

    proc_pid_oom_score_adj(5). Raises OSError (EACCES: lowering it needs CAP_SYS_RESOURCE).
    """
    Path("/proc/self/oom_score_adj").write_text(f"{value}\n")


def set_interface_up(name: str) -> None:
    """Set the network interface `name` up. netdevice(7). Raises OSError.

    By ioctl: it costs no netlink library, which the agent does not load before it listens.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        request = fcntl.ioctl(control, _SIOCGIFFLAGS, _IFREQ.pack(os.fsencode(name), 0))
        _, flags = _IFREQ.unpack(request)
        fcntl.ioctl(control, _SIOCSIFFLAGS, _IFREQ.pack(os.fsencode(name), flags | _IFF_UP))


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))

"""The kernel's random number generator."""

from __future__ import annotations

import fcntl
import os
import struct

# linux/random.h on every CPU but powerpc, mips, sparc and alpha, whose _IOW differs.
_RNDADDENTROPY = 0x40085203
_RNDRESEEDCRNG = 0x5207
if os.uname().machine.startswith("ppc64"):
    _RNDADDENTROPY = 0x80085203
    _RNDRESEEDCRNG = 0x20005207

_CREDITABLE_BYTES = 512  # far above the 256 bits the generator wants; bounds what one ioctl copies


def mix(data: bytes, device: str = "/dev/random") -> None:
    """Mix `data` into the generator without counting it as entropy. Anybody may. Raises OSError."""
    fd = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def reseed(data: bytes, device: str = "/dev/random") -> None:
    """Mix `data` into the generator, count it as full entropy, and reseed from it.

    All of `data` is mixed in; the first 512 bytes are credited. Raises OSError: EPERM (no
    CAP_SYS_ADMIN), or whatever opening `device` gives. Source: random(4).
    """
    fd = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
    try:
        credited, rest = data[:_CREDITABLE_BYTES], data[_CREDITABLE_BYTES:]
        if rest:
            os.write(fd, rest)
        # struct rand_pool_info: int entropy_count (in bits), int buf_size (in bytes), then the bytes.
        pool = struct.pack("ii", len(credited) * 8, len(credited)) + credited
        fcntl.ioctl(fd, _RNDADDENTROPY, pool)
        fcntl.ioctl(fd, _RNDRESEEDCRNG)
    finally:
        os.close(fd)

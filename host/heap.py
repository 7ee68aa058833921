"""The C library's heap, for whoever moves large messages: mallopt(3)."""

from __future__ import annotations

import ctypes

# malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

# Holds a largest message (4 MiB) and its copies on the way through protobuf.
_LARGEST_ON_HEAP_BYTES = 8 << 20
_KEPT_BYTES = 16 << 20


def keep_freed_memory() -> None:
    """Have freed memory of a few megabytes used again, and not given back to the kernel each time.

    A message of a megabyte is copied some times between its socket and its reader. By default each
    copy is a new mapping, or grows and shrinks the heap, and each of its pages a page fault: 2.5 s
    of CPU for a GB of ReadStdout, against 0.5 s with this (own measurement, glibc 2.36). Does
    nothing on a C library without mallopt.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_ON_HEAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)

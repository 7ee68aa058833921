"""The frequency of this host's time-stamp counter, which an emulated processor shares.

Under TCG the guest's RDTSC returns the host's counter (QEMU, include/qemu/timer.h:
cpu_get_host_ticks), and the guest kernel has to find out its frequency. On microvm it has only the
PIT to compare with, which fails when the host is busy; the kernel is then left without a clock and
hangs before its first line (seen in about half of all boots). So it is told: `tsc_early_khz=`
(Linux, Documentation/admin-guide/kernel-parameters.txt).
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import platform
import time

# rdtsc; shl rdx,32; or rax,rdx; ret
_READ_COUNTER = bytes.fromhex("0f31 48c1e220 4809d0 c3")
_INTERVAL_S = 0.02  # gives 5 digits: readings are within 1 us of the clock's
_TRIES = 5


@functools.cache
def tsc_khz() -> int | None:
    """The counter's frequency in kHz, measured once in 20 ms; None where it cannot be read.

    That is on another processor than x86-64, or where memory may not be made executable.
    """
    if platform.machine() != "x86_64":
        return None
    try:
        code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return None
    code.write(_READ_COUNTER)
    read_counter = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(code)))

    def reading() -> tuple[float, int]:
        """A moment in ns and the counter's value then: the least disturbed of some tries."""
        tries = []
        for _ in range(_TRIES):
            before, value, after = time.monotonic_ns(), read_counter(), time.monotonic_ns()
            tries.append((after - before, (before + after) / 2, int(value)))
        _, moment, value = min(tries)
        return moment, value

    first_moment, first_value = reading()
    time.sleep(_INTERVAL_S)
    second_moment, second_value = reading()
    return round((second_value - first_value) / (second_moment - first_moment) * 1e6)

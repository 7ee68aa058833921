"""The wall clock of this kernel."""

from __future__ import annotations

import errno
import os
import time

_LAST_SECOND = (2**63 - 1) // 1_000_000_000 - 1


def set_wall_clock(seconds: int, microseconds: int) -> None:
    """Set CLOCK_REALTIME to `seconds` since the epoch and `microseconds`.

    Raises OSError: EINVAL (a time before the epoch or beyond the year 2262, over-full microseconds),
    EPERM (no CAP_SYS_TIME). Source: clock_settime(2).
    """
    # The kernel counts nanoseconds in 64 signed bits, and Python would raise OverflowError.
    if not (0 <= microseconds < 1_000_000 and 0 <= seconds <= _LAST_SECOND):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), f"{seconds} s {microseconds} us")
    time.clock_settime_ns(time.CLOCK_REALTIME, seconds * 1_000_000_000 + microseconds * 1000)

"""The wall clock of this kernel."""

from __future__ import annotations

import errno
import os
import time


def set_wall_clock(seconds: int, microseconds: int) -> None:
    """Set CLOCK_REALTIME to `seconds` since the epoch and `microseconds`.

    Raises OSError: EINVAL (a time before the epoch or over-full microseconds), EPERM (no CAP_SYS_TIME).
    Source: clock_settime(2).
    """
    if not 0 <= microseconds < 1_000_000:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), f"{microseconds} us")
    time.clock_settime_ns(time.CLOCK_REALTIME, seconds * 1_000_000_000 + microseconds * 1000)

"""How a process stands to a signal, as the kernel tells it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path


def handles_signal(pid: int, signum: int, fields: Collection[str], *, proc: str = "/proc") -> bool:
    """Whether one of the masks `fields` ("SigCgt", "SigIgn", "SigBlk") of `pid` names `signum`.

    False for a process that is gone and for signals that do not exist. A few lines of procfs: fit for
    the event loop. Source: proc_pid_status(5).
    """
    if signum < 1:
        return False
    try:
        lines = Path(proc, str(pid), "status").read_text().splitlines()
    except OSError:
        return False
    for line in lines:
        name, _, mask = line.partition(":")
        if name in fields:
            try:
                if int(mask, 16) >> (signum - 1) & 1:
                    return True
            except ValueError:
                continue
    return False

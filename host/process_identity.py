"""A process that may be killed later, named so that a reused pid is never mistaken for it."""

from __future__ import annotations

import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A pid together with when its process started.

    `start_ticks` is field 22 of /proc/PID/stat (proc(5)): clock ticks since boot. Two processes with
    one pid cannot share it, since a pid is not given out again within a tick of its last use
    (assumed: the pid space would have to wrap in 10 ms).
    """

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """The identity of the process that has `pid` now; raises ProcessLookupError if none has."""
        return cls(pid, _stat_fields(pid)[1])

    def is_alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        try:
            state, start_ticks = _stat_fields(self.pid)
        except ProcessLookupError:
            return False
        return start_ticks == self.start_ticks and state not in "ZX"

    def kill(self, *, timeout_s: float) -> bool:
        """Send SIGKILL to this very process and wait for its end; says whether it is gone."""
        return self._until_gone(timeout_s, signal.SIGKILL)

    def ends_within(self, timeout_s: float) -> bool:
        """Wait for the end of this very process; says whether it is gone."""
        return self._until_gone(timeout_s, None)

    def _until_gone(self, timeout_s: float, signum: signal.Signals | None) -> bool:
        """The pidfd is opened before the identity is checked, so nothing can slip in between."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if not self.is_alive():
                return True
            if signum is not None:
                signal.pidfd_send_signal(pidfd, signum)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            return bool(poll.poll(timeout_s * 1000))
        except ProcessLookupError:
            return True
        finally:
            os.close(pidfd)


def _stat_fields(pid: int) -> tuple[str, int]:
    """State letter and start time of `pid`; the name in parentheses may itself hold any character."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessLookupError(f"no process has pid {pid}") from error
    fields = stat[stat.rindex(")") + 2 :].split()
    return fields[0], int(fields[19])

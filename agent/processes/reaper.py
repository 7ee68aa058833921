"""The one reaper: collects every child the moment it exits and keeps the statuses that are wanted.

The agent is PID 1 or a child subreaper, so besides its own children it inherits every orphan of the
guest. A container's first process is such an orphan: crun starts it, writes its pid into a file and
exits; the agent learns the pid only then, perhaps after the process has come and gone. Hence two
rules. Everything is collected at once, wanted or not: a zombie left lying in a pid namespace keeps
that namespace's first process from ever being waited for (own measurement, crun 1.8.1 and Linux
6.18). And whoever is about to learn a pid says so first: while a launch is in flight, no status
collected since it began is dropped.

Collecting happens on the event loop's thread only. So a pid that has not been collected cannot have
been reused, and signals may be sent by pid.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from agent.linux.process import set_child_subreaper

_log = logging.getLogger("agent.processes.reaper")

# Python ignores these two at start-up; `spawn` gives a child the default action back by itself.
_RESTORED_BY_SPAWN = frozenset({signal.SIGPIPE, signal.SIGXFSZ})


@dataclass(frozen=True, slots=True)
class Launch:
    """The right to claim a child of which only the pid will be known."""

    reaper: Reaper
    began: int

    def claim(self, pid: int) -> None:
        """Make the exit of `pid` known to `Reaper.wait`, also if it has been collected already."""
        self.reaper.claim(pid)


class Reaper:
    """Collects children on SIGCHLD. One per process, used on the main thread's event loop only."""

    def __init__(self) -> None:
        self._exits: dict[int, asyncio.Future[int]] = {}
        # Oldest first: pid -> (place in the order of collection, exit code).
        self._unclaimed: dict[int, tuple[int, int]] = {}
        self._launches: set[int] = set()
        self._clock = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._collection_is_due = False

    def start(self) -> None:
        """Begin to collect, on the running loop; adopt orphans from now on.

        Also frees what children would inherit: the thread's blocked signals, and ignored ones, which
        get a handler that does nothing, since exec gives those back their default action (signal(7)).
        To be called after the loop has been given its other signal handlers. Raises OSError (prctl).
        """
        set_child_subreaper()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number in signal.valid_signals() - _RESTORED_BY_SPAWN:
            if signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, _do_nothing)
        self._loop = asyncio.get_running_loop()
        self._watch_sigchld(self._loop)
        self._collect()

    def stop(self) -> None:
        """Stop collecting; whoever still waits is cancelled. Safe to call twice."""
        if self._loop is None:
            return
        self._loop.remove_signal_handler(signal.SIGCHLD)
        self._loop = None
        for exit_code in self._exits.values():
            exit_code.cancel()
        self._exits.clear()

    @contextmanager
    def launch(self) -> Iterator[Launch]:
        """Keep every status collected within the `with` block until the block has ended."""
        self._clock += 1
        launch = Launch(self, self._clock)
        self._launches.add(launch.began)
        try:
            yield launch
        finally:
            self._launches.discard(launch.began)
            self._drop_what_no_launch_can_claim()

    def claim(self, pid: int) -> None:
        """See `Launch.claim`; without a launch only for a child started since the loop last ran."""
        exit_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if pid in self._unclaimed:
            exit_code.set_result(self._unclaimed.pop(pid)[1])
        self._exits[pid] = exit_code

    async def wait(self, pid: int) -> int:
        """Wait for the claimed process to exit: its exit code, or 128 + the signal that ended it.

        The answer is given once; a cancelled wait may be repeated. Raises KeyError if `pid` has not
        been claimed.
        """
        exit_code = self._exits[pid]
        code = await asyncio.shield(exit_code)
        if self._exits.get(pid) is exit_code:
            del self._exits[pid]
        return code

    def disown(self, pid: int) -> None:
        """Take back a claim: the process is collected like a stranger, its status dropped."""
        self._exits.pop(pid, None)

    def is_running(self, pid: int) -> bool:
        """Whether the claimed process has not been collected yet."""
        exit_code = self._exits.get(pid)
        return exit_code is not None and not exit_code.done()

    def send_signal(self, pid: int, signum: int, *, group: bool = False) -> bool:
        """Send `signum` to the claimed process (or its process group); False if it has exited.

        The pid cannot mean another process: it is only free for reuse once it has been collected.
        Raises OSError: EINVAL for a signal that does not exist.
        """
        if not self.is_running(pid):
            return False
        with suppress(ProcessLookupError):
            if group:
                os.killpg(pid, signum)
            else:
                os.kill(pid, signum)
            return True
        return False

    def _watch_sigchld(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have `_collect` run on `loop` after every SIGCHLD, however many come at once.

        The loop's own handler wakes it with a byte in a socket pair that is full after some 280 of
        them (own measurement): then Python complains on stderr, and a SIGCHLD could go unheard among
        other wake-ups. So the bytes only wake the loop, and Python's own handler, which is never
        lost, brings the work.
        """
        loop.add_signal_handler(signal.SIGCHLD, _do_nothing)
        signal.signal(signal.SIGCHLD, self._on_sigchld)
        signal.siginterrupt(signal.SIGCHLD, False)  # a mount(2) in a thread is not to see EINTR
        signal.set_wakeup_fd(signal.set_wakeup_fd(-1), warn_on_full_buffer=False)

    def _on_sigchld(self, *_: object) -> None:
        if self._loop is not None and not self._collection_is_due:
            self._collection_is_due = True
            self._loop.call_soon(self._collect)

    def _collect(self) -> None:
        """Collect until nothing is left: one SIGCHLD may stand for many exits (signal(7))."""
        self._collection_is_due = False
        while self._loop is not None:  # a collection that was due when `stop` came is dropped
            try:
                child = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                return
            if child is None:
                return
            killed = child.si_code != os.CLD_EXITED
            self._record(child.si_pid, 128 + child.si_status if killed else child.si_status)

    def _record(self, pid: int, code: int) -> None:
        exit_code = self._exits.get(pid)
        if exit_code is not None and not exit_code.done():
            exit_code.set_result(code)
            return
        if self._launches:
            self._clock += 1
            self._unclaimed.pop(pid, None)  # to the end of the order, if the pid has come round again
            self._unclaimed[pid] = (self._clock, code)
            return
        _log.debug("collected a process that nobody waits for", extra={"child": pid, "exit_code": code})

    def _drop_what_no_launch_can_claim(self) -> None:
        """Drop the statuses collected before the oldest launch in flight began.

        This bounds the table: it holds no more than the exits of one launch's time.
        """
        if not self._launches:
            self._unclaimed.clear()
            return
        oldest = min(self._launches)
        while self._unclaimed:
            pid = next(iter(self._unclaimed))
            if self._unclaimed[pid][0] > oldest:
                return
            del self._unclaimed[pid]


def _do_nothing(*_: object) -> None:
    """A handler in place of SIG_IGN."""

"""Child processes that die with their parent, whatever kills it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from host.errors import VmFailed
from host.vm.programs import find_program

_LOG_TAIL_BYTES = 16384

# setpriv sets PR_SET_PDEATHSIG and execs; the shell then asks whether the parent died before that,
# in which case the signal never comes, and execs the program. So the child keeps one process id all
# the way. Python's preexec_fn could do it too, but is unsafe in a process with threads.
_DIE_WITH_PARENT = '[ "$PPID" = "$0" ] && exec "$@"'


class Child:
    """A running program; its output goes to a log file.

    Start it from a thread that lives as long as the process: the kernel sends the death signal
    when the *thread* that forked ends (prctl(2), PR_SET_PDEATHSIG).
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self.pid = process.pid
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)
        self._loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._pidfd, self._reap)

    @classmethod
    def start(
        cls, name: str, argv: Sequence[str | Path], *, log: Path, pass_fds: Sequence[int] = ()
    ) -> Child:
        """Start `argv`; `name` is what errors call it. Needs a running loop.

        Raises ToolMissing without setpriv, OSError if the log cannot be opened.
        """
        guard: list[str | Path] = [
            find_program("setpriv"),
            "--pdeathsig",
            "KILL",
            "--",
            "/bin/sh",
            "-c",
            _DIE_WITH_PARENT,
        ]
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*guard, str(os.getpid()), *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=pass_fds,
                # Ctrl-C on the user's terminal is for the CLI, which then ends the machine in order.
                start_new_session=True,
            )
        return cls(name, process, log)

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._exited.set_result(self._process.wait())

    @property
    def running(self) -> bool:
        """Whether the program has not been seen to exit."""
        return not self._exited.done()

    async def wait(self) -> int:
        """Wait for the exit; the status is negative for a signal, as subprocess has it."""
        return await asyncio.shield(self._exited)

    def kill(self) -> None:
        """Send SIGKILL, if it still runs."""
        if self.running:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def stop(self, *, grace_s: float = 2.0) -> int:
        """SIGTERM, then SIGKILL after `grace_s` seconds; returns the exit status."""
        if self.running:
            signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
            try:
                return await asyncio.wait_for(self.wait(), grace_s)
            except TimeoutError:
                self.kill()
        return await self.wait()

    def log_tail(self, lines: int = 5) -> str:
        """The last lines of what it wrote."""
        return tail(self.log, lines)

    def failure(self, what: str) -> VmFailed:
        """An error that says `what` happened, with the program's own last words."""
        words = self.log_tail() or "it left no message"
        return VmFailed(f"{self.name} {what}", words)


def tail(path: Path, lines: int) -> str:
    """The last non-empty lines of a file; empty if there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    kept = [line.strip() for line in text.splitlines() if line.strip()]
    return "\n".join(kept[-lines:])

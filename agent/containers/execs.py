"""The processes that have been run in a container beside its first one, by their exec ids."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from agent.containers.process import Process
from agent.errors import AlreadyExists

# Finished execs are remembered until the container is removed, so that a repeated WaitProcess has its
# answer. A container may be probed by an exec every few seconds for months: of those that everybody
# is done with, only so many.
_REMEMBERED = 256


class Execs:
    """Which exec ids are taken, and whose they are."""

    def __init__(self) -> None:
        self._processes: dict[str, Process] = {}
        self._launching: set[str] = set()
        self._no_launch = asyncio.Event()
        self._no_launch.set()

    def __iter__(self) -> Iterator[Process]:
        """All that are remembered, oldest first."""
        return iter(list(self._processes.values()))

    def get(self, exec_id: str) -> Process | None:
        """The process, running or not, that goes by `exec_id`."""
        return self._processes.get(exec_id)

    def add(self, process: Process) -> None:
        """Remember a process, in place of a finished one with its exec id."""
        self._forget(process.exec_id)
        self._processes[process.exec_id] = process

    def discard(self, exec_id: str) -> None:
        """End a process whose caller has gone before he could learn of it."""
        process = self._processes.pop(exec_id, None)
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.close()

    @contextmanager
    def reserved(self, exec_id: str) -> Iterator[None]:
        """Keep `exec_id`, and whoever waits in `settled`, while a launch is under way.

        Raises AlreadyExists.
        """
        known = self._processes.get(exec_id)
        if exec_id in self._launching or (known is not None and not known.is_done_with):
            raise AlreadyExists(f"exec_id '{exec_id}' already exists")
        self._launching.add(exec_id)
        self._no_launch.clear()
        try:
            yield
        finally:
            self._launching.discard(exec_id)
            if not self._launching:
                self._no_launch.set()

    async def settled(self) -> None:
        """Wait until no launch is under way."""
        await self._no_launch.wait()

    def _forget(self, exec_id: str) -> None:
        """Make room for a new process under `exec_id`, and in the table of finished ones."""
        done = [known for known, process in self._processes.items() if process.is_done_with]
        surplus = done[: max(0, len(done) - _REMEMBERED)]
        for known in {exec_id, *surplus} & self._processes.keys():
            self._processes.pop(known).close()

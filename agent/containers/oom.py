"""Containers in which the kernel has killed a process for want of memory.

Sources: Documentation/admin-guide/cgroup-v1/memory.rst, sections 9 and 10 (an eventfd on
memory.oom_control); cgroup-v2.rst, memory.events, whose changes inotify tells.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable

from agent.containers.cgroup_files import CgroupFiles, write_file
from agent.containers.stats import flat_keyed
from agent.errors import KernelRefused
from agent.linux.inotify import drain, watch_modifications

_log = logging.getLogger("agent.containers.oom")

# As many as the 4.x agent keeps for a host that does not ask.
_MOST_PENDING = 100

# Version 1 tells that memory has run out before it has chosen and killed a process, and then nothing
# more. The kill is counted within milliseconds (own measurement: 1 to 5); a frozen or stuck victim may
# take longer, and a container that has the killer switched off never counts one.
_FIRST_LOOK_S = 0.001
_LONGEST_PAUSE_S = 0.25
_LOOKS = 30


class OomEvents:
    """The ids of containers that have had a process killed, in order; each goes to one caller."""

    def __init__(self) -> None:
        self._pending: deque[str] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed = False

    def report(self, container_id: str) -> None:
        """Tell one caller, now or when one comes."""
        if len(self._pending) == _MOST_PENDING:
            _log.warning("an event of a kill is dropped: nobody asks", extra={"container": container_id})
            return
        self._pending.append(container_id)
        self._wake_one()

    async def next(self) -> str | None:
        """Wait for the next event: a container's id, or None once there will be no more.

        Whoever is cancelled takes no event with him.
        """
        while not self._pending and not self._closed:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except BaseException:
                if waiter.done() and not waiter.cancelled():  # woken and cancelled at once: pass it on
                    self._wake_one()
                raise
            finally:
                with contextlib.suppress(ValueError):
                    self._waiting.remove(waiter)
        return self._pending.popleft() if self._pending else None

    def close(self) -> None:
        """No more events: all who wait hear so, once those that are pending have been taken."""
        self._closed = True
        while self._waiting:
            self._wake_one()

    def _wake_one(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


class OomWatch(abc.ABC):
    """Watches one container until it is closed: a descriptor that becomes readable when
    there may have been a kill, and the kernel's count.
    """

    def __init__(self, descriptor: int, count: Callable[[], int], report: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._count = count
        self._report = report
        self._seen = count()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._woken)

    def close(self) -> None:
        """Look a last time, and stop. Safe to call twice."""
        if self._descriptor < 0:
            return
        self._look()
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1

    @abc.abstractmethod
    def _woken(self) -> None:
        """The descriptor has something to tell."""

    def _look(self) -> bool:
        """Report kills that have not been reported; whether there were any."""
        count = self._count()
        new, self._seen = count > self._seen, max(count, self._seen)
        if new:
            self._report()
        return new


class _Watch2(OomWatch):
    """Version 2: memory.events is modified when its counts change, `oom_kill` among them."""

    def __init__(self, files: CgroupFiles, report: Callable[[], None]) -> None:
        descriptor = watch_modifications(f"{files.directory('memory')}/memory.events")
        super().__init__(
            descriptor, lambda: flat_keyed(files.read("memory", "memory.events")).get("oom_kill", 0), report
        )

    def _woken(self) -> None:
        drain(self._descriptor)
        self._look()


class _Watch1(OomWatch):
    """Version 1: an eventfd tells that memory has run out; whether somebody was killed shows later.

    The kernel signals the eventfd as well when the cgroup, or one above it that ran out, has other
    children, and when the cgroup is removed: only a higher count is a kill.
    """

    def __init__(self, files: CgroupFiles, report: Callable[[], None]) -> None:
        self._looks_left = 0
        self._timer: asyncio.TimerHandle | None = None
        directory = files.directory("memory")
        descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                write_file(f"{directory}/cgroup.event_control", f"{descriptor} {control}")
            finally:
                os.close(control)
            super().__init__(
                descriptor,
                lambda: flat_keyed(files.read("memory", "memory.oom_control")).get("oom_kill", 0),
                report,
            )
        except BaseException:
            os.close(descriptor)
            raise

    def close(self) -> None:
        """As OomWatch.close."""
        if self._timer is not None:
            self._timer.cancel()
        super().close()

    def _woken(self) -> None:
        os.eventfd_read(self._descriptor)
        self._looks_left = _LOOKS
        self._look_soon(0.0)

    def _look_soon(self, pause_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(pause_s, self._look_again, pause_s)

    def _look_again(self, pause_s: float) -> None:
        self._timer = None
        self._looks_left -= 1
        if not self._look() and self._looks_left > 0:
            self._look_soon(min(max(pause_s * 2, _FIRST_LOOK_S), _LONGEST_PAUSE_S))


def watch_oom(files: CgroupFiles, report: Callable[[], None]) -> OomWatch | None:
    """Call `report`, on the running loop, for every kill in the container with these cgroup files.

    None if the guest does not control memory. A few bytes of cgroup files, read on the loop: the
    kernel answers from memory. Raises KernelRefused.
    """
    try:
        return (_Watch2 if files.is_unified else _Watch1)(files, report)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KernelRefused.from_oserror("watching for want of memory", error) from error

"""Which storages of the sandbox are attached, and how many users each has.

A storage is known by its mount point: the first user attaches it, later ones only count, and with
the last one it goes. The sandbox itself can be a user too, so that a storage outlives the container
that brought it. Attaching happens outside any lock, so a slow disk holds up nobody but those who wait
for that very mount point.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agent.errors import InvalidRequest
from agent.storage.handler import AttachedStorage, StorageRequest


@dataclass(slots=True)
class _Entry:
    """One mount point in use. `attached` is done once the storage is there, or has failed to come."""

    attached: asyncio.Task[AttachedStorage]
    driver: str
    users: int = 0
    kept: bool = False  # the sandbox is one of the users
    releasing: asyncio.Task[None] | None = None


class SharedStorages:
    """The ledger of attached storages. All of it runs on the loop thread."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def mount_points(self) -> list[str]:
        """The mount points in use, in the order in which they came."""
        return list(self._entries)

    async def acquire(
        self, request: StorageRequest, attach: Callable[[], Awaitable[AttachedStorage]]
    ) -> None:
        """Become a user of the storage at `request.mount_point`, attaching it if nobody uses it yet.

        All who come while it is being attached wait for that one attempt and share its failure, which
        leaves no entry. A user who is cancelled while waiting is no user; the last of them to give up
        ends the attempt, and what it attached is released again.

        Raises InvalidRequest if the mount point is in use with another driver, or what `attach` raises.
        """
        point = request.mount_point
        entry = await self._usable_entry(point)
        if entry is None:
            entry = self._attach(request, attach)
        elif entry.driver != request.driver:
            raise InvalidRequest(
                f'mount point "{point}" is in use by a storage of driver "{entry.driver}", '
                f'not "{request.driver}"'
            )
        entry.users += 1
        try:
            # shield: a user who gives up must not take the storage from the others.
            await asyncio.shield(entry.attached)
        except BaseException:
            await self._give_up(point, entry)
            raise

    def keep(self, mount_point: str) -> bool:
        """Make the sandbox a user of a storage that has one already; False if it is one.

        To be taken back by `let_go`.
        """
        entry = self._entries[mount_point]
        if entry.kept:
            return False
        entry.kept = True
        entry.users += 1
        return True

    async def let_go(self, mount_point: str) -> None:
        """End what `keep` began. Raises KernelRefused as `release` does."""
        entry = self._entries.get(mount_point)
        if entry is not None and entry.kept:
            entry.kept = False
            await self.release(mount_point)

    async def release(self, mount_point: str) -> None:
        """Stop being a user of the storage at `mount_point`; the last one makes it go away.

        An unknown mount point is no error: it has been released. Raises KernelRefused if the storage
        cannot be undone; it is then kept as a leftover, see `release_leftovers`.
        """
        entry = self._entries.get(mount_point)
        if entry is None or entry.users == 0:
            return
        entry.users -= 1
        if entry.users == 0:
            await self._undo(mount_point, entry)

    async def release_leftovers(self) -> None:
        """Try again to undo what nobody uses and what would not go. Raises KernelRefused."""
        for mount_point, entry in list(self._entries.items()):
            if entry.users == 0:
                await self._undo(mount_point, entry)

    async def _usable_entry(self, point: str) -> _Entry | None:
        """The entry of `point` that has users; what has none is seen off first. Raises KernelRefused."""
        while (entry := self._entries.get(point)) is not None and entry.users == 0:
            await self._undo(point, entry)
        return entry

    def _attach(self, request: StorageRequest, attach: Callable[[], Awaitable[AttachedStorage]]) -> _Entry:
        point = request.mount_point
        entry = _Entry(asyncio.ensure_future(_run(attach)), request.driver)
        self._entries[point] = entry

        def forget_failure(task: asyncio.Task[AttachedStorage]) -> None:
            if task.cancelled() or task.exception() is not None:
                del self._entries[point]

        entry.attached.add_done_callback(forget_failure)
        return entry

    async def _give_up(self, point: str, entry: _Entry) -> None:
        entry.users -= 1
        if entry.users == 0 and self._entries.get(point) is entry:
            await self._undo(point, entry)

    async def _undo(self, point: str, entry: _Entry) -> None:
        """Make the storage go, or wait for who is at it; runs to its end whoever is cancelled."""
        if entry.releasing is None:
            entry.releasing = asyncio.ensure_future(self._detach(point, entry))
        await asyncio.shield(entry.releasing)

    async def _detach(self, point: str, entry: _Entry) -> None:
        entry.attached.cancel()  # does nothing to one that is done
        await asyncio.wait([entry.attached])
        if entry.attached.cancelled() or entry.attached.exception() is not None:
            return  # nothing was attached, and the entry has gone with the attempt
        try:
            await entry.attached.result().release()
            del self._entries[point]
        finally:
            entry.releasing = None


async def _run(attach: Callable[[], Awaitable[AttachedStorage]]) -> AttachedStorage:
    """A coroutine around any awaitable, as a task needs one."""
    return await attach()

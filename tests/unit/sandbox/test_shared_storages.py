"""Shared storages: attached once, whoever comes when, and gone with the last user."""

from __future__ import annotations

import asyncio

import pytest

from agent.errors import InvalidRequest, KernelRefused
from agent.sandbox.shared_storages import SharedStorages
from agent.storage.handler import StorageRequest

POINT = "/run/kata-containers/sandbox/storage/a"


def request(driver: str = "ephemeral", mount_point: str = POINT) -> StorageRequest:
    return StorageRequest(driver=driver, source="tmpfs", fstype="tmpfs", mount_point=mount_point)


class Storage:
    """A storage that counts, and attaches and releases only when told to."""

    def __init__(self, *, held: bool = False, failure: Exception | None = None) -> None:
        self.mount_point = POINT
        self.attached = self.released = 0
        self.may_attach, self.may_release = asyncio.Event(), asyncio.Event()
        self.failure = failure
        self.busy = False
        if not held:
            self.may_attach.set()
        self.may_release.set()

    async def attach(self) -> Storage:
        self.attached += 1
        await self.may_attach.wait()
        if self.failure:
            raise self.failure
        return self

    async def release(self) -> None:
        await self.may_release.wait()
        if self.busy:
            raise KernelRefused("umount failed (EBUSY)")
        self.released += 1


async def settle() -> None:
    """Let every task run as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_users_at_once_attach_once_and_the_last_one_releases() -> None:
    ledger, storage = SharedStorages(), Storage(held=True)
    users = [asyncio.create_task(ledger.acquire(request(), storage.attach)) for _ in range(5)]
    await settle()
    assert storage.attached == 1
    assert not any(user.done() for user in users)
    storage.may_attach.set()
    await asyncio.gather(*users)
    for _ in range(4):
        await ledger.release(POINT)
        assert storage.released == 0
    await ledger.release(POINT)
    assert (storage.attached, storage.released) == (1, 1)
    assert ledger.mount_points() == []


async def test_a_failing_attach_fails_all_who_wait_and_leaves_no_entry() -> None:
    ledger, storage = SharedStorages(), Storage(held=True, failure=KernelRefused("mount failed"))
    users = [asyncio.create_task(ledger.acquire(request(), storage.attach)) for _ in range(3)]
    await settle()
    storage.may_attach.set()
    results = await asyncio.gather(*users, return_exceptions=True)
    assert [type(result) for result in results] == [KernelRefused] * 3
    assert ledger.mount_points() == []
    good = Storage()
    await ledger.acquire(request(), good.attach)
    assert good.attached == 1


async def test_one_cancelled_user_leaves_the_storage_to_the_others() -> None:
    ledger, storage = SharedStorages(), Storage(held=True)
    leaver, stayer = (asyncio.create_task(ledger.acquire(request(), storage.attach)) for _ in range(2))
    await settle()
    leaver.cancel()
    await settle()
    assert leaver.cancelled()
    storage.may_attach.set()
    await stayer
    await ledger.release(POINT)
    assert storage.released == 1


async def test_the_last_user_to_give_up_ends_the_attempt() -> None:
    ledger, storage = SharedStorages(), Storage(held=True)
    user = asyncio.create_task(ledger.acquire(request(), storage.attach))
    await settle()
    user.cancel()
    with pytest.raises(asyncio.CancelledError):
        await user
    assert ledger.mount_points() == []
    assert storage.released == 0


async def test_what_came_although_everybody_gave_up_is_released() -> None:
    """A mount in a thread cannot be stopped: it comes, and has to go again."""
    ledger, storage = SharedStorages(), Storage()

    async def stubborn() -> Storage:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await storage.attach()
        raise AssertionError

    user = asyncio.create_task(ledger.acquire(request(), stubborn))
    await settle()
    user.cancel()
    with pytest.raises(asyncio.CancelledError):
        await user
    assert (storage.attached, storage.released) == (1, 1)
    assert ledger.mount_points() == []


async def test_who_comes_during_the_release_waits_and_attaches_anew() -> None:
    ledger, old, new = SharedStorages(), Storage(), Storage()
    await ledger.acquire(request(), old.attach)
    old.may_release.clear()
    leaving = asyncio.create_task(ledger.release(POINT))
    await settle()
    coming = asyncio.create_task(ledger.acquire(request(), new.attach))
    await settle()
    assert new.attached == 0
    old.may_release.set()
    await asyncio.gather(leaving, coming)
    assert (old.released, new.attached) == (1, 1)
    assert ledger.mount_points() == [POINT]


async def test_a_cancelled_release_still_ends() -> None:
    ledger, storage = SharedStorages(), Storage()
    await ledger.acquire(request(), storage.attach)
    storage.may_release.clear()
    leaving = asyncio.create_task(ledger.release(POINT))
    await settle()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    storage.may_release.set()
    await settle()
    assert storage.released == 1
    assert ledger.mount_points() == []


async def test_mount_points_do_not_wait_for_each_other() -> None:
    ledger, slow, quick = SharedStorages(), Storage(held=True), Storage()
    waiting = asyncio.create_task(ledger.acquire(request(mount_point="/slow"), slow.attach))
    await settle()
    await ledger.acquire(request(mount_point="/quick"), quick.attach)
    assert ledger.mount_points() == ["/slow", "/quick"]
    slow.may_attach.set()
    await waiting


async def test_another_driver_on_a_mount_point_in_use_is_refused() -> None:
    ledger, storage = SharedStorages(), Storage()
    await ledger.acquire(request("ephemeral"), storage.attach)
    with pytest.raises(InvalidRequest, match="ephemeral"):
        await ledger.acquire(request("local"), Storage().attach)
    await ledger.release(POINT)
    assert storage.released == 1


async def test_releasing_what_is_not_there_does_nothing() -> None:
    ledger = SharedStorages()
    await ledger.release(POINT)
    assert ledger.mount_points() == []


async def test_a_storage_that_will_not_go_is_tried_again() -> None:
    ledger, storage = SharedStorages(), Storage()
    await ledger.acquire(request(), storage.attach)
    storage.busy = True
    with pytest.raises(KernelRefused):
        await ledger.release(POINT)
    with pytest.raises(KernelRefused):
        await ledger.release_leftovers()
    with pytest.raises(KernelRefused):
        await ledger.acquire(request(), Storage().attach)
    assert ledger.mount_points() == [POINT]
    storage.busy = False
    await ledger.release_leftovers()
    assert storage.released == 1
    assert ledger.mount_points() == []


async def test_what_the_sandbox_keeps_outlives_its_containers() -> None:
    ledger, storage = SharedStorages(), Storage()
    await ledger.acquire(request(), storage.attach)
    assert ledger.keep(POINT)
    assert not ledger.keep(POINT)
    await ledger.release(POINT)
    await ledger.release_leftovers()
    assert (storage.released, ledger.mount_points()) == (0, [POINT])
    await ledger.acquire(request(), Storage().attach)
    assert storage.attached == 1
    await ledger.let_go(POINT)
    assert storage.released == 0, "a container uses it"
    await ledger.let_go(POINT)
    assert storage.released == 0, "the sandbox has let go already"
    assert ledger.keep(POINT)
    await ledger.release(POINT)
    await ledger.let_go(POINT)
    assert (storage.released, ledger.mount_points()) == (1, [])
    await ledger.let_go(POINT)

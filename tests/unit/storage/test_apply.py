"""All storages of a request, or none."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import pytest

from agent.errors import InvalidRequest, KernelRefused
from agent.storage.apply import attach_storages
from agent.storage.handler import AttachedStorage, Guest, StorageHandler, StorageRequest
from agent.storage.mount_options import MountOptions
from agent.storage.registry import HandlerRegistry
from tests.fakes.guest import FakeGuest


class Plain(StorageHandler):
    drivers = ("plain",)

    async def attach(self, request: StorageRequest, guest: Guest) -> AttachedStorage:
        return await guest.mounts.mount(request.source, request.mount_point, "", MountOptions())


class PlainRegistry(HandlerRegistry):
    """Knows one driver."""

    def handler(self, driver: str) -> StorageHandler:
        if driver != "plain":
            raise InvalidRequest(f"Unknown storage driver {driver!r}")
        return Plain()


class CountingLedger:
    """A ledger without concurrency."""

    def __init__(self) -> None:
        self.users: dict[str, int] = {}
        self.attached: dict[str, AttachedStorage] = {}

    async def acquire(
        self, request: StorageRequest, attach: Callable[[], Awaitable[AttachedStorage]]
    ) -> None:
        if request.mount_point not in self.users:
            self.attached[request.mount_point] = await attach()
        self.users[request.mount_point] = self.users.get(request.mount_point, 0) + 1

    async def release(self, mount_point: str) -> None:
        self.users[mount_point] -= 1
        if self.users[mount_point] == 0:
            del self.users[mount_point]
            await self.attached.pop(mount_point).release()


def requests(*paths: str) -> list[StorageRequest]:
    return [StorageRequest("plain", f"source-of-{path}", "", path) for path in paths]


async def attach(
    wanted: list[StorageRequest], guest: FakeGuest, ledger: CountingLedger, stack: contextlib.AsyncExitStack
) -> list[str]:
    return await attach_storages(wanted, guest=guest, registry=PlainRegistry(), ledger=ledger, stack=stack)


async def test_storages_are_attached_in_order_and_released_in_reverse() -> None:
    guest, ledger = FakeGuest(), CountingLedger()
    async with contextlib.AsyncExitStack() as stack:
        assert await attach(requests("/a", "/b/", "//c"), guest, ledger, stack) == ["/a", "/b", "/c"]
        assert [step.mount_point for step in guest.held] == ["/a", "/b", "/c"]
        guest.log.clear()
    assert [line.split()[3] for line in guest.log] == ["/c", "/b", "/a"]
    assert guest.held == []
    assert ledger.users == {}


@pytest.mark.parametrize("failing", [0, 1, 2])
async def test_a_failure_at_any_step_releases_those_before_it(failing: int) -> None:
    paths = ["/a", "/b", "/c"]
    guest, ledger = FakeGuest(refuse=[f"mount source-of-{paths[failing]}"]), CountingLedger()
    async with contextlib.AsyncExitStack() as stack:
        with pytest.raises(KernelRefused, match=paths[failing]):
            await attach(requests(*paths), guest, ledger, stack)
        assert guest.held == []
        assert ledger.users == {}


@pytest.mark.parametrize(
    "bad",
    [
        StorageRequest("nope", "s", "", "/z"),
        StorageRequest("plain", "s", "", "relative"),
        StorageRequest("plain", "s", "", "/a/../b"),
        StorageRequest("plain", "s", "", ""),
        StorageRequest("plain", "s", "", "/"),
        StorageRequest("plain", "s\0", "", "/z"),
        StorageRequest("plain", "s", "t\0", "/z"),
        StorageRequest("plain", "s", "", "/z\0"),
    ],
)
async def test_all_requests_are_checked_before_anything_changes(bad: StorageRequest) -> None:
    guest = FakeGuest()
    async with contextlib.AsyncExitStack() as stack:
        with pytest.raises(InvalidRequest):
            await attach([*requests("/a"), bad], guest, CountingLedger(), stack)
    assert guest.log == []


async def test_two_spellings_of_a_mount_point_are_one_storage() -> None:
    guest, ledger = FakeGuest(), CountingLedger()
    async with contextlib.AsyncExitStack() as stack:
        await attach(requests("/a/b", "/a//b/"), guest, ledger, stack)
        assert ledger.users == {"/a/b": 2}
        assert len(guest.held) == 1


async def test_the_cause_is_told_even_if_undoing_fails_too(caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn(CountingLedger):
        async def release(self, mount_point: str) -> None:
            raise KernelRefused("umount failed")

    guest = FakeGuest(refuse=["mount source-of-/b"])
    async with contextlib.AsyncExitStack() as stack:
        with pytest.raises(KernelRefused, match="refused: mount source-of-/b"):
            await attach(requests("/a", "/b"), guest, Stubborn(), stack)
    assert "umount failed" in caplog.text


async def test_a_storage_knows_the_bundle_of_its_container_whatever_the_request_says() -> None:
    seen: list[str] = []

    class Noting(CountingLedger):
        async def acquire(
            self, request: StorageRequest, attach: Callable[[], Awaitable[AttachedStorage]]
        ) -> None:
            seen.append(request.bundle)
            await super().acquire(request, attach)

    for bundle in ("/run/kata-containers/c1", ""):
        async with contextlib.AsyncExitStack() as stack:
            await attach_storages(
                [StorageRequest("plain", "s", "", "/a", bundle="/elsewhere")],
                guest=FakeGuest(),
                registry=PlainRegistry(),
                ledger=Noting(),
                stack=stack,
                bundle=bundle,
            )
    assert seen == ["/run/kata-containers/c1", ""]

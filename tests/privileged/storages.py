"""A guest for storages on the real kernel, below a directory of the test's own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from agent.devices.wait import Devices
from agent.linux.mountinfo import MountEntry, read_mountinfo
from agent.processes.reaper import Reaper
from agent.sandbox.shared_storages import SharedStorages
from agent.storage.apply import attach_storages
from agent.storage.filesystems import Filesystems
from agent.storage.guest import RunningGuest
from agent.storage.handler import StorageRequest
from agent.storage.mount_points import MountPoints
from agent.storage.mounts import Mounts
from agent.storage.registry import HandlerRegistry

REGISTRY = HandlerRegistry()


class Kata:
    """A guest whose allowed root is a directory of this test, and what can be seen there."""

    def __init__(self, root: Path, devices: Devices, reaper: Reaper) -> None:
        self.root = root
        self.guest = RunningGuest(devices, Filesystems(reaper), Mounts(MountPoints([str(root)])))
        self.mounts = self.guest.mounts
        self.ledger = SharedStorages()

    async def attach(
        self, stack: contextlib.AsyncExitStack, *requests: StorageRequest, bundle: str = ""
    ) -> list[str]:
        """Attach all `requests`; closing `stack` releases them."""
        return await attach_storages(
            requests, guest=self.guest, registry=REGISTRY, ledger=self.ledger, stack=stack, bundle=bundle
        )

    def request(self, driver: str, source: str, fstype: str, place: str, *options: str) -> StorageRequest:
        """A storage at `place` below the root."""
        return StorageRequest(driver, source, fstype, f"{self.root}/{place}", options)

    def tmpfs(self, place: str, *options: str) -> StorageRequest:
        """A storage in memory."""
        return self.request("ephemeral", "tmpfs", "tmpfs", place, *options)

    def state(self) -> tuple[list[MountEntry], list[Path]]:
        """All that must be as it was: the mount table and the tree below the root."""
        return read_mountinfo(), sorted(self.root.rglob("*"))

    def entry(self, place: str) -> MountEntry:
        """The topmost mount at `place`."""
        return [entry for entry in read_mountinfo() if entry.mount_point == f"{self.root}/{place}"][-1]


@contextlib.asynccontextmanager
async def guest_below(directory: Path) -> AsyncIterator[Kata]:
    """A guest below `directory`, which in the end must be as it was, and the mount table too."""
    root = directory / "kata"
    root.mkdir()
    devices, reaper = Devices(hotplug_timeout_s=0.1), Reaper()
    reaper.start()
    kata = Kata(root, devices, reaper)
    before = kata.state()
    try:
        yield kata
    finally:
        reaper.stop()
        await devices.stop()
    assert kata.state() == before

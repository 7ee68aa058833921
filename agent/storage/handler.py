"""The contract between the agent and a storage handler.

A handler gets one `StorageRequest` and a `Guest`, attaches the storage, and returns an object
that knows how to undo it. docs/storage-drivers.md has a worked example.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

from agent.devices.address import DeviceAddress
from agent.errors import InvalidRequest, Unsupported
from agent.storage.mount_options import MountOptions

SHARED_DIRECTORY_TAG = "kataShared"
"""The tag under which every Kata host shares the sandbox's directory."""


CREATE_FILESYSTEM = "create_filesystem"
ENCRYPT = "encryption_key=ephemeral"
"""The driver options of disks (kata-containers src/agent/src/storage/block_handler.rs)."""


@dataclass(frozen=True, slots=True)
class FsGroup:
    """The group that is to own a storage's files (`FSGroup` on the ttrpc wire)."""

    group_id: int
    only_on_root_mismatch: bool


@dataclass(frozen=True, slots=True)
class StorageRequest:
    """One storage as the host asks for it; the fields are those of `Storage` on the wire.

    `driver` selects the handler; `fstype` is what goes to mount(2): they are independent. `bundle` is
    the agent's own addition: the directory of the container that asks, empty if the sandbox does.
    """

    driver: str
    source: str
    fstype: str
    mount_point: str
    options: tuple[str, ...] = ()
    driver_options: tuple[str, ...] = ()
    fs_group: FsGroup | None = None
    shared: bool = False
    bundle: str = ""


class AttachedStorage(Protocol):
    """A storage that is there, and the way to make it go away."""

    @property
    def mount_point(self) -> str:
        """The absolute path in the guest at which the storage appears."""

    async def release(self) -> None:
        """Undo the attachment. Safe to call twice.

        Raises KernelRefused if the kernel refuses (a busy mount); what can be undone has been.
        """


class GuestDevices(Protocol):
    """The guest's hardware, as far as a handler may see it (agent/devices)."""

    async def block_node(self, address: DeviceAddress) -> str:
        """The `/dev` node of the disk at `address`, waiting for its uevent if it is not there yet.

        Raises DeviceTimeout.
        """


class GuestMounts(Protocol):
    """The guest's mount table, as far as a handler may change it (agent/storage/mounts.py).

    Every mount point must lie below one of the roots a host may mount on
    (GHSA-fmg6-v47x-52wr); otherwise InvalidRequest. A failing call leaves nothing behind:
    neither a mount nor a directory that it made.
    """

    async def mount(
        self, source: str, mount_point: str, fstype: str, options: MountOptions
    ) -> AttachedStorage:
        """Make the mount point and mount `source` on it. Raises InvalidRequest, KernelRefused."""

    async def adopt(self, mount_point: str) -> AttachedStorage | None:
        """What is mounted at `mount_point` already, if anything is; releasing it does nothing."""

    async def make_directory(
        self, path: str, *, mode: int | None = None, gid: int | None = None
    ) -> AttachedStorage:
        """Make a plain directory with exactly `mode` and group, without a mount.

        Without a mode it gets 0755 if it is made, else the one it has. Released, it is removed with
        what lies in it, never across a mount and never through a link; one that was there before gets
        its owner and mode back instead.
        """

    async def give_to_group(self, mount_point: str, group: FsGroup, *, read_only: bool) -> None:
        """Give the files of a mounted storage to `group`, for reading and unless `read_only` writing.

        Permissions are only added, links are not followed, mounts not entered. Not undone when the
        storage goes: the files are the host's. Raises KernelRefused.
        """


class Releasable(Protocol):
    """Something that was taken and can be given back."""

    async def release(self) -> None:
        """Give it back. Safe to call twice. Raises KernelRefused."""


class GuestHugePages(Protocol):
    """The guest's pools of huge pages (agent/storage/hugepages.py)."""

    async def reserve(self, page_size_bytes: int, count: int) -> Releasable:
        """Enlarge the pool of that page size by `count` pages, all of them or none.

        Raises InvalidRequest (no such page size), LimitReached (not enough memory), KernelRefused.
        """


class GuestFilesystems(Protocol):
    """What makes filesystems in the guest (agent/storage/filesystems.py)."""

    async def make_ext4(self, node: str) -> None:
        """Make an empty ext4 for scratch space on the disk `node`; what it held is lost.

        Raises Unsupported (no mkfs.ext4 in this guest), KernelRefused, DeadlineExceeded.
        """


class Guest(Protocol):
    """All that a storage handler knows of the machine it runs in."""

    @property
    def devices(self) -> GuestDevices: ...

    @property
    def mounts(self) -> GuestMounts: ...

    @property
    def hugepages(self) -> GuestHugePages: ...

    @property
    def filesystems(self) -> GuestFilesystems: ...


class StackedStorage:
    """A storage that takes several steps, each of which stands on those before it.

    A `with` block around the steps undoes them if it fails.
    """

    def __init__(self, mount_point: str) -> None:
        self.mount_point = mount_point
        self._steps: list[Releasable] = []
        self._lock = asyncio.Lock()

    def add(self, step: Releasable) -> None:
        """Have `step` released before all steps so far."""
        self._steps.append(step)

    async def release(self) -> None:
        """Undo the steps, the newest first.

        One that fails stays, with those that it stands on, for the next call: while an overlay is
        mounted its directories must not be emptied. Raises KernelRefused.
        """
        async with self._lock:
            while self._steps:
                await self._steps[-1].release()
                self._steps.pop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            await self.release()


class StorageHandler(abc.ABC):
    """One driver of storages. Stateless: an instance may serve any number of requests at once."""

    drivers: ClassVar[Sequence[str]]

    @abc.abstractmethod
    async def attach(self, request: StorageRequest, guest: Guest) -> AttachedStorage:
        """Attach `request` and return how to release it.

        Raises InvalidRequest, DeviceTimeout, KernelRefused; after a raise nothing has changed.
        """

    @staticmethod
    async def mount(source: str, request: StorageRequest, guest: Guest) -> AttachedStorage:
        """The step that most drivers share: mount `source` as `request` says, for its group.

        Raises InvalidRequest, KernelRefused.
        """
        options = MountOptions.parse(request.options)
        async with contextlib.AsyncExitStack() as undo:
            mounted = await guest.mounts.mount(source, request.mount_point, request.fstype, options)
            undo.push_async_callback(mounted.release)
            if request.fs_group is not None:
                await guest.mounts.give_to_group(
                    mounted.mount_point, request.fs_group, read_only=options.read_only
                )
            undo.pop_all()
            return mounted


class BlockStorageHandler(StorageHandler):
    """A driver whose source is the address of a disk: find it, make a filesystem if asked to, mount it."""

    @abc.abstractmethod
    def address(self, source: str) -> DeviceAddress:
        """Where the disk is. Raises InvalidRequest."""

    async def attach(self, request: StorageRequest, guest: Guest) -> AttachedStorage:
        """Wait for the disk and mount it at the request's mount point.

        Raises InvalidRequest, Unsupported, DeviceTimeout, KernelRefused, DeadlineExceeded.
        """
        creates_filesystem = _creates_filesystem(request)
        MountOptions.parse(request.options)  # refused before the wait, not after
        node = await guest.devices.block_node(self.address(request.source))
        if creates_filesystem:
            await guest.filesystems.make_ext4(node)
        return await self.mount(node, request, guest)


def _creates_filesystem(request: StorageRequest) -> bool:
    """Whether the driver options ask for a new filesystem. Raises InvalidRequest, Unsupported."""
    if unknown := set(request.driver_options) - {CREATE_FILESYSTEM, ENCRYPT}:
        raise Unsupported(f"{request.driver}: unknown driver options {', '.join(sorted(unknown))}")
    creates = CREATE_FILESYSTEM in request.driver_options
    if ENCRYPT in request.driver_options:
        if not creates:
            raise InvalidRequest(f"{ENCRYPT} requires {CREATE_FILESYSTEM} for block storage")
        raise Unsupported(f"{request.driver}: {ENCRYPT} is not available: this agent encrypts no disks")
    if creates and request.fstype != "ext4":
        raise Unsupported(f"creating filesystem {request.fstype} for block storage is unsupported")
    return creates


class SharedFilesystemHandler(StorageHandler):
    """A driver whose source is the tag of a directory that the host shares."""

    async def attach(self, request: StorageRequest, guest: Guest) -> AttachedStorage:
        """Mount the share. One that was mounted before the agent started is taken as it is.

        Raises InvalidRequest, KernelRefused.
        """
        if request.source == SHARED_DIRECTORY_TAG:
            adopted = await guest.mounts.adopt(request.mount_point)
            if adopted is not None:
                return adopted
        return await self.mount(request.source, request, guest)

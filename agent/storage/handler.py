"""The contract between the agent and a storage handler.

A handler gets one `StorageRequest` and a `Guest`, attaches the storage, and returns an object
that knows how to undo it. docs/storage-drivers.md has a worked example.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from agent.devices.address import DeviceAddress
from agent.storage.mount_options import MountOptions


@dataclass(frozen=True, slots=True)
class FsGroup:
    """The group that is to own a storage's files (`FSGroup` on the ttrpc wire)."""

    group_id: int
    only_on_root_mismatch: bool


@dataclass(frozen=True, slots=True)
class StorageRequest:
    """One storage as the host asks for it; the fields are those of `Storage` on the wire.

    `driver` selects the handler; `fstype` is what goes to mount(2): they are independent.
    """

    driver: str
    source: str
    fstype: str
    mount_point: str
    options: tuple[str, ...] = ()
    driver_options: tuple[str, ...] = ()
    fs_group: FsGroup | None = None
    shared: bool = False


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

    async def make_directory(self, path: str, *, mode: int, gid: int | None = None) -> AttachedStorage:
        """Make a plain directory with exactly `mode` (and group), without a mount.

        Released, it is removed with what lies in it, never across a mount and never through a link.
        """


class Guest(Protocol):
    """All that a storage handler knows of the machine it runs in."""

    @property
    def devices(self) -> GuestDevices: ...

    @property
    def mounts(self) -> GuestMounts: ...


class StorageHandler(abc.ABC):
    """One driver of storages. Stateless: an instance may serve any number of requests at once."""

    drivers: ClassVar[Sequence[str]]

    @abc.abstractmethod
    async def attach(self, request: StorageRequest, guest: Guest) -> AttachedStorage:
        """Attach `request` and return how to release it.

        Raises InvalidRequest, DeviceTimeout, KernelRefused; after a raise nothing has changed.
        """

"""A guest that records what a storage handler does to it, and can refuse any step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.devices.address import DeviceAddress
from agent.errors import DeviceTimeout, KernelRefused
from agent.storage.handler import AttachedStorage, FsGroup
from agent.storage.mount_options import MountOptions


@dataclass
class Step:
    """Something that a handler has taken: in `FakeGuest.held` until it is released."""

    guest: FakeGuest
    what: str
    mount_point: str = ""

    async def release(self) -> None:
        if self in self.guest.held:
            self.guest.held.remove(self)
            self.guest.log.append(f"release {self.what}")


@dataclass
class FakeGuest:
    """Devices, mounts, huge pages and mkfs in one; `log` has every step, `held` what is still taken."""

    refuse: Sequence[str] = ()
    """Beginnings of the log lines at which the step fails."""
    mounted: dict[str, str] = field(default_factory=dict)
    """Mount point -> source of what was mounted before."""
    log: list[str] = field(default_factory=list)
    held: list[Step] = field(default_factory=list)

    @property
    def devices(self) -> FakeGuest:
        return self

    @property
    def mounts(self) -> FakeGuest:
        return self

    @property
    def hugepages(self) -> FakeGuest:
        return self

    @property
    def filesystems(self) -> FakeGuest:
        return self

    async def block_node(self, address: DeviceAddress) -> str:
        self._note(f"wait {address}", DeviceTimeout)
        return "/dev/disk-of-" + str(address).removeprefix("/dev/").replace("/", "-")

    async def mount(
        self, source: str, mount_point: str, fstype: str, options: MountOptions
    ) -> AttachedStorage:
        flags = "|".join(flag.name or "" for flag in options.flags) or "0"
        return self._take(f"mount {source} {mount_point} {fstype} {flags} {options.data!r}", mount_point)

    async def adopt(self, mount_point: str) -> AttachedStorage | None:
        return Step(self, "nothing", mount_point) if mount_point in self.mounted else None

    async def make_directory(
        self, path: str, *, mode: int | None = None, gid: int | None = None
    ) -> AttachedStorage:
        return self._take(f"mkdir {path} {'any' if mode is None else f'{mode:04o}'} {gid}", path)

    async def give_to_group(self, mount_point: str, group: FsGroup, *, read_only: bool) -> None:
        self._note(f"chgrp {mount_point} {group.group_id} {'ro' if read_only else 'rw'}", KernelRefused)

    async def reserve(self, page_size_bytes: int, count: int) -> Step:
        return self._take(f"reserve {count} of {page_size_bytes}", "")

    async def make_ext4(self, node: str) -> None:
        self._note(f"mkfs.ext4 {node}", KernelRefused)

    def _take(self, what: str, mount_point: str) -> Step:
        self._note(what, KernelRefused)
        step = Step(self, what, mount_point)
        self.held.append(step)
        return step

    def _note(self, what: str, error: type[DeviceTimeout | KernelRefused]) -> None:
        self.log.append(what)
        if what.startswith(tuple(self.refuse)):
            raise error(f"refused: {what}")

"""What a container is to be, as the command line asks for it and `create_container` makes it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from host.errors import InvalidInput
from host.vm.disks import PluggedDisk

SHM_SIZE_BYTES = 64 << 20  # docker's default, and Kata's

# What the agent accepts as a container id (kata-containers src/agent/src/rpc.rs, verify_id), within
# the length that fits into a file name beside what Kata puts there.
_IDENTIFIER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of a container: the fields of the OCI runtime specification, "Mounts".

    `type` may also be one of the two words of Kata's own, which never reach the guest:
    `ephemeral` (a tmpfs that all containers of the sandbox share by its source's last name) and
    `local` (the same on disk).
    """

    destination: str
    source: str
    type: str
    options: tuple[str, ...] = ()

    @property
    def is_read_only(self) -> bool:
        return "ro" in self.options

    def from_guest(self, source: str, *, options: Sequence[str] | None = None) -> Mount:
        """This mount as a bind of `source`, a path in the guest."""
        kept = self.options if options is None else tuple(options)
        return replace(self, source=source, type="bind", options=kept)


@dataclass(frozen=True, slots=True)
class HostDevice:
    """A block device of the host's that the container is to have at `container_path`."""

    host_path: Path
    container_path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Rlimit:
    """A resource limit: `type` as in "RLIMIT_NOFILE", the two values in setrlimit(2)'s units."""

    type: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class SharedRootfs:
    """A root filesystem that reaches the guest through the sandbox's shared directory."""

    path: Path


@dataclass(frozen=True, slots=True)
class BlockRootfs:
    """A root filesystem on a disk of its own, which the guest will write to.

    `plugged` is given for a disk that the VM had at power-on; any other is hot-plugged by `driver`.
    `suffix` is the root's directory within the filesystem: empty if the disk holds the root itself.
    """

    image: Path
    fstype: str
    driver: str  # as Kata's configuration names it: a key of host.storages.STORAGE_DRIVERS
    format: Literal["raw", "qcow2"] = "raw"
    plugged: PluggedDisk | None = None
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """A container. Empty text and None mean docker's defaults; sizes are bytes, `cpus` a count.

    `user` is docker's NAME|UID[:GROUP|GID]; `passwd` and `group` are the contents of those two files
    in the root filesystem, by which names are understood. `environment` wins over the defaults.
    """

    container_id: str
    rootfs: SharedRootfs | BlockRootfs
    args: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    user: str = ""
    passwd: str = ""
    group: str = ""
    terminal: bool = False
    hostname: str = ""
    mounts: tuple[Mount, ...] = ()
    devices: tuple[HostDevice, ...] = ()
    rlimits: tuple[Rlimit, ...] = ()
    read_only_rootfs: bool = False
    memory_bytes: int | None = None
    cpus: float | None = None
    share_pid_namespace: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)


def check_identifier(kind: str, identifier: str) -> None:
    """Refuse what cannot be the id of a `kind` ("container", "sandbox"). Raises InvalidInput."""
    if not _IDENTIFIER.fullmatch(identifier):
        raise InvalidInput(
            f"{identifier!r} cannot be a {kind} id",
            "use 2 to 128 letters, digits, '.', '_' and '-', the first of them a letter or a digit",
        )

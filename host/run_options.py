"""What a user asked `pykata run` for, checked and complete, as the monitor gets it."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from host.container_config import Mount
from host.errors import InvalidInput
from host.network import PublishedPort


class RootfsDriver(enum.StrEnum):
    """How the container's root filesystem reaches the guest."""

    SHARED = "shared"
    VIRTIO_BLK = "virtio-blk"
    VIRTIO_MMIO = "virtio-mmio"
    VIRTIO_SCSI = "virtio-scsi"


class SharedFs(enum.StrEnum):
    """What exports the shared directory to the guest."""

    PLAN9 = "9p"
    VIRTIO_FS = "virtio-fs"


class Wire(enum.StrEnum):
    """The protocol spoken to the agent: Kata 2 to 4 use ttrpc, Kata 1.x gRPC."""

    TTRPC = "ttrpc"
    GRPC = "grpc"


class ImageForm(enum.StrEnum):
    """Which of the guest image's two forms the VM boots."""

    IMAGE = "image"
    INITRD = "initrd"


class Network(enum.StrEnum):
    """What network the VM has: QEMU's user networking, or none."""

    USER = "user"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class WindowSize:
    """Rows and columns of a terminal, in characters."""

    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class RunOptions:
    """One container in one VM of its own."""

    rootfs: str  # absolute path of a directory, a tar or a disk image
    command: tuple[str, ...]
    name: str = ""
    hostname: str = ""
    remove: bool = False
    interactive: bool = False
    tty: bool = False
    window: WindowSize | None = None
    mounts: tuple[Mount, ...] = ()
    volumes: tuple[str, ...] = ()  # names of the named volumes among the mounts
    env: tuple[str, ...] = ()  # each as NAME=VALUE
    workdir: str = ""
    user: str = ""
    memory_mib: int = 1024
    cpus: int = 1
    shared_fs: SharedFs = SharedFs.PLAN9
    rootfs_driver: RootfsDriver = RootfsDriver.SHARED
    wire: Wire = Wire.TTRPC
    network: Network = Network.USER
    ports: tuple[PublishedPort, ...] = ()
    image_form: ImageForm = ImageForm.IMAGE
    debug_console: bool = False
    log_level: str = "info"


_SIZE = re.compile(r"(\d+)\s*([kmgt]?)i?b?", re.IGNORECASE)
_UNIT_KIB = {"": 1024, "k": 1, "m": 1024, "g": 1024**2, "t": 1024**3}
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")


def parse_memory(text: str) -> int:
    """A memory size in MiB from `512`, `512M` or `2G`; a number without a unit counts MiB.

    Raises InvalidInput for anything else, and below the 128 MiB that a guest needs (own measurement).
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidInput(f"memory size {text!r} is not a number with a unit", "write it as 512M or 2G")
    size_mib = int(match[1]) * _UNIT_KIB[match[2].lower()] // 1024
    if size_mib < 128:
        raise InvalidInput(f"memory size {text!r} is too small for a guest", "give it at least 128M")
    return size_mib


def check_name(name: str) -> str:
    """`name` if it can name a sandbox, else InvalidInput (the alphabet is docker's)."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"name {name!r} cannot name a sandbox",
            "use letters, digits, '_', '.' and '-', beginning with a letter or digit, 63 at most",
        )
    return name

"""What a virtual machine shall be: the guest image and the machine's own figures."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from host.errors import InvalidInput, ToolMissing
from host.network import PublishedPort
from host.vm.disks import Disk

Machine = Literal["q35", "microvm"]
ImageForm = Literal["image", "initrd"]
SharedFs = Literal["9p", "virtio-fs", "none"]
NetworkMode = Literal["user", "none"]

AGENT_PORT = 1024  # the agent's RPC port (Kata runtime, virtcontainers/kata_agent.go: vSockPort)
SHARE_TAG = "kataShared"  # mount tag of the shared directory (kata_agent.go: mountGuestTag)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
# sockaddr_un.sun_path holds 108 bytes with the closing zero (unix(7)).
_SOCKET_PATH_LIMIT = 107
_LONGEST_SOCKET_NAME = "vhost-vsock.sock"
_MINIMUM_MEMORY_MIB = 128  # assumed: below this the guest's own Python does not fit


@dataclass(frozen=True, slots=True)
class GuestImage:
    """A built guest in one of its two forms.

    `image`: a read-only ext4 disk, found by a small initramfs; `initrd`: the whole root in memory.
    """

    directory: Path
    form: ImageForm = "image"

    @property
    def kernel(self) -> Path:
        """The kernel: unpacked, where the image has it so, else as the distribution ships it.

        QEMU enters an unpacked kernel by its PVH entry point. A packed one unpacks itself first,
        which costs an emulated processor 3.9 s (Debian's xz, QEMU 7.2, TCG).
        """
        unpacked = self.directory / "vmlinux"
        return unpacked if unpacked.is_file() else self.directory / "vmlinuz"

    @property
    def initramfs(self) -> Path:
        """What the kernel unpacks first: the disk finder (`image`) or the whole root (`initrd`)."""
        return self.directory / ("initramfs.cpio.zst" if self.form == "image" else "initrd.cpio.zst")

    @property
    def rootfs(self) -> Path | None:
        """The root disk; None where the root is in memory."""
        return self.directory / "rootfs.ext4" if self.form == "image" else None

    def check(self) -> None:
        """Raise ToolMissing if a file of the image is not there."""
        files = [self.kernel, self.initramfs, *([self.rootfs] if self.rootfs else [])]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise ToolMissing(
                f"the guest image in {self.directory} lacks {', '.join(missing)}",
                "build it with `make image`",
            )


@dataclass(frozen=True, slots=True)
class VmConfig:
    """Everything about one machine that a caller decides.

    `run_dir` holds its sockets and logs and is the machine's own; `share_dir` is what the guest
    sees as the shared directory; `cold_disks` are there at power-on, in this order, after the
    image's own disk; `kernel_params` come last on the kernel's command line, so that they win.
    """

    name: str
    run_dir: Path
    image: GuestImage
    machine: Machine = "q35"
    memory_mib: int = 512
    cpus: int = 1
    shared_fs: SharedFs = "9p"
    share_dir: Path | None = None
    scsi: bool = False
    cold_disks: tuple[Disk, ...] = ()
    network: NetworkMode = "none"
    published_ports: tuple[PublishedPort, ...] = ()
    kernel_params: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Raise InvalidInput for figures that cannot make a machine."""
        if not _NAME.fullmatch(self.name):
            raise InvalidInput(
                f"{self.name!r} is no name for a virtual machine", "use letters, digits and _.-"
            )
        longest = len(str(self.run_dir / _LONGEST_SOCKET_NAME).encode())
        if longest > _SOCKET_PATH_LIMIT:
            raise InvalidInput(
                f"the run directory {self.run_dir} makes a socket path of {longest} bytes",
                f"the kernel allows {_SOCKET_PATH_LIMIT}: choose a shorter one",
            )
        if self.memory_mib < _MINIMUM_MEMORY_MIB:
            raise InvalidInput(
                f"{self.memory_mib} MiB of memory is too little for a guest",
                f"give it {_MINIMUM_MEMORY_MIB} MiB or more",
            )
        if self.cpus < 1:
            raise InvalidInput(f"{self.cpus} is no number of processors", "give it 1 or more")
        if (self.shared_fs == "none") != (self.share_dir is None):
            raise InvalidInput(
                f"shared file system {self.shared_fs!r} with share directory {self.share_dir}",
                "name both, or neither",
            )
        if self.published_ports and self.network == "none":
            raise InvalidInput("a machine without a network cannot publish ports", "use `--network user`")
        if self.machine == "microvm" and self.scsi:
            raise InvalidInput("microvm has no bus for hot-plugged SCSI disks here", "use the machine q35")

    @property
    def console_log(self) -> Path:
        """What the guest writes on its serial console."""
        return self.run_dir / "console.log"

    @property
    def qemu_log(self) -> Path:
        """What QEMU itself has to say."""
        return self.run_dir / "qemu.log"

    @property
    def qmp_socket(self) -> Path:
        """The control socket; QEMU listens there."""
        return self.run_dir / "qmp.sock"

    @property
    def virtiofsd_socket(self) -> Path:
        """Where virtiofsd waits for QEMU."""
        return self.run_dir / "vhost-fs.sock"

    @property
    def first_cold_disk_index(self) -> int:
        """The virtio disk number of the first cold disk: the image's own disk comes before it."""
        return 0 if self.image.rootfs is None else 1

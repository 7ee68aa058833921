"""The QEMU command line of a machine: a pure function of its configuration and the host's offer.

The arguments follow those of the Kata runtime (virtcontainers/qemu*.go, vendored govmm) in the
spelling of QEMU 7.2. Two machines are built:

- `q35`: every device on PCI. Disks can be plugged while it runs: behind the PCI bridge in slot 2,
  or on the SCSI controller.
- `microvm`: no PCI at all, every device on virtio-mmio, found by ACPI. Disks are there at power-on
  or never; the guest numbers them in the order of the command line (tried). Devices are the modern
  kind (`force-legacy=false`), which virtio-fs and vsock need. `pci=off` must not be said here: the
  kernel then hangs.

Guest memory is always a shared memory file, since processes outside QEMU (vsock, virtio-fs) use it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from host.network import MAC_ADDRESS, NETDEV_ID, netdev_argument
from host.vm.config import SHARE_TAG, Machine, VmConfig
from host.vm.disks import BRIDGE_SLOT, Disk
from host.vm.kernel_params import kernel_command_line
from host.vm.kvm import Accelerator
from host.vm.vsock import KernelVsock, VsockDevice

BRIDGE_ID = "pci-bridge-0"
SCSI_ID = "scsi0"
ROOT_DISK_ID = "root"
_MEMORY_ID = "memory0"

# What a guest never uses costs time at power-on. ioapic2 raises microvm's 8 transports to 24.
_MACHINE: dict[Machine, str] = {
    "q35": "q35,usb=off,sata=off,smbus=off,vmport=off",
    "microvm": "microvm,acpi=on,ioapic2=on,auto-kernel-cmdline=off",
}
_CPU: dict[Accelerator, str] = {"kvm": "host", "tcg": "max"}


@dataclass(frozen=True, slots=True)
class HostOffer:
    """What this host gives the machine: found out or opened just before the start.

    `qmp_fd` is a listening unix socket that QEMU inherits; `tsc_khz` the time-stamp counter's
    frequency where the guest's processor is emulated.
    """

    qemu: Path
    accelerator: Accelerator
    vsock: VsockDevice
    qmp_fd: int
    tsc_khz: int | None = None


def qemu_command(config: VmConfig, offer: HostOffer) -> list[str]:
    """The whole command line. Raises nothing: `config` was checked when it was made."""
    return [
        str(offer.qemu),
        *_base(config, offer),
        *_buses(config),
        *_vsock(config, offer.vsock),
        *_share(config),
        *_disks(config),
        *_network(config),
    ]


def blockdev_options(disk: Disk) -> dict[str, object]:
    """A disk as QMP's `blockdev-add` takes it; its node is `drive-ID`.

    Looks at the path once: a block device needs another protocol driver than a file.
    """
    protocol = "host_device" if disk.path.is_block_device() else "file"
    return {
        "driver": disk.format,
        "node-name": drive_node(disk),
        "read-only": disk.read_only,
        "file": {"driver": protocol, "filename": str(disk.path)},
    }


def drive_node(disk: Disk) -> str:
    """The name of a disk's block node, and of the device that shows it."""
    return f"drive-{disk.id}"


def quote(value: str | Path) -> str:
    """A value inside a comma-separated option: QEMU takes two commas for one."""
    return str(value).replace(",", ",,")


def _device(config: VmConfig, kind: str, *properties: str) -> list[str]:
    """`-device` on the machine's bus; a PCI device without a ROM, which would only cost time."""
    if config.machine == "microvm":
        return ["-device", ",".join([f"{kind}-device", *properties])]
    return ["-device", ",".join([f"{kind}-pci", *properties, "romfile="])]


def _base(config: VmConfig, offer: HostOffer) -> Iterator[str]:
    """Machine, processors, memory, kernel, console, control socket."""
    yield from ("-name", f"sandbox-{config.name}")
    yield from ("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none")
    yield from ("-machine", f"{_MACHINE[config.machine]},memory-backend={_MEMORY_ID}")
    yield from ("-accel", offer.accelerator, "-cpu", _CPU[offer.accelerator], "-smp", str(config.cpus))
    yield from ("-m", f"{config.memory_mib}M")
    memory = f"memory-backend-memfd,id={_MEMORY_ID},size={config.memory_mib}M,share=on"
    yield from ("-object", memory)
    if config.machine == "microvm":
        yield from ("-global", "virtio-mmio.force-legacy=false")
    yield from ("-rtc", "base=utc")
    yield from ("-kernel", str(config.image.kernel), "-initrd", str(config.image.initramfs))
    yield from ("-append", kernel_command_line(config, offer.tsc_khz))
    yield from (
        "-chardev",
        f"file,id=console0,path={quote(config.console_log)}",
        "-serial",
        "chardev:console0",
    )
    yield from ("-chardev", f"socket,id=qmp0,fd={offer.qmp_fd},server=on,wait=off")
    yield from ("-mon", "chardev=qmp0,mode=control")


def _buses(config: VmConfig) -> Iterator[str]:
    """Where disks can be plugged in, and the entropy source that every machine has."""
    if config.machine == "q35":
        bridge = f"pci-bridge,bus=pcie.0,id={BRIDGE_ID},chassis_nr=1,shpc=on,addr={BRIDGE_SLOT},romfile="
        yield from ("-device", bridge)
    if config.scsi:
        yield from _device(config, "virtio-scsi", f"id={SCSI_ID}")
    yield from ("-object", "rng-random,id=rng0,filename=/dev/urandom")
    yield from _device(config, "virtio-rng", "rng=rng0")


def _vsock(config: VmConfig, vsock: VsockDevice) -> Iterator[str]:
    """The way to the agent."""
    if isinstance(vsock, KernelVsock):
        yield from _device(
            config, "vhost-vsock", "id=vsock0", f"guest-cid={vsock.cid}", f"vhostfd={vsock.fd}"
        )
    else:
        yield from ("-chardev", f"socket,id=char-vsock,path={quote(vsock.socket)}")
        yield from _device(config, "vhost-user-vsock", "id=vsock0", "chardev=char-vsock")


def _share(config: VmConfig) -> Iterator[str]:
    """The shared directory. The export spans file systems, hence multidevs=remap."""
    if config.shared_fs == "9p" and config.share_dir is not None:
        export = f"local,id=share0,path={quote(config.share_dir)},security_model=none,multidevs=remap"
        yield from ("-fsdev", export)
        yield from _device(config, "virtio-9p", "fsdev=share0", f"mount_tag={SHARE_TAG}")
    elif config.shared_fs == "virtio-fs":
        yield from ("-chardev", f"socket,id=char-fs,path={quote(config.virtiofsd_socket)}")
        yield from _device(config, "vhost-user-fs", "chardev=char-fs", f"tag={SHARE_TAG}")


def _disks(config: VmConfig) -> Iterator[str]:
    """The image's own disk, which no guest can write, and the cold disks after it."""
    disks = list(config.cold_disks)
    if config.image.rootfs is not None:
        disks.insert(0, Disk(ROOT_DISK_ID, config.image.rootfs, read_only=True))
    for disk in disks:
        protocol = "host_device" if disk.path.is_block_device() else "file"
        read_only = "on" if disk.read_only else "off"
        node = f"driver={disk.format},node-name={drive_node(disk)},read-only={read_only}"
        yield from ("-blockdev", f"{node},file.driver={protocol},file.filename={quote(disk.path)}")
        yield from _device(
            config, "virtio-blk", f"drive={drive_node(disk)}", f"serial={disk.id}", "share-rw=on"
        )


def _network(config: VmConfig) -> Iterator[str]:
    """User networking, or no network device at all."""
    if config.network == "user":
        yield from ("-netdev", netdev_argument(config.published_ports))
        yield from _device(config, "virtio-net", f"netdev={NETDEV_ID}", f"mac={MAC_ADDRESS}")

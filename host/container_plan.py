"""From what the user asked for to what the VM and the container shall be. Nothing is done here."""

from __future__ import annotations

from pathlib import Path

from host import network
from host.container_config import BlockRootfs, ContainerConfig, Mount
from host.guest_images import guest_directory
from host.rootfs import PreparedRootfs
from host.run_options import RootfsDriver, RunOptions
from host.share import SharedPath
from host.state import Sandbox
from host.vm.config import GuestImage, Machine, VmConfig
from host.vm.disks import Disk

CONSOLE_PORT = 1026  # where `kata-runtime exec` looks for the debug console
ROOT_DISK = "rootfs"
# Of the pipes behind stdout and stderr: one ReadStdout then brings up to a MiB, not 64 KiB.
PIPE_BYTES = 1024 * 1024


def vm_config(sandbox: Sandbox, options: RunOptions, rootfs: PreparedRootfs, share: SharedPath) -> VmConfig:
    """The machine for a run. Raises InvalidInput for figures that cannot make one."""
    words = [f"agent.log={options.log_level}", f"agent.container_pipe_size={PIPE_BYTES}"]
    if options.debug_console:
        words += ["agent.debug_console", f"agent.debug_console_vport={CONSOLE_PORT}"]
    return VmConfig(
        name=sandbox.id,
        run_dir=sandbox.path / "vm",
        image=GuestImage(guest_directory(), options.image_form.value),
        machine=machine_of(options.rootfs_driver),
        memory_mib=options.memory_mib,
        cpus=options.cpus,
        shared_fs=options.shared_fs.value,
        share_dir=share.shared,
        scsi=options.rootfs_driver is RootfsDriver.VIRTIO_SCSI,
        cold_disks=cold_disks(options.rootfs_driver, rootfs),
        network=options.network.value,
        published_ports=options.ports,
        kernel_params=tuple(words),
    )


def machine_of(driver: RootfsDriver) -> Machine:
    """virtio-mmio disks exist on microvm alone; everything else wants PCI."""
    return "microvm" if driver is RootfsDriver.VIRTIO_MMIO else "q35"


def cold_disks(driver: RootfsDriver, rootfs: PreparedRootfs) -> tuple[Disk, ...]:
    """The disks that must be there at power-on: microvm takes none later."""
    if driver is RootfsDriver.VIRTIO_MMIO and isinstance(rootfs.rootfs, BlockRootfs):
        return (Disk(ROOT_DISK, rootfs.rootfs.image, rootfs.rootfs.format),)
    return ()


def block_driver_of(driver: RootfsDriver) -> str:
    """How block devices among the volumes are plugged in."""
    return driver.value if driver is RootfsDriver.VIRTIO_SCSI else RootfsDriver.VIRTIO_BLK.value


def container_config(sandbox: Sandbox, options: RunOptions, rootfs: PreparedRootfs) -> ContainerConfig:
    """The container of a run, with the three files that name hosts."""
    return ContainerConfig(
        container_id=sandbox.id,
        rootfs=rootfs.rootfs,
        args=options.command,
        environment=dict(item.split("=", 1) for item in options.env),
        cwd=options.workdir or "/",
        user=options.user,
        passwd=rootfs.passwd,
        group=rootfs.group,
        terminal=options.tty,
        hostname=hostname_of(sandbox, options),
        # The first process of a pid namespace is deaf to every signal it has no handler for, SIGKILL
        # from inside included (pid_namespaces(7)). Behind a pause process the command is not the first:
        # Ctrl-C ends it, and `kill -9 $$` gives 137.
        share_pid_namespace=True,
        mounts=(*name_mounts(sandbox.path, options.mounts), *options.mounts),
    )


def hostname_of(sandbox: Sandbox, options: RunOptions) -> str:
    """The host name asked for, or the beginning of the id."""
    return network.guest_hostname(options.hostname or sandbox.id[:12])


def name_files(sandbox: Sandbox, options: RunOptions) -> dict[str, str]:
    """The texts of /etc/hostname, hosts and resolv.conf, by their names."""
    name = hostname_of(sandbox, options)
    return {
        "hostname": f"{name}\n",
        "hosts": network.hosts_file(name, options.network.value),
        "resolv.conf": network.resolv_conf(options.network.value),
    }


def name_mounts(directory: Path, own: tuple[Mount, ...]) -> list[Mount]:
    """The mounts that bring those files into the container, unless the user mounts something there."""
    taken = {mount.destination.rstrip("/") for mount in own}
    return [
        Mount(f"/etc/{name}", str(directory / "etc" / name), "bind", ("rbind", "rprivate"))
        for name in ("hostname", "hosts", "resolv.conf")
        if not taken & {f"/etc/{name}", "/etc"}
    ]

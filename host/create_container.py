"""Make a container in a sandbox: everything it needs on the host first, then the one request.

What is done on the host is remembered as it is done. If a later step fails, the request above all,
or the caller is cancelled, it is undone in reverse and nothing is left.
"""

from __future__ import annotations

import os
import secrets
import stat
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, cast

from google.protobuf.message import Message

from host.agent_messages import AgentCalls, fill_message
from host.container_config import (
    SHM_SIZE_BYTES,
    BlockRootfs,
    ContainerConfig,
    HostDevice,
    Mount,
    SharedRootfs,
    check_identifier,
)
from host.copy_files import copy_files_to_guest
from host.errors import HostError, InvalidInput
from host.linux_mount import read_mountinfo
from host.oci_spec import (
    OciDevice,
    OciSpec,
    constrain_spec,
    default_spec,
    hugepage_limits,
    mount_document,
    spec_mounts,
    take_pid_namespace,
)
from host.share import (
    DIRECTORY_MODE,
    GUEST_SHARED_DIR,
    SharedPath,
    bind_mount_container_rootfs,
    is_block_device,
    is_system_mount,
    mount_shared_dir_mounts,
)
from host.storages import (
    GUEST_STORAGE_DIR,
    GuestDevice,
    Storage,
    classify_empty_dirs,
    handle_ephemeral_storage,
    handle_hugepages,
    handle_local_storage,
    handle_shm,
    rootfs_storage,
    storage_driver,
)
from host.undo import UndoStack
from host.vm.disks import BlockDriver, Disk, PluggedDisk


class BlockBus(Protocol):
    """The part of a machine that takes disks (`host.vm.Vm`)."""

    async def plug_block(self, disk: Disk, driver: BlockDriver) -> PluggedDisk:
        """Plug `disk` in. Raises HostError."""

    async def unplug(self, disk_id: str) -> None:
        """Take a disk out again; one that is not there is left alone. Raises HostError."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What a container has to know of the sandbox it is made in.

    `share` is None if the VM shares no directory; `block_driver` serves volumes and devices that are
    block devices of the host's.
    """

    id: str
    share: SharedPath | None
    bus: BlockBus
    shm_size: int = SHM_SIZE_BYTES
    block_driver: str = "virtio-scsi"


@dataclass(frozen=True, slots=True)
class CreatedContainer:
    """A container that the agent has made, and the way to take away what the host did for it."""

    id: str
    undo: UndoStack

    async def release(self) -> None:
        """Unmount and unplug what the container had. Safe to call twice; what fails is logged."""
        await self.undo.run()


async def create_container(client: AgentCalls, sandbox: Sandbox, config: ContainerConfig) -> CreatedContainer:
    """Make `config`'s container in `sandbox`, through the agent that `client` speaks to.

    Raises HostError for what goes wrong on the host, AgentCallError for what the agent refuses.
    After any failure the host's side is what it was before.
    """
    check_identifier("container", config.container_id)
    spec = default_spec(config)
    undo = UndoStack()
    try:
        request = await _prepare(client, sandbox, config, spec, undo)
        await client.call("CreateContainer", request)
    except BaseException:  # a cancelled caller leaves nothing behind either
        await undo.run()
        raise
    return CreatedContainer(config.container_id, undo)


async def build_container_rootfs(
    sandbox: Sandbox, container_id: str, rootfs: BlockRootfs, undo: UndoStack
) -> Storage:
    """Plug a root filesystem's disk in, and the storage by which the guest mounts it.

    Raises HostError: an unknown driver, or a disk that was plugged in by another one.
    """
    word = storage_driver(rootfs.driver)
    plugged = rootfs.plugged or await _plug(
        sandbox, Disk(_disk_id(), rootfs.image, rootfs.format), rootfs.driver, undo
    )
    if plugged.driver != word:
        raise InvalidInput(f"malformed block drive: {plugged.driver} instead of {word}")
    if sandbox.share is not None:
        # The share is read-only for the guest: the directory to mount on must be there already.
        _make_directories(sandbox.share.mounts, Path(container_id, rootfs.suffix), undo)
    mount_point = os.path.normpath(os.path.join(GUEST_SHARED_DIR, container_id))
    return rootfs_storage(plugged.driver, plugged.source, rootfs.fstype, mount_point)


async def handle_devices(
    sandbox: Sandbox, devices: Iterable[HostDevice], undo: UndoStack
) -> tuple[list[GuestDevice], list[OciDevice]]:
    """Plug in the block devices that a container asks for.

    Returns what the agent is to find, and the nodes of the OCI specification with the host's
    numbers. Raises HostError: not a block device, or it cannot be plugged in.
    """
    guest_devices, nodes = [], []
    for device in devices:
        numbers = _block_device_numbers(device.host_path)
        disk = Disk(_disk_id(), device.host_path.resolve(), read_only=device.read_only)
        plugged = await _plug(sandbox, disk, sandbox.block_driver, undo)
        guest_devices.append(GuestDevice.on_disk(plugged.driver, plugged.source, device.container_path))
        nodes.append(OciDevice(device.container_path, "b", *numbers))
    return guest_devices, nodes


async def handle_block_volumes(
    sandbox: Sandbox, mounts: Iterable[Mount], undo: UndoStack
) -> tuple[list[Mount], list[Storage]]:
    """Plug in the block devices that are the sources of bind mounts; the container binds their nodes."""
    changed, storages = [], []
    for entry in mounts:
        if not _is_block_volume(entry):
            changed.append(entry)
            continue
        disk = Disk(_disk_id(), Path(entry.source).resolve(), read_only=entry.is_read_only)
        plugged = await _plug(sandbox, disk, sandbox.block_driver, undo)
        place = f"{GUEST_STORAGE_DIR}/{uuid.uuid4()}-{os.path.basename(os.path.normpath(entry.source))}"
        storages.append(Storage(plugged.driver, plugged.source, "bind", place, entry.options or ("bind",)))
        changed.append(entry.from_guest(place))
    return changed, storages


async def _prepare(
    client: AgentCalls, sandbox: Sandbox, config: ContainerConfig, spec: OciSpec, undo: UndoStack
) -> Message:
    """Do the host's part and build the request. The storages' order is that of Kata's hosts."""
    _refuse_known_container(sandbox, config.container_id)
    suffix = config.rootfs.suffix if isinstance(config.rootfs, BlockRootfs) else "rootfs"
    storages = await _rootfs(sandbox, config, undo)
    mounts, mount_storages = await _mounts(client, sandbox, config.container_id, spec, undo)
    mounts, local_storages = handle_local_storage(mounts, sandbox.id, suffix)
    devices, nodes = await handle_devices(sandbox, config.devices, undo)
    mounts, volumes = await handle_block_volumes(sandbox, mounts, undo)

    spec["mounts"] = [mount_document(entry) for entry in mounts]
    spec["linux"]["devices"] = [node.document() for node in nodes]
    spec["root"]["path"] = os.path.join(GUEST_SHARED_DIR, config.container_id, suffix).rstrip("/")
    spec, shares_pid_namespace = take_pid_namespace(spec)
    messages = client.messages
    storages += [*mount_storages, *local_storages, *volumes]
    return messages.CreateContainerRequest(
        container_id=config.container_id,
        exec_id=config.container_id,
        storages=[storage.message(messages) for storage in storages],
        devices=[device.message(messages) for device in devices],
        OCI=fill_message(messages.Spec(), constrain_spec(spec)),
        sandbox_pidns=shares_pid_namespace or config.share_pid_namespace,
    )


async def _rootfs(sandbox: Sandbox, config: ContainerConfig, undo: UndoStack) -> list[Storage]:
    rootfs = config.rootfs
    if isinstance(rootfs, BlockRootfs):
        return [await build_container_rootfs(sandbox, config.container_id, rootfs, undo)]
    bind = bind_mount_container_rootfs(_share(sandbox, rootfs), config.container_id, rootfs.path)
    undo.push(f"unmount {bind.destination}", bind.release)
    return []


async def _mounts(
    client: AgentCalls, sandbox: Sandbox, container_id: str, spec: OciSpec, undo: UndoStack
) -> tuple[list[Mount], list[Storage]]:
    """The container's mounts as the guest sees them, and the storages that those in memory need."""
    table = read_mountinfo()
    mounts = classify_empty_dirs(spec_mounts(spec), table)
    places = await _bring_to_guest(client, sandbox, container_id, mounts, undo)
    mounts = handle_shm(mounts, sandbox.shm_size)
    mounts, ephemeral = handle_ephemeral_storage(mounts, fs_group=_groups_of(mounts))
    mounts, hugepages = handle_hugepages(mounts, table, hugepage_limits(spec))
    mounts = [
        replace(entry, source=places[entry.destination]) if entry.destination in places else entry
        for entry in mounts
    ]
    return mounts, [*ephemeral, *hugepages]


async def _bring_to_guest(
    client: AgentCalls, sandbox: Sandbox, container_id: str, mounts: Sequence[Mount], undo: UndoStack
) -> Mapping[str, str]:
    """Where in the guest the host's files and directories are found, by the mounts' destinations."""
    if sandbox.share is None:
        return await copy_files_to_guest(client, container_id, mounts)
    shared = mount_shared_dir_mounts(sandbox.share, container_id, mounts, undo)
    return {one.mount.destination: one.guest_path for one in shared}


async def _plug(sandbox: Sandbox, disk: Disk, driver: str, undo: UndoStack) -> PluggedDisk:
    if driver not in ("virtio-blk", "virtio-scsi"):
        storage_driver(driver)  # an unknown name is told apart from one that cannot be hot-plugged
        raise HostError(f"a disk cannot be plugged in by {driver}", "give it to the VM at power-on")
    plugged = await sandbox.bus.plug_block(disk, cast(BlockDriver, driver))
    undo.push(f"unplug {disk.path}", lambda: sandbox.bus.unplug(plugged.disk_id))
    return plugged


def _share(sandbox: Sandbox, rootfs: SharedRootfs) -> SharedPath:
    if sandbox.share is None:
        raise HostError(
            f"{rootfs.path} cannot reach the guest: the sandbox shares no directory",
            "put the root filesystem on a disk",
        )
    return sandbox.share


def _refuse_known_container(sandbox: Sandbox, container_id: str) -> None:
    if sandbox.share is not None and (sandbox.share.mounts / container_id).exists():
        raise InvalidInput(
            f"sandbox {sandbox.id} has a container {container_id} already", "choose another id"
        )


def _groups_of(mounts: Iterable[Mount]) -> dict[str, int]:
    """The owning groups of the ephemeral mounts' directories on the host; a name alone has none."""
    groups = {}
    for entry in mounts:
        if entry.type == "ephemeral" and os.path.isabs(entry.source) and os.path.exists(entry.source):
            groups[entry.source] = os.stat(entry.source).st_gid
    return groups


def _is_block_volume(entry: Mount) -> bool:
    return entry.type == "bind" and not is_system_mount(entry.source) and is_block_device(entry.source)


def _block_device_numbers(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise InvalidInput(f"there is no device {path}: {error.strerror}") from error
    if not stat.S_ISBLK(status.st_mode):
        raise InvalidInput(f"{path} is no block device", "only block devices can be given to a container")
    return os.major(status.st_rdev), os.minor(status.st_rdev)


def _disk_id() -> str:
    return f"d-{secrets.token_hex(8)}"


def _make_directories(base: Path, relative: Path, undo: UndoStack) -> None:
    for step in range(1, len(relative.parts) + 1):
        directory = base.joinpath(*relative.parts[:step])
        directory.mkdir(mode=DIRECTORY_MODE)
        undo.push(f"remove {directory}", _removal(directory))


def _removal(directory: Path) -> Callable[[], None]:
    return lambda: directory.rmdir()

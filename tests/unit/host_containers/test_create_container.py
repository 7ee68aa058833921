"""The CreateContainer request, and what is left of the host's part when it fails."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from host import create_container as module
from host import share as share_module
from host.container_config import BlockRootfs, ContainerConfig, HostDevice, Mount, SharedRootfs
from host.create_container import Sandbox, create_container
from host.errors import HostError, InvalidInput
from host.share import SharedPath
from host.vm.disks import PluggedDisk
from protos import kata1, kata2
from tests.fakes.host_sandbox import RecordingAgent, RecordingBus

GUEST_SHARE = "/run/kata-containers/shared/containers/"


def config(rootfs: BlockRootfs | SharedRootfs | None = None, **changes: Any) -> ContainerConfig:
    """A container on a disk of its own, unless `rootfs` says otherwise."""
    disk = BlockRootfs(Path("/images/root.ext4"), "ext4", "virtio-scsi")
    return replace(ContainerConfig("container-1", rootfs or disk, ("true",)), **changes)


@pytest.fixture
def share(tmp_path: Path) -> SharedPath:
    """A share of plain directories: good for what needs no mount."""
    paths = SharedPath.of(tmp_path / "sandbox")
    paths.mounts.mkdir(parents=True)
    return paths


@pytest.mark.parametrize("messages", [kata1, kata2], ids=["kata1", "kata2"])
async def test_request_for_a_container_on_a_disk(messages: ModuleType) -> None:
    agent, bus = RecordingAgent(messages=messages), RecordingBus()
    created = await create_container(agent, Sandbox("sandbox-1", None, bus), config())
    request = agent.request
    assert (request.container_id, request.exec_id) == ("container-1", "container-1")
    (storage,) = request.storages
    assert (storage.driver, storage.source, storage.fstype) == ("scsi", "0:1", "ext4")
    assert storage.mount_point == request.OCI.Root.Path == f"{GUEST_SHARE}container-1"
    assert request.OCI.Linux.HasField("Resources")
    assert {entry.Type for entry in request.OCI.Linux.Namespaces} == {"mount", "uts", "ipc"}
    assert not request.sandbox_pidns
    (disk,) = bus.plugged.values()
    assert (disk.path, disk.format, disk.read_only) == (Path("/images/root.ext4"), "raw", False)
    await created.release()
    await created.release()
    assert bus.history == ["plug root.ext4", "unplug root.ext4"]


@pytest.mark.parametrize(
    ("driver", "plugged", "storage"),
    [
        ("virtio-blk", None, ("blk", "02/01")),
        ("virtio-blk", PluggedDisk("d", "blk", "/dev/vdb"), ("blk", "/dev/vdb")),
        ("virtio-mmio", PluggedDisk("d", "mmioblk", "/dev/vda"), ("mmioblk", "/dev/vda")),
        ("virtio-blk-ccw", PluggedDisk("d", "blk-ccw", "0.0.0005"), ("blk-ccw", "0.0.0005")),  # type: ignore[arg-type]  # no machine here plugs ccw
        ("virtio-scsi", None, ("scsi", "0:1")),
    ],
)
async def test_root_filesystem_by_driver(
    driver: str, plugged: PluggedDisk | None, storage: tuple[str, str], share: SharedPath
) -> None:
    agent = RecordingAgent()
    rootfs = BlockRootfs(Path("/i"), "xfs", driver, plugged=plugged, suffix="rootfs")
    created = await create_container(agent, Sandbox("sandbox-1", share, RecordingBus()), config(rootfs))
    (sent,) = agent.request.storages
    assert (sent.driver, sent.source) == storage
    assert list(sent.options) == ["nouuid"]
    assert sent.mount_point == f"{GUEST_SHARE}container-1"
    assert agent.request.OCI.Root.Path == f"{GUEST_SHARE}container-1/rootfs"
    # The guest cannot make the mount point: the share is read-only at its top.
    assert (share.mounts / "container-1/rootfs").stat().st_mode & 0o777 == 0o750
    await created.release()
    assert list(share.mounts.iterdir()) == []


@pytest.mark.parametrize(
    ("rootfs", "complaint"),
    [
        (BlockRootfs(Path("/i"), "ext4", "nvme"), "^Unknown block device driver: nvme"),
        (BlockRootfs(Path("/i"), "ext4", "virtio-mmio"), "cannot be plugged in by virtio-mmio"),
        (
            BlockRootfs(Path("/i"), "ext4", "virtio-blk", plugged=PluggedDisk("d", "scsi", "0:0")),
            "malformed block drive: scsi instead of blk",
        ),
        (SharedRootfs(Path("/")), "the sandbox shares no directory"),
    ],
)
async def test_root_filesystem_that_cannot_be(rootfs: BlockRootfs | SharedRootfs, complaint: str) -> None:
    agent = RecordingAgent()
    with pytest.raises(HostError, match=complaint):
        await create_container(agent, Sandbox("sandbox-1", None, RecordingBus()), config(rootfs))
    assert agent.calls == []


@pytest.mark.parametrize("failure", [RuntimeError("refused"), asyncio.CancelledError()])
async def test_a_refused_request_leaves_nothing(failure: BaseException, share: SharedPath) -> None:
    def refuse() -> None:
        raise failure

    bus = RecordingBus()
    with pytest.raises(type(failure)):
        await create_container(RecordingAgent(on_call=refuse), Sandbox("s1", share, bus), config())
    assert bus.history == ["plug root.ext4", "unplug root.ext4"]
    assert list(share.mounts.iterdir()) == []


async def test_a_second_container_with_the_same_id_is_refused(share: SharedPath) -> None:
    agent, bus = RecordingAgent(), RecordingBus()
    sandbox = Sandbox("sandbox-1", share, bus)
    await create_container(agent, sandbox, config())
    with pytest.raises(InvalidInput, match="has a container container-1 already"):
        await create_container(agent, sandbox, config())
    assert len(agent.calls) == 1
    assert bus.history == ["plug root.ext4"]
    assert (share.mounts / "container-1").is_dir()


@pytest.mark.parametrize("container_id", ["..", "../x", "/etc", "a b", ""])
async def test_ids_that_lead_elsewhere_are_refused(container_id: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be a container id"):
        await create_container(
            RecordingAgent(), Sandbox("s1", None, RecordingBus()), config(container_id=container_id)
        )


async def test_storages_come_in_katas_order_and_mounts_show_the_guests_paths() -> None:
    agent = RecordingAgent()
    mounts = (
        Mount("/local", "/pods/kubernetes.io~empty-dir/disk", "bind", ("rbind",)),
        Mount("/cache", "cache", "ephemeral", ("size=1m",)),
    )
    await create_container(agent, Sandbox("sandbox-1", None, RecordingBus()), config(mounts=mounts))
    assert [storage.driver for storage in agent.request.storages] == ["scsi", "ephemeral", "local"]
    sources = {entry.destination: (entry.type, entry.source) for entry in agent.request.OCI.Mounts}
    assert sources["/cache"] == ("bind", "/run/kata-containers/sandbox/ephemeral/cache")
    assert sources["/local"] == ("bind", f"{GUEST_SHARE}sandbox-1/local/disk")
    assert sources["/dev/shm"] == ("bind", "/run/kata-containers/sandbox/shm")


async def test_files_are_copied_to_a_guest_that_shares_nothing(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * ((1 << 20) + 5))
    (tmp_path / "empty").touch(mode=0o640)
    mounts = tuple(Mount(f"/etc/{name}", f"{tmp_path}/{name}", "bind") for name in ("large", "empty"))
    agent = RecordingAgent()
    await create_container(agent, Sandbox("s1", None, RecordingBus()), config(mounts=mounts))
    first, second, empty = (request for method, request in agent.calls if method == "CopyFile")
    assert [(r.offset, len(r.data), r.file_size) for r in (first, second, empty)] == [
        (0, 1 << 20, (1 << 20) + 5),
        (1 << 20, 5, (1 << 20) + 5),
        (0, 0, 0),
    ]
    assert first.path == second.path
    assert first.path.startswith(f"{GUEST_SHARE}container-1-")
    assert (empty.file_mode, empty.dir_mode) == (0o100640, 0x800001E8)
    method, request = agent.calls[-1]
    assert method == "CreateContainer"
    sources = {entry.destination: entry.source for entry in request.OCI.Mounts}
    assert (sources["/etc/large"], sources["/etc/empty"]) == (first.path, empty.path)


async def test_a_directory_cannot_be_copied_to_a_guest_that_shares_nothing(tmp_path: Path) -> None:
    bus = RecordingBus()
    mounts = (Mount("/data", str(tmp_path), "bind"),)
    with pytest.raises(HostError, match="cannot be copied into the guest"):
        await create_container(RecordingAgent(), Sandbox("s1", None, bus), config(mounts=mounts))
    assert bus.plugged == {}


async def test_shared_pid_namespace_is_a_word_of_the_request() -> None:
    agent = RecordingAgent()
    await create_container(agent, Sandbox("s1", None, RecordingBus()), config(share_pid_namespace=True))
    assert agent.request.sandbox_pidns


async def test_what_is_no_block_device_is_no_device(tmp_path: Path) -> None:
    for path, complaint in ((tmp_path / "absent", "there is no device"), (tmp_path, "is no block device")):
        bus = RecordingBus()
        with pytest.raises(InvalidInput, match=complaint):
            await create_container(
                RecordingAgent(), Sandbox("s1", None, bus), config(devices=(HostDevice(path, "/dev/x"),))
            )
        assert bus.plugged == {}


async def test_devices_and_block_volumes_are_plugged_in_and_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_block_device_numbers", lambda path: (8, 16))
    for place in (module, share_module):
        monkeypatch.setattr(place, "is_block_device", lambda path: os.fspath(path) == "/images/volume")
    agent, bus = RecordingAgent(), RecordingBus()
    created = await create_container(
        agent,
        Sandbox("s1", None, bus, block_driver="virtio-blk"),
        config(
            devices=(HostDevice(Path("/images/dev"), "/dev/xvdb", read_only=True),),
            mounts=(Mount("/dev/vol", "/images/volume", "bind", ("rbind", "ro")),),
        ),
    )
    (device,) = agent.request.devices
    assert (device.type, device.id, device.container_path) == ("blk", "02/02", "/dev/xvdb")
    (node,) = agent.request.OCI.Linux.Devices
    assert (node.Path, node.Type, node.Major, node.Minor) == ("/dev/xvdb", "b", 8, 16)
    volume = agent.request.storages[-1]
    assert (volume.driver, volume.source, volume.fstype) == ("blk", "02/03", "bind")
    assert list(volume.options) == ["rbind", "ro"]
    (mount,) = [entry for entry in agent.request.OCI.Mounts if entry.destination == "/dev/vol"]
    assert mount.source == volume.mount_point
    assert [disk.read_only for disk in bus.plugged.values()] == [False, True, True]
    await created.release()
    assert bus.history[3:] == ["unplug volume", "unplug dev", "unplug root.ext4"]


async def test_a_bus_that_is_full_gives_back_what_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_block_device_numbers", lambda path: (8, 16))
    bus = RecordingBus(refuse_after=1)
    with pytest.raises(HostError, match="the bus is full"):
        await create_container(
            RecordingAgent(),
            Sandbox("s1", None, bus),
            config(devices=(HostDevice(Path("/images/dev"), "/dev/xvdb"),)),
        )
    assert bus.history == ["plug root.ext4", "unplug root.ext4"]

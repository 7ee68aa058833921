"""Volumes on the real agent: really grown, really remounted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.disks import loop_device, make_image
from tests.privileged.agents import Host, agent_process, host_of, mount_table

MIB = 1 << 20
SIZES = {"ext4": 16 * MIB, "xfs": 300 * MIB}
SHARE = Path("/run/kata-containers/shared/containers")
VOLUME = "/run/kata-containers/sandbox/ephemeral/volume"

KINDS = pytest.mark.parametrize("fstype", ["ext4", "xfs"])


@pytest.fixture
async def host(busybox_rootfs: Path, run_dir: Path) -> AsyncIterator[Host]:
    with agent_process(run_dir) as agent:
        async with host_of(agent, "ttrpc", busybox_rootfs) as host:
            yield host


class Volume:
    """A filesystem on a loop device whose image can be enlarged, as a host enlarges a disk."""

    def __init__(self, image: Path, node: str, mount_point: Path) -> None:
        self.image = image
        self.node = node
        self.path = mount_point

    def enlarge(self, size_bytes: int) -> None:
        os.truncate(self.image, size_bytes)

    def tell_kernel(self) -> None:
        subprocess.run(["losetup", "--set-capacity", self.node], check=True)

    def make_read_only(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", str(self.path)], check=True)

    @property
    def size_bytes(self) -> int:
        status = os.statvfs(self.path)
        return status.f_blocks * status.f_frsize


@contextlib.contextmanager
def mounted(directory: Path, fstype: str, *options: str) -> Iterator[Volume]:
    image = make_image(directory / f"{fstype}.img", fstype)
    point = directory / f"on-{fstype}"
    point.mkdir()
    with loop_device(image) as node:
        words = ",".join([*options, *(["nouuid"] if fstype == "xfs" else [])]) or "defaults"
        subprocess.run(["mount", "-t", fstype, "-o", words, node, str(point)], check=True)
        try:
            (point / "kept").write_text("kept")
            yield Volume(image, node, point)
        finally:
            subprocess.run(["umount", str(point)], check=True)


def may(capability: int) -> bool:
    """Whether this process has a capability, by its number in <linux/capability.h>."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if "CapEff" in line]
    return bool(int(line.split()[1], 16) >> capability & 1)


CAP_SYS_RESOURCE = 24


@KINDS
async def test_a_volume_grows_while_in_use(host: Host, tmp_path: Path, fstype: str) -> None:
    """To a size first, then to all that its disk has; then there is nothing left to do.

    ext4 wants CAP_SYS_RESOURCE for it (fs/ext4/resize.c), which root of a container may lack: then
    the refusal is told, and nothing has changed.
    """
    if fstype == "ext4" and not may(CAP_SYS_RESOURCE):
        await check_refusal_to_grow(host, tmp_path)
        return
    first, all_of_it = SIZES[fstype] * 2, SIZES[fstype] * 3
    with mounted(tmp_path, fstype) as volume, (volume.path / "open").open("w") as file:
        before = volume.size_bytes
        volume.enlarge(all_of_it)
        volume.tell_kernel()
        await host.call("ResizeVolume", volume_guest_path=str(volume.path), size=first)
        middle = volume.size_bytes
        assert before * 1.5 < middle <= first
        for _ in range(2):
            await host.call("ResizeVolume", volume_guest_path=str(volume.path / "kept"))
            assert first < volume.size_bytes <= all_of_it
        file.write("still writable")
        assert (volume.path / "kept").read_text() == "kept"


async def check_refusal_to_grow(host: Host, tmp_path: Path) -> None:
    with mounted(tmp_path, "ext4") as volume:
        before = volume.size_bytes
        volume.enlarge(32 * MIB)
        volume.tell_kernel()
        path = str(volume.path)
        code, message = await host.refused("ResizeVolume", volume_guest_path=path, size=32 * MIB)
        assert (code, "Permission denied to resize filesystem" in message) == (13, True)
        assert volume.size_bytes == before
        await host.call("ResizeVolume", volume_guest_path=path, size=16 * MIB)  # which it has already
        assert volume.size_bytes == before


async def test_a_disk_that_is_still_growing_is_awaited(host: Host, tmp_path: Path) -> None:
    with mounted(tmp_path, "xfs") as volume:
        before = volume.size_bytes
        resizing = asyncio.create_task(
            host.call("ResizeVolume", volume_guest_path=str(volume.path), size=600 * MIB)
        )
        await host.call("Check")  # the other call is on its way before this one's answer is
        volume.enlarge(600 * MIB)
        volume.tell_kernel()
        await resizing
        assert volume.size_bytes > before * 1.5


async def test_a_disk_that_stays_too_small(host: Host, tmp_path: Path) -> None:
    with mounted(tmp_path, "ext4") as volume:
        before = volume.size_bytes
        code, message = await host.refused("ResizeVolume", volume_guest_path=str(volume.path), size=32 * MIB)
        assert (code, f"has {16 * MIB} bytes and not {32 * MIB}" in message) == (13, True)
        assert volume.size_bytes == before


@KINDS
async def test_nothing_shrinks(host: Host, tmp_path: Path, fstype: str) -> None:
    with mounted(tmp_path, fstype) as volume:
        before = volume.size_bytes
        code, message = await host.refused("ResizeVolume", volume_guest_path=str(volume.path), size=MIB)
        assert (code, "cannot shrink" in message) == (3, True)
        assert volume.size_bytes == before


async def test_what_cannot_grow(host: Host, tmp_path: Path) -> None:
    code, message = await host.refused("ResizeVolume", volume_guest_path="/run", size=MIB)
    assert (code, "type tmpfs does not grow" in message) == (12, True)
    code, message = await host.refused("ResizeVolume", volume_guest_path=f"{tmp_path}/missing", size=MIB)
    assert (code, "ENOENT" in message) == (13, True)
    assert (await host.refused("ResizeVolume", size=MIB))[0] == 3
    with mounted(tmp_path, "ext4") as volume:
        volume.make_read_only()
        volume.enlarge(32 * MIB)
        volume.tell_kernel()
        code, message = await host.refused("ResizeVolume", volume_guest_path=str(volume.path))
        assert (code, "resize2fs" in message) == (13, True)


async def test_how_full_a_volume_is(host: Host, tmp_path: Path) -> None:
    with mounted(tmp_path, "ext4") as volume:
        (volume.path / "data").write_bytes(b"x" * MIB)
        answer = await host.call("GetVolumeStats", volume_guest_path=str(volume.path))
        status = os.statvfs(volume.path)
        size, inodes = answer.usage
        assert (size.unit, inodes.unit) == (1, 2)
        assert size.total == status.f_blocks * status.f_frsize
        assert size.available == status.f_bfree * status.f_frsize
        assert size.used == size.total - size.available > MIB
        assert (inodes.total, inodes.available) == (status.f_files, status.f_ffree)
        assert inodes.used == inodes.total - inodes.available
        assert (answer.volume_condition.abnormal, answer.volume_condition.message) == (False, "OK")


async def test_volumes_that_are_not_there(host: Host, run_dir: Path) -> None:
    code, message = await host.refused("GetVolumeStats", volume_guest_path="/missing")
    assert (code, "/missing failed: No such file" in message) == (13, True)
    assert (await host.refused("GetVolumeStats"))[0] == 3
    os.mkfifo(run_dir / "fifo")
    answer = await host.call("GetVolumeStats", volume_guest_path=str(run_dir / "fifo"))
    assert answer.usage[0].total > 0  # and nobody has waited for its other end


def ephemeral(mount_point: str = VOLUME, *options: str, **fields: Any) -> dict[str, Any]:
    return {
        "driver": "ephemeral",
        "source": "tmpfs",
        "fstype": "tmpfs",
        "mount_point": mount_point,
        "options": options,
        **fields,
    }


def size_of(path: str) -> int:
    status = os.statvfs(path)
    return status.f_blocks * status.f_frsize


def options_at(path: str) -> set[str]:
    (line,) = [line for line in mount_table() if line.split()[4] == path]
    return set(line.split()[5].split(","))


async def test_k6417_k2438_k3765_a_volume_in_memory_gets_another_size(host: Host) -> None:
    """It keeps what lies in it and how it is mounted, and is mounted once."""
    storage = ephemeral(VOLUME, "nosuid", "nodev", "noexec", "size=1048576")
    await host.call("CreateSandbox", sandbox_id="s1", storages=[storage])
    Path(VOLUME, "kept").write_text("kept")
    before = options_at(VOLUME)
    await host.call("UpdateEphemeralMounts", storages=[ephemeral(VOLUME, "remount", "size=8M", "fsgid=1000")])
    assert size_of(VOLUME) == 8 * MIB
    assert Path(VOLUME, "kept").read_text() == "kept"
    assert options_at(VOLUME) == before >= {"nosuid", "nodev", "noexec"}
    await host.call("UpdateEphemeralMounts", storages=[ephemeral(VOLUME)])
    await host.call("UpdateEphemeralMounts")
    assert size_of(VOLUME) == 8 * MIB


async def test_an_update_changes_all_or_nothing(host: Host) -> None:
    other = f"{VOLUME}-2"
    storages = [ephemeral(VOLUME, "size=1M"), ephemeral(other, "size=4M")]
    await host.call("CreateSandbox", sandbox_id="s1", storages=storages)
    Path(other, "data").write_bytes(b"x" * 2 * MIB)
    bad: dict[str, tuple[int, dict[str, Any]]] = {
        "is used beyond that": (13, ephemeral(other, "size=1M")),
        "no such option": (13, ephemeral(other, "colour=red")),
        "not mounted": (13, ephemeral("/run/kata-containers/nowhere", "size=1M")),
        "a directory in it": (13, ephemeral(f"{VOLUME}/kept", "size=1M")),
        "outside": (13, ephemeral("/run", "size=1M")),
        "another driver": (13, ephemeral(other, "size=1M", driver="local")),
    }
    for name, (code, storage) in bad.items():
        storages = [ephemeral(VOLUME, "remount", "size=2M"), storage]
        assert (await host.refused("UpdateEphemeralMounts", storages=storages))[0] == code, name
        assert (size_of(VOLUME), size_of(other)) == (MIB, 4 * MIB), name


@contextlib.contextmanager
def tmpfs_at(path: Path) -> Iterator[None]:
    path.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)
        path.rmdir()


async def test_stale_shares_are_looked_at(host: Host) -> None:
    with tmpfs_at(SHARE / "c1"), tmpfs_at(SHARE / "c1/below"):
        await host.call("RemoveStaleVirtiofsShareMounts")
    await host.call("RemoveStaleVirtiofsShareMounts")

"""Storages on the real kernel: real disks, a real mount table, and both as they were afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agent.errors import AgentError, DeviceTimeout, InvalidRequest, KernelRefused
from agent.linux.mount import mount, umount
from agent.storage.handler import FsGroup
from agent.storage.mount_options import MountOptions
from tests.fakes.disks import loop_device, make_image
from tests.privileged.storages import Kata, guest_below


@pytest.fixture
async def kata(run_dir: Path) -> AsyncIterator[Kata]:
    async with guest_below(run_dir) as kata:
        yield kata


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[str]:
    with loop_device(make_image(tmp_path / "ext4.img", "ext4")) as node:
        yield node


@pytest.mark.parametrize("fstype", ["ext4", "xfs"])
async def test_a_disk_keeps_what_is_written_to_it(kata: Kata, tmp_path: Path, fstype: str) -> None:
    options = ("nouuid",) if fstype == "xfs" else ()
    with loop_device(make_image(tmp_path / "image", fstype)) as node:
        request = kata.request("blk", node, fstype, "sandbox/storage/disk", "noatime", *options)
        async with contextlib.AsyncExitStack() as stack:
            await kata.attach(stack, request)
            entry = kata.entry("sandbox/storage/disk")
            assert (entry.fstype, entry.source) == (fstype, node)
            assert "noatime" in entry.options
            (kata.root / "sandbox/storage/disk/hello").write_text("again")
        assert list(kata.root.iterdir()) == []
        async with contextlib.AsyncExitStack() as stack:
            await kata.attach(stack, kata.request("mmioblk", node, fstype, "other", "ro", *options))
            assert (kata.root / "other/hello").read_text() == "again"
            assert kata.entry("other").read_only


async def test_a_tmpfs_honours_all_its_options(kata: Kata) -> None:
    options = ("noexec", "nosuid", "nodev", "mode=0750", "size=1048576", "fsgid=321")
    async with contextlib.AsyncExitStack() as stack:
        await kata.attach(stack, kata.tmpfs("sandbox/shm", *options))
        entry = kata.entry("sandbox/shm")
        assert {"noexec", "nosuid", "nodev"} <= set(entry.options)
        assert "size=1024k" in entry.super_options
        status = (kata.root / "sandbox/shm").stat()
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o2750, 321)
        with pytest.raises(OSError, match="No space left"):
            (kata.root / "sandbox/shm/big").write_bytes(bytes(2 << 20))


async def test_a_local_directory_has_exactly_its_mode_and_goes_with_its_contents(kata: Kata) -> None:
    mask = os.umask(0o077)
    try:
        async with contextlib.AsyncExitStack() as stack:
            await kata.attach(
                stack, kata.request("local", "local", "local", "a/local", "mode=0777", "fsgid=5")
            )
            status = (kata.root / "a/local").stat()
            assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o2777, 5)
            (kata.root / "a/local/sub").mkdir()
            (kata.root / "a/local/sub/file").touch()
    finally:
        os.umask(mask)
    assert list(kata.root.iterdir()) == []


async def test_a_directory_that_was_there_stays_and_gets_its_mode_back(kata: Kata) -> None:
    (kata.root / "there").mkdir(mode=0o711)
    (kata.root / "there/file").touch()
    async with contextlib.AsyncExitStack() as stack:
        await kata.attach(stack, kata.request("local", "local", "local", "there", "mode=0770", "fsgid=9"))
        assert stat.S_IMODE((kata.root / "there").stat().st_mode) == 0o2770
    status = (kata.root / "there").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o711, 0)
    (kata.root / "there/file").unlink()
    (kata.root / "there").rmdir()


def bind(*words: str) -> MountOptions:
    return MountOptions.parse(words)


@pytest.mark.parametrize("kind", ["directory", "file"])
async def test_a_read_only_bind_refuses_writes_but_its_source_does_not(
    kata: Kata, tmp_path: Path, kind: str
) -> None:
    source = tmp_path / "source"
    if kind == "directory":
        source.mkdir()
    else:
        source.write_text("text")
    (tmp_path / "link").symlink_to("source")
    mounted = await kata.mounts.mount(
        str(tmp_path / "link"), f"{kata.root}/x/bound", "bind", bind("bind", "ro", "nosuid", "rslave")
    )
    entry = kata.entry("x/bound")
    assert {"ro", "nosuid"} <= set(entry.options)
    target = kata.root / "x/bound"
    assert target.is_dir() == (kind == "directory")
    with pytest.raises(OSError, match="Read-only"):
        (target / "new" if kind == "directory" else target).write_text("no")
    (source / "new" if kind == "directory" else source).write_text("yes")
    await mounted.release()
    await mounted.release()


async def test_a_bind_of_a_read_only_source_can_be_made_writable_again(kata: Kata, tmp_path: Path) -> None:
    first = await kata.mounts.mount(str(tmp_path), f"{kata.root}/a", "bind", bind("bind", "ro", "nodev"))
    second = await kata.mounts.mount(f"{kata.root}/a", f"{kata.root}/b", "bind", bind("bind", "rw"))
    assert {"rw", "nodev"} <= set(kata.entry("b").options)
    await second.release()
    await first.release()


async def test_a_recursive_bind_goes_with_what_it_took_along(kata: Kata) -> None:
    async with contextlib.AsyncExitStack() as stack:
        await kata.attach(stack, kata.tmpfs("tree"), kata.tmpfs("tree/below"))
        bound = await kata.mounts.mount(f"{kata.root}/tree", f"{kata.root}/copy", "bind", bind("rbind"))
        assert kata.entry("copy/below").fstype == "tmpfs"
        await bound.release()


async def test_what_was_mounted_over_a_storage_goes_first(kata: Kata) -> None:
    async with contextlib.AsyncExitStack() as stack:
        await kata.attach(stack, kata.tmpfs("a"))
        (kata.root / "a/sub").mkdir()
        for place in ("a", "a"):
            mount("over", str(kata.root / place), "tmpfs")


async def test_only_the_mount_that_was_made_is_unmounted(kata: Kata) -> None:
    mount("foreign", str(kata.root), "tmpfs")
    before = kata.state()
    mounted = await kata.mounts.mount("tmpfs", f"{kata.root}/a", "tmpfs", MountOptions())
    umount(str(kata.root / "a"))
    mount("newer", str(kata.root / "a"), "tmpfs")
    await mounted.release()
    assert kata.entry("a").source == "newer"
    umount(str(kata.root / "a"))
    (kata.root / "a").rmdir()
    assert kata.state() == before
    umount(str(kata.root))


async def test_a_busy_storage_is_told_and_can_be_released_later(kata: Kata) -> None:
    mounted = await kata.mounts.mount("tmpfs", f"{kata.root}/busy", "tmpfs", MountOptions())
    with (kata.root / "busy/open").open("w"):
        with pytest.raises(KernelRefused, match=r"umount .*/busy failed: .*EBUSY"):
            await mounted.release()
        assert kata.entry("busy").fstype == "tmpfs"
    await mounted.release()


DISK = "the test's own disk"
FAILURES = {
    "unknown driver": (("floppy", "x", "ext4"), InvalidRequest, "Unknown storage driver"),
    "a filesystem this kernel has not": (
        ("blk", DISK, "no-such-fs"),
        KernelRefused,
        "no filesystem 'no-such-fs'",
    ),
    "no such disk": (("blk", "/dev/no-disk", "ext4"), InvalidRequest, "no block device"),
    "no disk but a node": (("blk", "/dev/null", "ext4"), InvalidRequest, "no block device"),
    "not a filesystem": (("ephemeral", "tmpfs", "ext4"), InvalidRequest, "neither tmpfs nor"),
    "a disk that never comes": (("mmioblk", "/dev/vdzz", "ext4"), DeviceTimeout, "/dev/vdzz"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_one_failure_takes_back_all(kata: Kata, ext4: str, name: str) -> None:
    (driver, source, fstype), error, text = FAILURES[name]
    source = ext4 if source == DISK else source
    before = kata.state()
    async with contextlib.AsyncExitStack() as stack:
        with pytest.raises(error, match=text):
            await kata.attach(
                stack,
                kata.tmpfs("sandbox/shm"),
                kata.request("blk", ext4, "ext4", "sandbox/shm/disk"),
                kata.request("local", "local", "local", "sandbox/local"),
                kata.request(driver, source, fstype, "sandbox/deep/er/last"),
            )
        assert kata.state() == before
        assert kata.ledger.mount_points() == []


@pytest.mark.parametrize("options", [("no-such-option",), ("data=no-such-mode",)])
async def test_options_that_the_filesystem_refuses(kata: Kata, ext4: str, options: tuple[str, ...]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        with pytest.raises(KernelRefused, match=r"mount -t ext4 /dev/loop\d+ -> .*/disk failed: .*EINVAL"):
            await kata.attach(stack, kata.request("blk", ext4, "ext4", "disk", *options))


async def test_a_mount_point_outside_the_roots(kata: Kata, tmp_path: Path) -> None:
    for path in (str(tmp_path / "x"), f"{kata.root}", f"{kata.root}-not/x", "/etc"):
        with pytest.raises(InvalidRequest, match="outside"):
            await kata.mounts.mount("tmpfs", path, "tmpfs", MountOptions())


@pytest.mark.parametrize("place", ["link", "link/below", "sub/up/below", "file", "file/below"])
async def test_no_link_and_no_file_on_the_way_is_followed(kata: Kata, tmp_path: Path, place: str) -> None:
    (kata.root / "sub").mkdir()
    (kata.root / "file").touch()
    (kata.root / "link").symlink_to(tmp_path)
    (kata.root / "sub/up").symlink_to("..")
    before = kata.state()
    with pytest.raises(InvalidRequest, match="where a directory is needed"):
        await kata.mounts.mount("tmpfs", f"{kata.root}/{place}", "tmpfs", MountOptions())
    with pytest.raises(InvalidRequest, match="where a directory is needed"):
        await kata.mounts.make_directory(f"{kata.root}/{place}", mode=0o777)
    assert kata.state() == before
    assert list(tmp_path.iterdir()) == []
    for name in ("link", "file", "sub/up"):
        (kata.root / name).unlink()
    (kata.root / "sub").rmdir()


async def test_removing_a_local_directory_never_crosses_a_mount(kata: Kata) -> None:
    local = await kata.mounts.make_directory(f"{kata.root}/local", mode=0o777)
    async with contextlib.AsyncExitStack() as stack:
        await kata.attach(stack, kata.tmpfs("local/a/mounted"))
        (kata.root / "local/a/mounted/precious").touch()
        with pytest.raises(KernelRefused, match="removing"):
            await local.release()
        assert (kata.root / "local/a/mounted/precious").exists()
    await local.release()


async def test_directories_go_with_the_last_storage_that_stands_on_them(kata: Kata) -> None:
    first, second = contextlib.AsyncExitStack(), contextlib.AsyncExitStack()
    await kata.attach(first, kata.tmpfs("shared/way/first"))
    await kata.attach(second, kata.tmpfs("shared/way/second"))
    await first.aclose()
    assert [path.name for path in kata.root.rglob("*")] == ["shared", "way", "second"]
    await second.aclose()
    assert list(kata.root.iterdir()) == []


async def test_many_storages_at_once_on_one_way(kata: Kata) -> None:
    async def come_and_go(number: int) -> None:
        for _ in range(5):
            async with contextlib.AsyncExitStack() as stack:
                await kata.attach(stack, kata.tmpfs(f"one/way/{number}", f"size={number + 1}m"))
                assert kata.entry(f"one/way/{number}").fstype == "tmpfs"

    await asyncio.gather(*(come_and_go(number) for number in range(6)))


async def test_a_cancelled_attach_leaves_nothing(kata: Kata) -> None:
    for turns in range(12):
        async with contextlib.AsyncExitStack() as stack:
            attach = asyncio.ensure_future(kata.attach(stack, kata.tmpfs("a"), kata.tmpfs("b")))
            for _ in range(turns):
                await asyncio.sleep(0)
            attach.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await attach
        assert list(kata.root.iterdir()) == []


async def test_a_share_that_was_mounted_before_is_adopted_and_left_alone(kata: Kata) -> None:
    (kata.root / "share").mkdir()
    mount("kataShared", str(kata.root / "share"), "tmpfs")
    before = kata.state()
    async with contextlib.AsyncExitStack() as stack:
        await kata.attach(stack, kata.request("virtio-fs", "kataShared", "virtiofs", "share/"))
        assert kata.state() == before
    assert kata.state() == before
    umount(str(kata.root / "share"))
    (kata.root / "share").rmdir()


@pytest.mark.parametrize(
    ("read_only", "file_mode", "directory_mode"), [(False, 0o660, 0o2770), (True, 0o440, 0o2550)]
)
async def test_a_volume_is_given_to_its_group(
    kata: Kata, tmp_path: Path, read_only: bool, file_mode: int, directory_mode: int
) -> None:
    outside = tmp_path / "outside"
    outside.touch(mode=0o600)
    async with contextlib.AsyncExitStack() as stack:
        await kata.attach(stack, kata.tmpfs("volume", "mode=0000"))
        top = kata.root / "volume"
        (top / "sub/deep").mkdir(parents=True)
        (top / "sub/deep/file").touch()
        (top / "sub/link").symlink_to(outside)
        (top / "sub/directory-link").symlink_to(tmp_path)
        for path in (top / "sub/deep/file", top / "sub/deep", top / "sub"):
            path.chmod(0)
        await kata.mounts.give_to_group(str(top), FsGroup(77, False), read_only=read_only)
        for path, mode in (
            (top, directory_mode),
            (top / "sub/deep", directory_mode),
            (top / "sub/deep/file", file_mode),
        ):
            assert (path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (77, mode)
        assert (outside.stat().st_gid, stat.S_IMODE(outside.stat().st_mode)) == (0, 0o600)
        assert (top / "sub/link").lstat().st_gid == 0
        (top / "late").touch()
        os.chown(top / "late", 0, 0)
        await kata.mounts.give_to_group(str(top), FsGroup(77, True), read_only=read_only)
        assert (top / "late").stat().st_gid == 0, "the root matched, so nothing was walked"


async def test_huge_pages_of_the_running_kernel(kata: Kata) -> None:
    pool = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
    before = pool.read_text()
    request = kata.request("ephemeral", "nodev", "hugetlbfs", "huge", "size=4Mi", "pagesize=2Mi")
    async with contextlib.AsyncExitStack() as stack:
        await kata.attach(stack, request)
        assert {"pagesize=2M", "size=4194304"} <= set(kata.entry("huge").super_options)
        assert int(pool.read_text()) == int(before) + 2
    assert pool.read_text() == before


@pytest.mark.parametrize(
    ("source", "fstype", "options", "text"),
    [
        ("", "tmpfs", (), "need mount source"),
        ("tmpfs", "", (), "need mount FS type"),
        ("tmpfs", "tmpfs", ("remount",), "remount"),
        ("/no/such/source", "bind", ("bind",), "Could not resolve symlink for source /no/such/source"),
        ("relative", "bind", ("bind",), "no absolute path"),
        ("/dev/null", "ext4", (), "no block device"),
    ],
)
async def test_requests_that_make_no_sense(
    kata: Kata, source: str, fstype: str, options: tuple[str, ...], text: str
) -> None:
    with pytest.raises(AgentError, match=text):
        await kata.mounts.mount(source, f"{kata.root}/x", fstype, MountOptions.parse(options))

"""Each driver on a fake guest: which steps it takes, and what it refuses."""

from __future__ import annotations

import pytest

from agent.errors import AgentError, InvalidRequest, KernelRefused, Unsupported
from agent.storage.handler import FsGroup, StorageHandler, StorageRequest
from storage_handlers.blk import VirtioBlkPci
from storage_handlers.blk_ccw import VirtioBlkCcw
from storage_handlers.ephemeral import Ephemeral
from storage_handlers.local import Local
from storage_handlers.mmioblk import VirtioBlkMmio
from storage_handlers.nvdimm import Nvdimm
from storage_handlers.plan9 import Plan9
from storage_handlers.scsi import Scsi
from storage_handlers.virtio_fs import VirtioFs
from tests.fakes.guest import FakeGuest

POINT = "/run/kata-containers/x"

BLOCK_DRIVERS = [
    (VirtioBlkPci(), "02/03", "02.0/03.0", "/dev/disk-of-02.0-03.0"),
    (VirtioBlkPci(), "/dev/vda", "/dev/vda", "/dev/disk-of-vda"),
    (VirtioBlkCcw(), "0.0.2", "0.0.0002", "/dev/disk-of-0.0.0002"),
    (VirtioBlkMmio(), "/dev/vdb", "/dev/vdb", "/dev/disk-of-vdb"),
    (Scsi(), "0:3", "0:3", "/dev/disk-of-0:3"),
    (Nvdimm(), "/dev/pmem1", "/dev/pmem1", "/dev/disk-of-pmem1"),
]


def request_of(source: str, fstype: str, *options: str, fs_group: FsGroup | None = None) -> StorageRequest:
    return StorageRequest("driver", source, fstype, POINT, options, fs_group=fs_group)


@pytest.mark.parametrize(("handler", "source", "address", "node"), BLOCK_DRIVERS)
async def test_a_disk_is_awaited_and_mounted(
    handler: StorageHandler, source: str, address: str, node: str
) -> None:
    guest = FakeGuest()
    attached = await handler.attach(request_of(source, "xfs", "ro", "nouuid", "noatime"), guest)
    assert guest.log == [f"wait {address}", f"mount {node} {POINT} xfs RDONLY|NOATIME 'nouuid'"]
    assert attached.mount_point == POINT
    await attached.release()
    assert guest.held == []


@pytest.mark.parametrize(("handler", "source", "address", "node"), BLOCK_DRIVERS)
async def test_a_disk_goes_to_its_group(
    handler: StorageHandler, source: str, address: str, node: str
) -> None:
    guest = FakeGuest()
    await handler.attach(request_of(source, "ext4", "ro", fs_group=FsGroup(12, True)), guest)
    assert guest.log[2:] == [f"chgrp {POINT} 12 ro"]
    guest = FakeGuest(refuse=["chgrp"])
    with pytest.raises(KernelRefused):
        await handler.attach(request_of(source, "ext4", fs_group=FsGroup(12, True)), guest)
    assert guest.held == []


@pytest.mark.parametrize(
    ("handler", "source"),
    [
        (VirtioBlkPci(), "/home/developer/test"),
        (VirtioBlkPci(), "/dev"),
        (VirtioBlkPci(), "/dev/../etc/passwd"),
        (VirtioBlkPci(), ""),
        (VirtioBlkPci(), "0000:00:02.0"),
        (VirtioBlkCcw(), "1.0.0000"),
        (VirtioBlkMmio(), "vdb"),
        (Scsi(), "0"),
        (Nvdimm(), "/dev/vdb"),
        (Nvdimm(), "pmem1"),
    ],
)
async def test_a_bad_address_is_refused_before_anything_happens(handler: StorageHandler, source: str) -> None:
    guest = FakeGuest()
    with pytest.raises(InvalidRequest):
        await handler.attach(request_of(source, "ext4"), guest)
    assert guest.log == []


async def test_bad_options_are_refused_before_the_wait() -> None:
    guest = FakeGuest()
    with pytest.raises(InvalidRequest, match="loop"):
        await VirtioBlkPci().attach(request_of("02", "ext4", "loop"), guest)
    assert guest.log == []


@pytest.mark.parametrize(("handler", "source", "address", "node"), BLOCK_DRIVERS)
async def test_a_filesystem_is_made_before_the_mount(
    handler: StorageHandler, source: str, address: str, node: str
) -> None:
    request = StorageRequest("driver", source, "ext4", POINT, driver_options=("create_filesystem",))
    guest = FakeGuest()
    await handler.attach(request, guest)
    assert guest.log == [f"wait {address}", f"mkfs.ext4 {node}", f"mount {node} {POINT} ext4 0 ''"]
    guest = FakeGuest(refuse=["mkfs"])
    with pytest.raises(KernelRefused, match=r"mkfs\.ext4"):
        await handler.attach(request, guest)
    assert guest.held == []


@pytest.mark.parametrize(
    ("fstype", "options", "error", "text"),
    [
        (
            "xfs",
            ("create_filesystem",),
            Unsupported,
            "creating filesystem xfs for block storage is unsupported",
        ),
        (
            "ext4",
            ("create_filesystem", "encryption_key=ephemeral"),
            Unsupported,
            "this agent encrypts no disks",
        ),
        (
            "ext4",
            ("encryption_key=ephemeral",),
            InvalidRequest,
            "encryption_key=ephemeral requires create_filesystem for block storage",
        ),
        ("ext4", ("create_filesystem", "zeroed"), Unsupported, "blk: unknown driver options zeroed"),
    ],
)
async def test_driver_options_that_cannot_be_honoured_are_refused(
    fstype: str, options: tuple[str, ...], error: type[AgentError], text: str
) -> None:
    guest = FakeGuest()
    with pytest.raises(error, match=text):
        await VirtioBlkPci().attach(StorageRequest("blk", "02", fstype, POINT, (), options), guest)
    assert guest.log == []


@pytest.mark.parametrize(("handler", "fstype"), [(Plan9(), "9p"), (VirtioFs(), "virtiofs")])
async def test_a_share_is_mounted_unless_it_is_there(handler: StorageHandler, fstype: str) -> None:
    guest = FakeGuest()
    await handler.attach(request_of("kataShared", fstype, "nodev", "trans=virtio,cache=mmap"), guest)
    assert guest.log == [f"mount kataShared {POINT} {fstype} NODEV 'trans=virtio,cache=mmap'"]
    guest = FakeGuest(mounted={POINT: "kataShared"})
    adopted = await handler.attach(request_of("kataShared", fstype), guest)
    assert guest.log == []
    assert adopted.mount_point == POINT
    await handler.attach(request_of("other", fstype), guest)
    assert guest.log == [f"mount other {POINT} {fstype} 0 ''"]


@pytest.mark.parametrize(
    ("options", "step"),
    [
        ((), f"mkdir {POINT} 0777 None"),
        (("mode=0400",), f"mkdir {POINT} 0400 None"),
        (("mode=1755", "fsgid=5"), f"mkdir {POINT} 3755 5"),
        (("fsgid=0",), f"mkdir {POINT} 2777 0"),
    ],
)
async def test_a_local_directory_has_its_mode_and_group(options: tuple[str, ...], step: str) -> None:
    guest = FakeGuest()
    attached = await Local().attach(request_of("local", "local", *options), guest)
    assert guest.log == [step]
    await attached.release()
    assert guest.held == []


@pytest.mark.parametrize("option", ["mode=abcde", "mode=", "mode=77777", "mode=-1", "fsgid=x"])
async def test_a_bad_mode_or_group_is_refused(option: str) -> None:
    guest = FakeGuest()
    with pytest.raises(InvalidRequest):
        await Local().attach(request_of("local", "local", option), guest)
    assert guest.log == []


@pytest.mark.parametrize(
    ("options", "step"),
    [
        ((), f"mount shm {POINT} tmpfs 0 ''"),
        (
            ("noexec", "nosuid", "nodev", "mode=1777", "size=67108864"),
            f"mount shm {POINT} tmpfs NOSUID|NODEV|NOEXEC 'mode=1777,size=67108864'",
        ),
        (("size=1m", "fsgid=7"), f"mount shm {POINT} tmpfs 0 'size=1m,gid=7,mode=3777'"),
        (("fsgid=7", "mode=0700"), f"mount shm {POINT} tmpfs 0 'gid=7,mode=2700'"),
    ],
)
async def test_all_options_of_a_tmpfs_hold(options: tuple[str, ...], step: str) -> None:
    guest = FakeGuest()
    await Ephemeral().attach(request_of("shm", "tmpfs", *options), guest)
    assert guest.log == [step]


@pytest.mark.parametrize(
    "options",
    [
        ("pagesize=2097152,size=8388608",),
        ("size=8388608,pagesize=2097152",),
        ("size=8Mi", "pagesize=2Mi"),
    ],
)
async def test_huge_pages_are_reserved_first_and_given_back_last(options: tuple[str, ...]) -> None:
    guest = FakeGuest()
    attached = await Ephemeral().attach(request_of("nodev", "hugetlbfs", *options, "min_size=1"), guest)
    reserve, mount = guest.log
    assert reserve == "reserve 4 of 2097152"
    assert mount == f"mount nodev {POINT} hugetlbfs 0 'min_size=1,pagesize=2097152,size=8388608'"
    await attached.release()
    await attached.release()
    assert guest.log[2:] == [f"release {mount}", f"release {reserve}"]


async def test_pages_are_given_back_if_the_mount_fails() -> None:
    guest = FakeGuest(refuse=["mount"])
    with pytest.raises(KernelRefused):
        await Ephemeral().attach(request_of("nodev", "hugetlbfs", "pagesize=2M,size=2M"), guest)
    assert guest.held == []


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("pagesize=2M",),
        ("size=2M",),
        ("pagesize=,size=2M",),
        ("pagesize=0,size=2M",),
        ("pagesize=2M,size=1M",),
        ("size-1=2M,pagesize=2M",),
        ("pagesize=abc,size=2M",),
        ("size=2M,pagesize=2M,fsgid=-1",),
    ],
)
async def test_incomplete_huge_page_options_are_refused(options: tuple[str, ...]) -> None:
    guest = FakeGuest()
    with pytest.raises(InvalidRequest):
        await Ephemeral().attach(request_of("nodev", "hugetlbfs", *options), guest)
    assert guest.log == []


@pytest.mark.parametrize("fstype", ["", "ext4", "local"])
async def test_ephemeral_is_memory_and_nothing_else(fstype: str) -> None:
    with pytest.raises(InvalidRequest, match="neither tmpfs nor hugetlbfs"):
        await Ephemeral().attach(request_of("x", fstype), FakeGuest())


@pytest.mark.parametrize(("handler", "source", "address", "node"), BLOCK_DRIVERS)
async def test_a_refused_step_leaves_nothing(
    handler: StorageHandler, source: str, address: str, node: str
) -> None:
    for refuse in ("wait", "mount"):
        guest = FakeGuest(refuse=[refuse])
        with pytest.raises(AgentError):
            await handler.attach(request_of(source, "ext4"), guest)
        assert guest.held == []

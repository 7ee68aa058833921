"""The storages that sandbox and container ask for, and what becomes of the mounts they serve."""

from __future__ import annotations

import pytest

from host.container_config import Mount
from host.errors import HostError, InvalidInput
from host.linux_mount import MountEntry
from host.storages import (
    GuestDevice,
    Storage,
    classify_empty_dirs,
    handle_ephemeral_storage,
    handle_hugepages,
    handle_local_storage,
    handle_shm,
    parse_size,
    rootfs_storage,
    sandbox_storages,
    share_storage,
    shm_storage,
    storage_driver,
)
from protos import kata1, kata2

GUEST_SHARE = "/run/kata-containers/shared/containers/"


def mounted(mount_point: str, fstype: str, *super_options: str) -> MountEntry:
    """An entry of a mount table."""
    return MountEntry(30, 1, "0:30", "/", mount_point, ("rw",), (), fstype, "none", ("rw", *super_options))


def test_share_over_9p() -> None:
    assert share_storage("9p", msize=8192) == Storage(
        "9p",
        "kataShared",
        "9p",
        GUEST_SHARE,
        ("trans=virtio,version=9p2000.L,cache=mmap", "nodev", "msize=8192"),
    )


def test_share_over_virtio_fs() -> None:
    assert share_storage("virtio-fs") == Storage("virtio-fs", "kataShared", "virtiofs", GUEST_SHARE)
    assert share_storage("virtio-fs", dax=True).options == ("dax",)


def test_unknown_share_is_refused() -> None:
    with pytest.raises(InvalidInput, match="unknown shared filesystem: nfs"):
        share_storage("nfs")


@pytest.mark.parametrize("shared_fs", ["9p", "virtio-fs"])
def test_two_sandboxes_in_one_process_get_equal_storages(shared_fs: str) -> None:
    first, second = (sandbox_storages(shared_fs, shm_size=4096, dax=True) for _ in range(2))
    assert first == second
    assert first is not second
    assert [sum(o.startswith(("msize", "dax")) for o in s.options) for s in second] == [1, 0]


def test_shm_is_sent_only_with_a_size() -> None:
    assert sandbox_storages(None, shm_size=0) == []
    assert sandbox_storages(None, shm_size=4096) == [
        Storage(
            "ephemeral",
            "shm",
            "tmpfs",
            "/run/kata-containers/sandbox/shm",
            ("noexec", "nosuid", "nodev", "mode=1777", "size=4096"),
        )
    ]


@pytest.mark.parametrize("messages", [kata1, kata2])
def test_storage_message_has_all_fields(messages: object) -> None:
    message = Storage("d", "s", "f", "/m", ("o1", "o2"), ("do",)).message(messages)  # type: ignore[arg-type]  # a module
    fields = {descriptor.name: value for descriptor, value in message.ListFields()}
    assert fields == {
        "driver": "d",
        "source": "s",
        "fstype": "f",
        "mount_point": "/m",
        "options": ["o1", "o2"],
        "driver_options": ["do"],
    }


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("virtio-mmio", "mmioblk"),
        ("virtio-blk-ccw", "blk-ccw"),
        ("virtio-blk", "blk"),
        ("virtio-scsi", "scsi"),
    ],
)
def test_block_drivers_by_the_names_of_the_configuration(name: str, word: str) -> None:
    assert storage_driver(name) == word


def test_unknown_block_driver_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"^Unknown block device driver: nvme: known are virtio-blk, "):
        storage_driver("nvme")


def test_only_xfs_is_mounted_without_its_uuid() -> None:
    assert rootfs_storage("scsi", "0:1", "xfs", "/m").options == ("nouuid",)
    assert rootfs_storage("scsi", "0:1", "ext4", "/m").options == ()


def test_shm_from_the_sandbox() -> None:
    shm = Mount("/dev/shm", "/var/lib/docker/shm", "bind", ("rbind", "rprivate"))
    other = Mount("/x", "/y", "bind")
    assert handle_shm([shm, other], 8192) == [
        Mount(
            "/dev/shm",
            "/run/kata-containers/sandbox/shm",
            "bind",
            ("rbind", "noexec", "nosuid", "nodev"),
        ),
        other,
    ]


def test_shm_of_the_container_when_the_sandbox_has_none() -> None:
    (shm,) = handle_shm([Mount("/dev/shm", "/host", "bind", ("rbind",))], 0)
    assert shm == Mount(
        "/dev/shm", "shm", "tmpfs", ("noexec", "nosuid", "nodev", "mode=1777", "size=67108864")
    )


def test_ephemeral_shm_is_left_to_the_ephemeral_storage() -> None:
    mounts = handle_shm([Mount("/dev/shm", "/host/cache", "ephemeral", ("rw",))], 8192)
    assert mounts[0].type == "ephemeral"
    changed, storages = handle_ephemeral_storage(mounts)
    place = "/run/kata-containers/sandbox/ephemeral/cache"
    assert changed == [Mount("/dev/shm", place, "bind", ("rw",))]
    assert storages == [Storage("ephemeral", "tmpfs", "tmpfs", place)]


def test_ephemeral_size_goes_to_the_tmpfs_and_the_rest_to_the_bind() -> None:
    entry = Mount("/cache", "cache", "ephemeral", ("rbind", "size=64m", "ro", "mode=0700"))
    (mount,), (storage,) = handle_ephemeral_storage([entry])
    assert mount.options == ("rbind", "ro")
    assert storage.options == ("size=64m", "mode=0700")


def test_ephemeral_keeps_the_group_of_its_directory() -> None:
    entry = Mount("/cache", "/pod/cache/", "ephemeral")
    _, (storage,) = handle_ephemeral_storage([entry], fs_group={"/pod/cache/": 1234})
    assert storage.options == ("fsgid=1234",)
    _, (storage,) = handle_ephemeral_storage([entry], fs_group={"/pod/cache/": 0})
    assert storage.options == ()


@pytest.mark.parametrize("source", ["/", "..", ""])
def test_ephemeral_needs_a_name(source: str) -> None:
    with pytest.raises(InvalidInput, match="has no name"):
        handle_ephemeral_storage([Mount("/c", source, "ephemeral")])


def test_local_storage_lies_in_the_sandboxes_container() -> None:
    changed, storages = handle_local_storage(
        [Mount("/d", "/pod/mountPoint", "local", ("rw",))], "sandboxid", "rootfs"
    )
    place = f"{GUEST_SHARE}sandboxid/rootfs/local/mountPoint"
    assert storages == [Storage("local", "local", "local", place, ("mode=0777",))]
    # The type must be bind: with the word `local` no container runtime can mount it.
    assert changed == [Mount("/d", place, "bind", ("rbind", "rw"))]


def test_local_storage_without_a_suffix_and_with_a_bind_option() -> None:
    changed, storages = handle_local_storage([Mount("/d", "/pod/m", "local", ("bind",))], "sid", "")
    assert storages[0].mount_point == f"{GUEST_SHARE}sid/local/m"
    assert changed[0].options == ("bind",)


def test_empty_dirs_are_told_by_what_they_are_on_the_host() -> None:
    base = "/pods/p/volumes/kubernetes.io~empty-dir"
    mounts = [
        Mount("/mem", f"{base}/mem", "bind"),
        Mount("/mem2", f"{base}/mem/", "bind"),
        Mount("/disk", f"{base}/disk", "bind"),
        Mount("/deep", f"{base}/mem/below", "bind"),
        Mount("/no", "/kubernetes.io~empty-dirs/x", "bind"),
    ]
    kinds = [entry.type for entry in classify_empty_dirs(mounts, [mounted(f"{base}/mem", "tmpfs")])]
    assert kinds == ["ephemeral", "ephemeral", "local", "bind", "bind"]


def test_hugepages_become_a_hugetlbfs_of_the_guest() -> None:
    table = [
        mounted("/pods/huge", "hugetlbfs", "pagesize=2M"),
        mounted("/pods/sized", "hugetlbfs", "size=1Gi", "pagesize=2M"),
    ]
    mounts = [
        Mount("/h", "/pods/huge", "local", ("rw",)),
        Mount("/s", "/pods/sized/", "local"),
        Mount("/l", "/pods/disk", "local"),
    ]
    changed, storages = handle_hugepages(mounts, table, {2 << 20: 4 << 20})
    place = "/run/kata-containers/sandbox/ephemeral/huge"
    assert storages[0] == Storage(
        "ephemeral", "nodev", "hugetlbfs", place, ("pagesize=2097152,size=4194304",)
    )
    assert storages[1].options == ("pagesize=2097152,size=1073741824",)
    assert changed == [
        Mount("/h", place, "bind", ("rw",)),
        Mount("/s", "/run/kata-containers/sandbox/ephemeral/sized", "bind"),
        mounts[2],
    ]


@pytest.mark.parametrize("limits", [{}, {1 << 30: 1 << 30}, {2 << 20: 0}])
def test_hugepages_without_a_size_are_refused(limits: dict[int, int]) -> None:
    table = [mounted("/pods/huge", "hugetlbfs", "pagesize=2M")]
    with pytest.raises(HostError, match="nothing says how large the huge pages at /pods/huge"):
        handle_hugepages([Mount("/h", "/pods/huge", "local")], table, limits)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2048", 2048),
        ("2048kB", 2 << 20),
        ("2M", 2 << 20),
        ("2MB", 2 << 20),
        ("1Gi", 1 << 30),
        ("1g", 1 << 30),
    ],
)
def test_sizes_as_kernel_and_kubernetes_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-2M", "1.5G", "2X", "\u0662M"])
def test_bad_sizes_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("driver", "source", "expected"),
    [
        ("mmioblk", "/dev/vdb", GuestDevice("/dev/vdb", "mmioblk", "/dev/vdb", "/dev/x")),
        ("blk-ccw", "0.0.0005", GuestDevice("0.0.0005", "blk-ccw", "", "/dev/x")),
        ("blk", "02/01", GuestDevice("02/01", "blk", "", "/dev/x")),
        ("blk", "/dev/vdc", GuestDevice("", "blk", "/dev/vdc", "/dev/x")),
        ("scsi", "0:3", GuestDevice("0:3", "scsi", "", "/dev/x")),
    ],
)
def test_devices_by_driver(driver: str, source: str, expected: GuestDevice) -> None:
    assert GuestDevice.on_disk(driver, source, "/dev/x") == expected
    message = expected.message(kata2)
    assert (message.container_path, message.type) == ("/dev/x", driver)  # type: ignore[attr-defined]  # generated


def test_shm_storage_size_is_in_bytes() -> None:
    assert shm_storage(67108864).options[-1] == "size=67108864"

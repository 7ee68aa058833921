"""Which mounts go through the share, and what they are called there."""

from __future__ import annotations

from pathlib import Path

import pytest

from host.bind_mounts import bind_mount, remove_mount_point, unmount_path
from host.container_config import Mount
from host.errors import HostError, InvalidInput
from host.linux_mount import mount_holding, mounts_below, parse_mountinfo, read_mountinfo
from host.share import SharedMount, is_host_device, is_system_mount, needs_sharing, shared_name


@pytest.mark.parametrize("path", ["/sys", "/sys/", "/sys//", "/sys/fs", "/sys/fs/cgroup", "/proc", "/proc/1"])
def test_system_mounts(path: str) -> None:
    assert is_system_mount(path)


@pytest.mark.parametrize("path", ["/sysfoo", "/home", "/dev/block/", "/mnt/dev/foo", "/process", "proc", ""])
def test_other_paths_are_no_system_mounts(path: str) -> None:
    assert not is_system_mount(path)


@pytest.mark.parametrize("path", ["/dev", "/dev/", "/dev/null", "/dev//zero", "/dev/pts"])
def test_host_devices(path: str) -> None:
    assert is_host_device(path)


@pytest.mark.parametrize("path", ["/device", "/dev/no-such-thing-here", "/mnt/dev/null", "/"])
def test_other_paths_are_no_host_devices(path: str) -> None:
    assert not is_host_device(path)


@pytest.mark.parametrize(
    ("entry", "shared"),
    [
        (Mount("/data", "/srv", "bind"), True),
        (Mount("/dev/log-here", "/srv", "bind"), True),
        (Mount("/data", "/srv", "tmpfs"), False),
        (Mount("/data", "/proc/1", "bind"), False),
        (Mount("/dev/shm", "/srv", "bind"), False),
        (Mount("/dev/shm/", "/srv", "bind"), False),
        (Mount("/dev/null", "/srv", "bind"), False),
        (Mount("/cache", "cache", "ephemeral"), False),
    ],
)
def test_what_needs_the_share(entry: Mount, shared: bool) -> None:
    assert needs_sharing(entry) is shared


def test_names_in_the_share_are_fresh_and_telling() -> None:
    first, second = (shared_name("cid", "/etc/resolv.conf/") for _ in range(2))
    assert first != second
    prefix, hexadecimal, base = first.split("-", 2)
    assert (prefix, base) == ("cid", "resolv.conf")
    assert len(bytes.fromhex(hexadecimal)) == 8


def test_long_names_are_cut_to_what_a_directory_takes() -> None:
    name = shared_name("c" * 64, "/" + "ü" * 120)
    assert len(name.encode()) <= 255
    assert name.endswith("ü")


@pytest.mark.parametrize("destination", ["/", "", "relative", "/.."])
def test_destinations_without_a_name_are_refused(destination: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be a mount's destination"):
        shared_name("cid", destination)


def test_guest_path_lies_in_the_guests_share() -> None:
    shared = SharedMount(Mount("/d", "/s", "bind"), "cid-00-d")
    assert shared.guest_path == "/run/kata-containers/shared/containers/cid-00-d"


@pytest.mark.parametrize(
    ("source", "destination", "propagation", "complaint"),
    [
        ("", "/x", "private", "^source must be specified$"),
        ("/x", "", "private", "^destination must be specified$"),
        ("", "", "foo", "^Wrong propagation type foo$"),
        ("/nowhere/at/all", "/x", "private", "^Could not resolve symlink for source /nowhere/at/all"),
    ],
)
def test_bad_bind_mounts_are_refused_before_anything_is_made(
    source: str, destination: str, propagation: str, complaint: str
) -> None:
    with pytest.raises(HostError, match=complaint):
        bind_mount(source, destination, propagation=propagation)


def test_loop_of_symlinks_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")
    with pytest.raises(HostError, match="Could not resolve symlink"):
        bind_mount(tmp_path / "a", tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_a_symlink_is_no_mount_point(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(HostError, match=r"mount point .*link is a symlink"):
        bind_mount(tmp_path, tmp_path / "link")
    for path in (tmp_path / "link", tmp_path / "link/rootfs"):
        with pytest.raises(HostError, match="refusing to unmount through it"):
            unmount_path(path)


def test_mount_points_with_content_stay(tmp_path: Path) -> None:
    for name, content in (("full", "x"), ("empty", "")):
        (tmp_path / name).write_text(content)
    (tmp_path / "dir/inner").mkdir(parents=True)
    for name in ("full", "empty", "dir", "absent"):
        remove_mount_point(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dir", "full"]


MOUNTINFO = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:25 / /run rw,nosuid shared:5 - tmpfs tmpfs rw,size=10k
31 30 0:25 /a\\040b /run/a\\040b ro,nosuid master:5 propagate_from:1 - tmpfs x\\134y rw
32 22 0:9 net:[4026531840] /run/ns rw - nsfs nsfs rw
"""


def test_mountinfo_is_understood() -> None:
    root, run, odd, namespace = parse_mountinfo(MOUNTINFO.splitlines(keepends=True))
    assert (root.mount_id, root.parent_id, root.device, root.is_shared) == (22, 1, "254:0", False)
    assert (run.mount_point, run.is_shared, run.super_options) == ("/run", True, ("rw", "size=10k"))
    assert (odd.root, odd.mount_point, odd.source) == ("/a b", "/run/a b", "x\\y")
    assert (odd.options, odd.tags, odd.is_shared) == (
        ("ro", "nosuid"),
        ("master:5", "propagate_from:1"),
        False,
    )
    assert namespace.root == "net:[4026531840]"


def test_mounts_below_are_newest_first_and_by_whole_names() -> None:
    table = parse_mountinfo(MOUNTINFO.replace("/run/ns", "/running").splitlines())
    assert [entry.mount_id for entry in mounts_below(Path("/run"), table)] == [31, 30]
    assert [entry.mount_id for entry in mounts_below(Path("/run"), table, itself=False)] == [31]


def test_the_mount_that_holds_a_path() -> None:
    table = read_mountinfo()
    assert mount_holding(Path("/proc/self"), table).fstype == "proc"
    with pytest.raises(FileNotFoundError):
        mount_holding(Path("/nowhere/at/all"), table)
    with pytest.raises(ValueError, match="is not in the mount table"):
        mount_holding(Path("/proc"), [])

"""agent.pid1.boot_mounts: order, flags, what may fail, and what is left alone. No mount is made."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from agent.linux.mount import MountFlag
from agent.pid1.boot_mounts import (
    GENERAL_MOUNTS,
    BootMount,
    enable_controllers,
    mount_all,
    unified_cgroups,
    v1_cgroups,
)

_CGROUPS = (
    "#subsys_name\thierarchy\tnum_cgroups\tenabled\n"
    "cpuset\t0\t1\t1\n"
    "memory\t0\t1\t1\n"
    "devices\t0\t1\t1\n"
    "pids\t0\t1\t0\n"
    "fancy\t0\t1\t1\n"
    "broken line\n"
)


class _Kernel:
    """Records mounts; refuses those it is told to."""

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.table: list[tuple[str, str, MountFlag, str]] = []

    def mount(self, source: str, target: str, fstype: str, flags: MountFlag, data: str) -> None:
        if target in self.refused:
            raise OSError(errno.EBUSY, "busy", source, None, target)
        self.table.append((target, fstype, flags, data))

    def mounted(self) -> set[str]:
        return {target for target, *_ in self.table}


def _below(tmp_path: Path, *names: str, optional: bool = False) -> list[BootMount]:
    return [
        BootMount("tmpfs", name, str(tmp_path / name), MountFlag.NOSUID, optional=optional) for name in names
    ]


def test_the_mount_table_can_be_read_from_the_second_mount_on() -> None:
    assert GENERAL_MOUNTS[0].target == "/proc"


def test_a_directory_comes_before_what_is_mounted_in_it() -> None:
    targets = [mount.target for mount in GENERAL_MOUNTS]
    for position, target in enumerate(targets):
        assert not any(later for later in targets[position + 1 :] if target.startswith(f"{later}/"))
    assert set(targets) == {"/proc", "/sys", "/dev", "/dev/shm", "/dev/pts", "/run", "/tmp"}


def test_only_dev_may_fail_and_nothing_carries_suid_files() -> None:
    assert [mount.target for mount in GENERAL_MOUNTS if mount.optional] == ["/dev"]
    assert all(mount.flags & MountFlag.NOSUID for mount in GENERAL_MOUNTS)


def test_mounts_are_made_in_order_in_directories_that_are_made(tmp_path: Path) -> None:
    kernel = _Kernel()
    complaints = mount_all(_below(tmp_path, "a", "a/b"), call=kernel.mount, mounted=kernel.mounted)
    assert complaints == []
    assert [target for target, *_ in kernel.table] == [str(tmp_path / "a"), str(tmp_path / "a/b")]
    assert (tmp_path / "a/b").is_dir()


def test_what_is_mounted_already_is_left_alone(tmp_path: Path) -> None:
    kernel = _Kernel()
    mount_all(_below(tmp_path, "a"), call=kernel.mount, mounted=kernel.mounted)
    mount_all(_below(tmp_path, "a", "b"), call=kernel.mount, mounted=kernel.mounted)
    assert [target for target, *_ in kernel.table] == [str(tmp_path / "a"), str(tmp_path / "b")]


def test_an_optional_mount_that_fails_is_a_complaint(tmp_path: Path) -> None:
    kernel = _Kernel(str(tmp_path / "a"))
    complaints = mount_all(_below(tmp_path, "a", optional=True), call=kernel.mount, mounted=kernel.mounted)
    assert complaints == [f"{tmp_path / 'a'} is not mounted: busy"]


def test_a_needed_mount_that_fails_names_both_paths(tmp_path: Path) -> None:
    kernel = _Kernel(str(tmp_path / "a"))
    with pytest.raises(OSError, match="busy") as failure:
        mount_all(_below(tmp_path, "a", "b"), call=kernel.mount, mounted=kernel.mounted)
    assert (failure.value.filename, failure.value.filename2) == ("a", str(tmp_path / "a"))
    assert kernel.table == []


def test_v2_is_one_hierarchy() -> None:
    (mount,) = unified_cgroups()
    assert (mount.fstype, mount.target, mount.data) == ("cgroup2", "/sys/fs/cgroup", "nsdelegate")


def test_v1_has_one_hierarchy_for_each_known_and_enabled_controller() -> None:
    first, *controllers, last = v1_cgroups(_CGROUPS)
    assert [mount.data for mount in controllers] == ["cpuset", "memory", "devices"]
    assert controllers[0].target == "/sys/fs/cgroup/cpuset"
    assert (first.fstype, first.flags & MountFlag.REMOUNT) == ("tmpfs", MountFlag(0))
    assert last.flags & MountFlag.REMOUNT
    assert last.flags & MountFlag.RDONLY


def test_v1_without_the_device_controller_is_nothing() -> None:
    assert v1_cgroups(_CGROUPS.replace("devices", "hugetlb")) == ()
    assert v1_cgroups("") == ()


def test_a_remount_is_made_on_what_is_there(tmp_path: Path) -> None:
    kernel = _Kernel()
    first = BootMount("tmpfs", "tmpfs", str(tmp_path / "c"), MountFlag(0))
    again = BootMount("tmpfs", "tmpfs", str(tmp_path / "c"), MountFlag.REMOUNT | MountFlag.RDONLY)
    mount_all([first, again], call=kernel.mount, mounted=kernel.mounted)
    assert [flags for _, _, flags, _ in kernel.table] == [first.flags, again.flags]


def test_every_controller_is_handed_down(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu memory\n")
    enable_controllers(tmp_path)
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpuset +cpu +memory"


def test_a_hierarchy_without_controllers_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("\n")
    enable_controllers(tmp_path)
    assert not (tmp_path / "cgroup.subtree_control").exists()

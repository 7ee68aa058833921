"""The file systems that the first process mounts before anything else works.

Order, flags and what may fail: as the original agents do it (kata-containers/agent agent.go
`initRootfsMounts`, kata-containers src/agent/src/mount.rs), so that a container sees no difference.
Not theirs: a mount that is there already is left alone, whoever made it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.linux.mount import MountFlag, mount
from agent.linux.mountinfo import read_mountinfo

MountCall = Callable[[str, str, str, MountFlag, str], None]

_SAFE = MountFlag.NOSUID | MountFlag.NODEV
_SAFEST = _SAFE | MountFlag.NOEXEC
_CGROUP_ROOT = "/sys/fs/cgroup"
# The v1 controllers that container runtimes know; a kernel may list others of its own.
_V1_CONTROLLERS = frozenset(
    {
        *("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb"),
        *("memory", "net_cls", "net_prio", "perf_event", "pids", "rdma"),
    }
)


@dataclass(frozen=True, slots=True)
class BootMount:
    """One mount of the start; `optional` when the machine works without it."""

    fstype: str
    source: str
    target: str
    flags: MountFlag
    data: str = ""
    optional: bool = False


# /proc comes first: the mount table is read from it.
GENERAL_MOUNTS = (
    BootMount("proc", "proc", "/proc", _SAFEST),
    BootMount("sysfs", "sysfs", "/sys", _SAFEST),
    BootMount("devtmpfs", "dev", "/dev", MountFlag.NOSUID, "mode=0755", optional=True),
    BootMount("tmpfs", "tmpfs", "/dev/shm", _SAFE),
    BootMount(
        "devpts", "devpts", "/dev/pts", MountFlag.NOSUID | MountFlag.NOEXEC, "gid=5,mode=620,ptmxmode=666"
    ),
    BootMount("tmpfs", "tmpfs", "/run", _SAFE, "mode=0755"),
    BootMount("tmpfs", "tmpfs", "/tmp", _SAFE, "mode=1777"),
)


def unified_cgroups() -> tuple[BootMount, ...]:
    """The one hierarchy of cgroup v2. kernel.org, Documentation/admin-guide/cgroup-v2.rst."""
    return (BootMount("cgroup2", "cgroup2", _CGROUP_ROOT, _SAFEST | MountFlag.RELATIME, "nsdelegate"),)


def v1_cgroups(proc_cgroups: str) -> tuple[BootMount, ...]:
    """One hierarchy per controller that /proc/cgroups (cgroups(7)) shows as enabled.

    Empty when the device controller is missing: without it a container could not be kept from
    the guest's own disks.
    """
    enabled = []
    for line in proc_cgroups.splitlines():
        fields = line.split()
        if not line.startswith("#") and len(fields) == 4 and fields[3] != "0":
            enabled.append(fields[0])
    controllers = [name for name in enabled if name in _V1_CONTROLLERS]
    if "devices" not in controllers:
        return ()
    flags = _SAFEST | MountFlag.RELATIME
    return (
        BootMount("tmpfs", "tmpfs", _CGROUP_ROOT, _SAFEST, "mode=755"),
        *(BootMount("cgroup", "cgroup", f"{_CGROUP_ROOT}/{name}", flags, name) for name in controllers),
        BootMount("tmpfs", "tmpfs", _CGROUP_ROOT, _SAFEST | MountFlag.REMOUNT | MountFlag.RDONLY, "mode=755"),
    )


def mount_general(*, call: MountCall = mount, mounted: Callable[[], set[str]] | None = None) -> list[str]:
    """Mount GENERAL_MOUNTS; return a sentence for each optional one that failed.

    Raises OSError with both paths when one that is needed fails.
    """
    return mount_all(GENERAL_MOUNTS, call=call, mounted=mounted)


def mount_cgroups(*, unified: bool, root: str = "/") -> list[str]:
    """Mount the control groups, v2 or v1; return sentences for the log. Raises OSError."""
    if unified:
        mount_all(unified_cgroups())
        enable_controllers(Path(root, _CGROUP_ROOT.lstrip("/")))
        return []
    wanted = v1_cgroups(Path(root, "proc/cgroups").read_text())
    if not wanted:
        return ["no cgroup is mounted: the kernel has no v1 device controller"]
    mount_all(wanted)
    hierarchical = Path(root, _CGROUP_ROOT.lstrip("/"), "memory/memory.use_hierarchy")
    if hierarchical.exists():
        hierarchical.write_text("1")
    return []


def enable_controllers(cgroup: Path) -> None:
    """Hand every controller of `cgroup` down to its children. Raises OSError."""
    controllers = (cgroup / "cgroup.controllers").read_text().split()
    if controllers:
        (cgroup / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))


def mount_all(
    wanted: Sequence[BootMount], *, call: MountCall = mount, mounted: Callable[[], set[str]] | None = None
) -> list[str]:
    """Mount `wanted` in order, less those that are there already. As `mount_general`."""
    mounted = mounted or _mounted
    complaints = []
    for item in wanted:
        if not item.flags & MountFlag.REMOUNT and item.target in mounted():
            continue
        try:
            Path(item.target).mkdir(mode=0o755, parents=True, exist_ok=True)
            call(item.source, item.target, item.fstype, item.flags, item.data)
        except OSError as error:
            if not item.optional:
                raise
            complaints.append(f"{item.target} is not mounted: {error.strerror}")
    return complaints


def _mounted() -> set[str]:
    """The mount points of this process; none before /proc is there."""
    try:
        return {entry.mount_point for entry in read_mountinfo()}
    except FileNotFoundError:
        return set()

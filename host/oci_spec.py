"""The OCI runtime specification of a container: what docker's users expect, less what a guest must not see.

A specification is the JSON document of opencontainers/runtime-spec (config.md, config-linux.md).
Everything here is pure: a function that changes a document answers with a new one.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from host.accounts import find_account
from host.container_config import ContainerConfig, Mount
from host.errors import InvalidInput
from host.storages import parse_size

OciSpec = dict[str, Any]

OCI_VERSION = "1.0.2"
CPU_PERIOD_US = 100_000  # the kernel's default, Documentation/scheduler/sched-bwc.rst

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# The lists of moby: oci/caps/defaults.go, oci/defaults.go, daemon/pkg/oci.
CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

DEFAULT_MOUNTS = (
    Mount("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
    Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    Mount(
        "/dev/pts",
        "devpts",
        "devpts",
        ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
    ),
    Mount("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", "ro")),
    Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("ro", "nosuid", "noexec", "nodev")),
    Mount("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
    Mount("/dev/shm", "shm", "tmpfs", ("nosuid", "noexec", "nodev", "mode=1777", "size=65536k")),
)

NAMESPACES = ("mount", "uts", "ipc", "network", "cgroup", "pid")


@dataclass(frozen=True, slots=True)
class OciDevice:
    """A device node of the container, by the numbers it has on the host; the agent puts in the guest's."""

    path: str
    type: str  # "b" or "c"
    major: int
    minor: int
    mode: int = 0o660

    def document(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "type": self.type,
            "major": self.major,
            "minor": self.minor,
            "fileMode": self.mode,
            "uid": 0,
            "gid": 0,
        }


def default_spec(config: ContainerConfig) -> OciSpec:
    """The specification of the container that `config` describes, with paths as they are on the host.

    Raises InvalidInput: no command, an unknown user, a relative working directory or destination.
    """
    return {
        "ociVersion": OCI_VERSION,
        "process": _process(config),
        "root": {"path": "", "readonly": config.read_only_rootfs},
        "hostname": hostname(config),
        "mounts": [mount_document(entry) for entry in merge_mounts(DEFAULT_MOUNTS, config.mounts)],
        "annotations": dict(config.annotations),
        "linux": {
            "cgroupsPath": f"/{config.container_id}",  # no parent of its own, which nobody would remove
            "namespaces": [{"type": kind} for kind in NAMESPACES],
            "maskedPaths": list(MASKED_PATHS),
            "readonlyPaths": list(READONLY_PATHS),
            "resources": _resources(config),
        },
    }


def hostname(config: ContainerConfig) -> str:
    """The container's host name: as asked for, or as docker does the beginning of its id."""
    return config.hostname or config.container_id[:12]


def mount_document(entry: Mount) -> dict[str, Any]:
    """`entry` as the specification writes it."""
    return {
        "destination": entry.destination,
        "source": entry.source,
        "type": entry.type,
        "options": list(entry.options),
    }


def spec_mounts(spec: OciSpec) -> list[Mount]:
    """The mounts of `spec`, in its order."""
    return [
        Mount(
            entry["destination"],
            entry.get("source", ""),
            entry.get("type", ""),
            tuple(entry.get("options") or ()),
        )
        for entry in spec.get("mounts") or ()
    ]


def merge_mounts(defaults: Sequence[Mount], own: Sequence[Mount]) -> list[Mount]:
    """`defaults` without those that a mount of the user's covers, then `own`, outer before inner.

    Raises InvalidInput for a destination that is not absolute, is the root, or is given twice.
    """
    seen: set[str] = set()
    for entry in own:
        normal = os.path.normpath(entry.destination)
        if not entry.destination.startswith("/") or normal == "/" or ".." in entry.destination.split("/"):
            raise InvalidInput(
                f"{entry.destination!r} cannot be a mount's destination", "give an absolute path"
            )
        if normal in seen:
            raise InvalidInput(f"two mounts have the destination {normal}", "give each its own")
        seen.add(normal)
    kept = [entry for entry in defaults if not _is_covered(entry.destination, seen)]
    return kept + sorted(own, key=lambda entry: os.path.normpath(entry.destination).count("/"))


def constrain_spec(spec: OciSpec, *, keep_seccomp: bool = False) -> OciSpec:
    """`spec` without what is the host's own or means nothing in a guest.

    Taken out: hooks (they are programs of the host's), the SELinux process label, seccomp unless the
    guest has it, the limits that name the host's devices and CPUs, namespaces that are the VM's, the
    host's VFIO nodes. Namespace paths are the host's too. What is left always has a `resources`
    object: the 1.x agent does not live without. Source: constraintGRPCSpec in
    kata-containers/runtime, constrainGRPCSpec in kata-containers src/runtime.
    """
    changed = copy.deepcopy(spec)
    changed.pop("hooks", None)
    changed.get("process", {}).pop("selinuxLabel", None)
    linux = changed.setdefault("linux", {})
    if not keep_seccomp:
        linux.pop("seccomp", None)
    linux["resources"] = _constrained_resources(linux.get("resources") or {})
    linux["cgroupsPath"] = _cgroupfs_path(linux.get("cgroupsPath", ""))
    linux["namespaces"] = [
        {"type": entry["type"]}
        for entry in linux.get("namespaces") or ()
        if entry["type"] not in ("cgroup", "network", "time")
    ]
    if "devices" in linux:
        linux["devices"] = [entry for entry in linux["devices"] or () if not _is_vfio(entry)]
    return changed


def take_pid_namespace(spec: OciSpec) -> tuple[OciSpec, bool]:
    """`spec` without its pid namespace, and whether the container joins the sandbox's instead.

    A pid namespace with a path says "that of another container", which the guest knows as the sandbox's.
    """
    changed = copy.deepcopy(spec)
    linux = changed.setdefault("linux", {})
    namespaces = linux.get("namespaces") or []
    shares = any(entry["type"] == "pid" and entry.get("path") for entry in namespaces)
    linux["namespaces"] = [entry for entry in namespaces if entry["type"] != "pid"]
    return changed, shares


def hugepage_limits(spec: OciSpec) -> dict[int, int]:
    """The container's hugepage limits: page size to limit, both in bytes. Raises InvalidInput."""
    limits = spec.get("linux", {}).get("resources", {}).get("hugepageLimits") or ()
    return {parse_size(entry["pageSize"]): entry["limit"] for entry in limits}


def _process(config: ContainerConfig) -> dict[str, Any]:
    if not config.args:
        raise InvalidInput("the container has no command", "name one after the root filesystem")
    if not config.cwd.startswith("/"):
        raise InvalidInput(f"the working directory {config.cwd!r} is relative", "give an absolute path")
    account = find_account(config.user, config.passwd, config.group)
    # execve(2) takes the two from anybody but root; a document that claims them would only mislead.
    effective = list(CAPABILITIES) if account.uid == 0 else []
    return {
        "terminal": config.terminal,
        "user": {"uid": account.uid, "gid": account.gid, "additionalGids": list(account.additional_gids)},
        "args": list(config.args),
        "env": _environment(config, account.home),
        "cwd": config.cwd,
        "capabilities": {
            "bounding": list(CAPABILITIES),
            "effective": effective,
            "permitted": effective,
        },
        "rlimits": [{"type": limit.type, "soft": limit.soft, "hard": limit.hard} for limit in config.rlimits],
        "noNewPrivileges": False,
    }


def _environment(config: ContainerConfig, home: str) -> list[str]:
    values = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname(config)}
    if config.terminal:
        values["TERM"] = "xterm"
    if home:
        values["HOME"] = home
    values |= config.environment
    return [f"{name}={value}" for name, value in values.items()]


def _resources(config: ContainerConfig) -> dict[str, Any]:
    resources: dict[str, Any] = {}
    if config.memory_bytes is not None:
        resources["memory"] = {"limit": config.memory_bytes}
    if config.cpus is not None:
        resources["cpu"] = {"quota": round(config.cpus * CPU_PERIOD_US), "period": CPU_PERIOD_US}
    return resources


def _constrained_resources(resources: Mapping[str, Any]) -> dict[str, Any]:
    dropped = {"devices", "pids", "blockIO", "hugepageLimits", "network"}
    kept = {name: value for name, value in resources.items() if name not in dropped}
    if kept.get("cpu"):
        kept["cpu"] = {name: value for name, value in kept["cpu"].items() if name not in ("cpus", "mems")}
    return kept


def _cgroupfs_path(path: str) -> str:
    """A path of cgroupfs; systemd's "slice:prefix:name" becomes "/prefix/name" (the guest has no slices)."""
    parts = path.split(":")
    return f"/{parts[1]}/{parts[2]}" if len(parts) == 3 else path


def _is_vfio(device: Mapping[str, Any]) -> bool:
    return device.get("type") == "c" and str(device.get("path", "")).startswith("/dev/vfio/")


def _is_covered(destination: str, own: Iterable[str]) -> bool:
    return any(destination == other or destination.startswith(other + "/") for other in own)

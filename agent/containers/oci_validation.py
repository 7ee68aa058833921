"""Checks of the OCI runtime document before anything is done with it. Pure.

The rules are those of the Kata agent's own checks, which guard against a hostile document: mounts
and devices stay where they belong, and nothing is asked of a namespace that the container shares
with the agent. What lies on disk (the root filesystem, the command) is checked by `bundle` and
`executable`.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

from agent.errors import InvalidRequest

# Two characters at least, ASCII only: ids become file names, cgroup names and log fields.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]+", re.ASCII)
_LONGEST_ID = 255  # a file name (limits.h, NAME_MAX)

# Sysctls that belong to one IPC namespace (namespaces of sysctl: ipc_namespaces(7)).
_IPC_SYSCTLS = frozenset(
    f"kernel.{name}"
    for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)

# Files of /proc that a container may be given its own version of.
_PROC_FILES = frozenset(
    f"/proc/{name}"
    for name in ("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "net/dev")
)

_NAMESPACE_KINDS = frozenset({"pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"})
_DEVICE_TYPES = frozenset({"b", "c", "u", "p"})


def is_valid_id(text: str) -> bool:
    """Whether `text` can be a container's or an exec's id."""
    return len(text) <= _LONGEST_ID and _ID.fullmatch(text) is not None


def validate_spec(spec: dict[str, Any]) -> None:
    """Check the document of a container. Raises InvalidRequest, naming the field and its value."""
    linux = spec.get("linux")
    if not isinstance(linux, dict):
        raise InvalidRequest("the OCI document has no linux section")
    if not isinstance(spec.get("root"), dict):
        raise InvalidRequest("the OCI document has no root section")
    if not isinstance(spec.get("process"), dict):
        raise InvalidRequest("the OCI document has no process section")
    if not posixpath.isabs(str(spec["root"].get("path") or "")):
        raise InvalidRequest(f"root.path {spec['root'].get('path')!r} is not absolute")
    validate_process(spec["process"])
    namespaces = _check_namespaces(linux)
    if spec.get("hostname") and "uts" not in namespaces:
        raise InvalidRequest(f"hostname {spec['hostname']!r} needs a uts namespace")
    _check_user_namespace(linux, namespaces)
    _check_sysctls(linux, namespaces)
    _check_masks(linux, namespaces)
    _check_mounts(spec)
    _check_devices(linux)
    _check_cgroups_path(linux)


def validate_process(process: dict[str, Any]) -> None:
    """Check a `process` object. Raises InvalidRequest."""
    arguments = process.get("args")
    if not isinstance(arguments, list) or not arguments:
        raise InvalidRequest("process.args is empty: there is no command to run")
    for field in ("args", "env"):
        for text in process.get(field) or ():
            if not isinstance(text, str) or "\0" in text:
                raise InvalidRequest(f"process.{field} holds {text!r}, which is no C string")
    if not arguments[0]:
        raise InvalidRequest("process.args begins with an empty command")
    directory = process.get("cwd") or "/"
    if not posixpath.isabs(directory):
        raise InvalidRequest(f"process.cwd {directory!r} is not absolute")


def _check_namespaces(linux: dict[str, Any]) -> frozenset[str]:
    """The kinds of namespaces that the container does not share with the agent."""
    kinds = [namespace.get("type") for namespace in linux.get("namespaces") or ()]
    for kind in kinds:
        if kind not in _NAMESPACE_KINDS:
            raise InvalidRequest(f"linux.namespaces has the unknown type {kind!r}")
        if kinds.count(kind) > 1:
            raise InvalidRequest(f"linux.namespaces has the type {kind!r} twice")
    return frozenset(kinds)


def _check_user_namespace(linux: dict[str, Any], namespaces: frozenset[str]) -> None:
    for field in ("uidMappings", "gidMappings"):
        mappings = linux.get(field) or ()
        if mappings and "user" not in namespaces:
            raise InvalidRequest(f"linux.{field} needs a user namespace")
        if "user" in namespaces and not mappings:
            raise InvalidRequest(f"a user namespace needs linux.{field}")
        if any(not mapping.get("size") for mapping in mappings):
            raise InvalidRequest(f"linux.{field} has a mapping of size 0")


def _check_sysctls(linux: dict[str, Any], namespaces: frozenset[str]) -> None:
    """Only sysctls that have a copy per namespace, and only with a namespace of one's own."""
    for name in linux.get("sysctl") or ():
        if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
            needed = "ipc"
        elif name == "kernel.domainname":
            needed = "uts"
        elif name.startswith("net.") and ".." not in name and "/" not in name:
            continue  # the agent writes these itself: move_net_sysctls
        elif name == "kernel.hostname":
            raise InvalidRequest("sysctl 'kernel.hostname' is refused", hint="use the field hostname")
        else:
            raise InvalidRequest(f"sysctl {name!r} would change the guest, not only the container")
        if needed not in namespaces:
            raise InvalidRequest(f"sysctl {name!r} needs a namespace of type {needed}")


def _check_masks(linux: dict[str, Any], namespaces: frozenset[str]) -> None:
    for field in ("maskedPaths", "readonlyPaths"):
        paths = linux.get(field) or ()
        if paths and "mount" not in namespaces:
            raise InvalidRequest(f"linux.{field} needs a mount namespace")
        for path in paths:
            _check_container_path(f"linux.{field}", path)


def _check_mounts(spec: dict[str, Any]) -> None:
    for mount in spec.get("mounts") or ():
        destination = mount.get("destination") or ""
        _check_container_path("mounts.destination", destination)
        destination = posixpath.normpath(destination)
        is_bind = mount.get("type") == "bind" or not {"bind", "rbind"}.isdisjoint(mount.get("options") or ())
        if not is_bind:
            continue
        inside_proc = destination.startswith("/proc/") and destination not in _PROC_FILES
        # A bind over /proc itself could show the container files that only look like the kernel's.
        over_proc = destination == "/proc" and not str(mount.get("source")).startswith("/proc")
        if inside_proc or over_proc:
            raise InvalidRequest(f"mount {mount.get('source')!r} may not cover {destination!r}")


def _check_devices(linux: dict[str, Any]) -> None:
    for device in linux.get("devices") or ():
        path = device.get("path") or ""
        _check_container_path("linux.devices.path", path)
        if not posixpath.normpath(path).startswith("/dev/"):
            raise InvalidRequest(f"device {path!r} does not lie below /dev")
        if device.get("type") not in _DEVICE_TYPES:
            raise InvalidRequest(f"device {path!r} has the unknown type {device.get('type')!r}")
        if device["type"] != "p" and not {"major", "minor"} <= device.keys():
            raise InvalidRequest(f"device {path!r} lacks its major or minor number")


def _check_cgroups_path(linux: dict[str, Any]) -> None:
    path = linux.get("cgroupsPath") or ""
    if "\0" in path or ".." in path.replace(":", "/").split("/"):
        raise InvalidRequest(f"linux.cgroupsPath {path!r} leads out of the cgroup tree")


def _check_container_path(field: str, path: str) -> None:
    """An absolute path without `..`: as text, since links below a root filesystem prove nothing."""
    if not isinstance(path, str) or not posixpath.isabs(path) or "\0" in path:
        raise InvalidRequest(f"{field} {path!r} is not absolute")
    if ".." in path.split("/"):
        raise InvalidRequest(f"{field} {path!r} holds '..'")

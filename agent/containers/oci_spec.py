"""Edits of the OCI runtime document (config.json of opencontainers/runtime-spec 1.0). Pure.

The document stays a tree of plain JSON values, so that whatever a host puts in reaches crun. Every
function here changes it in place, touches only what its name says, and may be called again.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from agent.containers.oci_validation import is_valid_id, validate_process, validate_spec
from agent.devices.request import DeviceUpdate
from agent.errors import InvalidRequest

__all__ = [
    "DeviceRule",
    "OciProcess",
    "OciSpec",
    "apply_device_updates",
    "cgroup_path",
    "complete_process",
    "deny_devices_by_default",
    "deny_root_device",
    "drop_namespace",
    "is_valid_id",
    "merge_resources",
    "move_net_sysctls",
    "set_namespace",
    "validate_process",
    "validate_spec",
]

OciSpec = dict[str, Any]
OciProcess = dict[str, Any]

NamespaceKind = Literal["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"]


class DeviceRule(TypedDict, total=False):
    """An entry of linux.resources.devices; a missing number stands for every number."""

    allow: bool
    type: str
    major: int
    minor: int
    access: str


# Of the container's own settings, those that a further process gets unless it brings its own.
_INHERITED_BY_EXEC = ("capabilities", "apparmorProfile", "selinuxLabel", "rlimits")


def apply_device_updates(spec: OciSpec, updates: Sequence[DeviceUpdate]) -> None:
    """Give the devices of `spec` the guest's numbers, and its device rules with them.

    A rule belongs to a device by the host's type and numbers. Those are looked up before anything
    changes: one device's guest numbers may be another's host numbers. Each device is allowed `rwm`.
    Raises InvalidRequest: two updates of one path, or a path that `spec` does not have; then nothing
    has changed.
    """
    devices = {device["path"]: device for device in _linux(spec).get("devices") or ()}
    _check_updates(updates, devices)
    rules = _device_rules(spec)
    host_rules = {id(rule): _rule_key(rule) for rule in rules}
    moves: list[tuple[DeviceRule, DeviceUpdate]] = []
    for update in updates:
        device = devices[update.container_path]
        host_key = (_device_type(device["type"]), device["major"], device["minor"])
        moves += [(rule, update) for rule in rules if host_rules[id(rule)] == host_key]
    for rule, update in moves:
        rule["type"], rule["major"], rule["minor"] = update.kind, update.major, update.minor
    for update in updates:
        device = devices[update.container_path]
        device.update(type=update.kind, major=update.major, minor=update.minor)
        if update.final_path is not None:
            device["path"] = update.final_path
        allowed: DeviceRule = {
            "allow": True,
            "type": update.kind,
            "major": update.major,
            "minor": update.minor,
            "access": "rwm",
        }
        if allowed not in rules:
            rules.append(allowed)


def deny_devices_by_default(spec: OciSpec) -> None:
    """Put "deny everything" before the device rules, unless a rule allows everything.

    The hosts take the device rules out of the document, and without any crun allows every device.
    It adds by itself what every container needs (null, zero, full, random, urandom, tty, ptmx, pts).
    """
    rules = _device_rules(spec)
    deny_all: DeviceRule = {"allow": False, "access": "rwm"}
    if deny_all not in rules and not any(rule.get("allow") and _is_for_all(rule) for rule in rules):
        rules.insert(0, deny_all)


def deny_root_device(spec: OciSpec, major: int, minor: int) -> None:
    """Keep the container away from the block device that holds the guest's own root (CVE-2020-2023)."""
    denied: DeviceRule = {"allow": False, "type": "b", "major": major, "minor": minor, "access": "rwm"}
    rules = _device_rules(spec)
    if denied in rules:
        rules.remove(denied)
    rules.append(denied)  # the last rule that fits decides


def set_namespace(spec: OciSpec, kind: NamespaceKind, path: str = "") -> None:
    """Give the container exactly one namespace of `kind`: the one at `path`, or a new one."""
    drop_namespace(spec, kind)
    namespace = {"type": kind, "path": path} if path else {"type": kind}
    _linux(spec).setdefault("namespaces", []).append(namespace)


def drop_namespace(spec: OciSpec, kind: NamespaceKind) -> None:
    """Leave the container in the agent's own namespace of `kind`."""
    linux = _linux(spec)
    namespaces = linux.get("namespaces") or []
    linux["namespaces"] = [namespace for namespace in namespaces if namespace.get("type") != kind]


def move_net_sysctls(spec: OciSpec) -> dict[str, str]:
    """Take the `net.` sysctls out of `spec` and return them.

    A container shares the guest's network namespace, so they are the agent's to write; crun refuses
    them without a network namespace of the container's own.
    """
    sysctls: dict[str, str] = _linux(spec).get("sysctl") or {}
    moved = {name: value for name, value in sysctls.items() if name.startswith("net.")}
    for name in moved:
        del sysctls[name]
    return moved


def cgroup_path(spec: OciSpec, container_id: str) -> str:
    """The container's cgroup below each hierarchy's root, absolute and without `..`.

    The systemd form `slice:prefix:name` becomes a path (kata-containers src/agent/rustjail); an
    empty one is `/<container id>`.
    """
    wanted = str(_linux(spec).get("cgroupsPath") or "").replace(":", "/").strip("/")
    path = posixpath.normpath(f"/{wanted}")
    return f"/{container_id}" if path == "/" else path


def merge_resources(spec: OciSpec, resources: Mapping[str, Any]) -> None:
    """Put new limits over those of `spec`; what they do not name stays, the device rules always."""
    known = _linux(spec).setdefault("resources", {})
    for name, section in resources.items():
        if name == "devices":
            continue
        if isinstance(section, dict):
            known[name] = {**(known.get(name) or {}), **section}
        elif name == "hugepageLimits":
            sizes = {limit["pageSize"]: limit for limit in (*(known.get(name) or ()), *section)}
            known[name] = list(sizes.values())
        else:
            known[name] = section


def complete_process(process: OciProcess, container: OciProcess) -> OciProcess:
    """A copy of `process` as it is to run beside the container's own first process.

    It gets the container's capabilities, profiles and limits where it has none of its own, and an
    explicit oom_score_adj: otherwise it would inherit the agent's, which protects the agent.
    """
    completed = {key: container[key] for key in _INHERITED_BY_EXEC if key in container}
    completed.update({key: value for key, value in process.items() if value is not None})
    completed.setdefault("oomScoreAdj", 0)
    completed.setdefault("cwd", "/")
    completed.setdefault("user", {"uid": 0, "gid": 0})
    return completed


def _linux(spec: OciSpec) -> dict[str, Any]:
    linux = spec.setdefault("linux", {})
    assert isinstance(linux, dict)
    return linux


def _device_rules(spec: OciSpec) -> list[DeviceRule]:
    """The device rules of `spec`, made if there are none."""
    linux = _linux(spec)
    if linux.get("resources") is None:
        linux["resources"] = {}
    if linux["resources"].get("devices") is None:
        linux["resources"]["devices"] = []
    rules: list[DeviceRule] = linux["resources"]["devices"]
    return rules


def _check_updates(updates: Sequence[DeviceUpdate], devices: dict[str, Any]) -> None:
    seen: set[str] = set()
    for update in updates:
        path = update.container_path
        if path in seen:
            raise InvalidRequest(f"two devices of the request have the container path {path!r}")
        if path not in devices:
            raise InvalidRequest(f"the OCI document has no device {path!r}, which the request names")
        seen.add(path)


def _rule_key(rule: DeviceRule) -> tuple[str, int, int]:
    return _device_type(rule.get("type") or "a"), _number(rule.get("major")), _number(rule.get("minor"))


def _number(value: int | None) -> int:
    """A device number; -1 stands for every number, as an absent one does."""
    return -1 if value is None else value


def _is_for_all(rule: DeviceRule) -> bool:
    """Whether the rule speaks of every device; crun takes a type "a" so, whatever the numbers."""
    kind, major, minor = _rule_key(rule)
    return kind == "a" or (kind == "" and major == minor == -1)


def _device_type(kind: str) -> str:
    """`u`, an unbuffered character device, is an ordinary one on Linux (mknod(1))."""
    return "c" if kind == "u" else kind

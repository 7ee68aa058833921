"""The OCI document of a request: a `Spec` or `Process` message becomes runtime-spec JSON.

The messages of both generations name their fields after the Go structures of the runtime
specification, so one walk over the fields that are set serves both, and whatever a generation adds
(seccomp flags, createRuntime hooks) comes along by its name. Pure: no message class is imported.

Presence. proto3 numbers and texts have none, so a zero may mean "zero" or "not given". The hosts
copy a missing pointer as zero; hence zero is left out, except in the fields of `_ALWAYS`, where zero
is what was meant or the runtime specification requires the field. Negative numbers (-1: no limit)
are carried over.

Sources: opencontainers/runtime-spec config.md and config-linux.md (names, required fields);
kata-containers/agent pkg/types and kata-containers src/agent/rustjail (what the hosts send).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

JsonValue: TypeAlias = Any
JsonObject: TypeAlias = dict[str, Any]
Message: TypeAlias = Any  # of either generation: the two have no type in common

OCI_VERSION = "1.0.2"  # for a host that leaves Spec.Version empty; what crun 1.8 speaks

# JSON names that are not the proto name with its first letter lowered.
_NAMES: Mapping[str, str] = {
    "Version": "ociVersion",
    "UIDMappings": "uidMappings",
    "GIDMappings": "gidMappings",
    "OOMScoreAdj": "oomScoreAdj",
    "UID": "uid",
    "GID": "gid",
    "CPU": "cpu",
    "Pagesize": "pageSize",
    "errnoret": "errnoRet",
}

# Fields that are written even when they are zero or empty, by message.
_ALWAYS: Mapping[str, frozenset[str]] = {
    "Process": frozenset({"Args", "Cwd", "NoNewPrivileges", "OOMScoreAdj", "Terminal"}),
    "User": frozenset({"UID", "GID"}),
    "Box": frozenset({"Height", "Width"}),
    "POSIXRlimit": frozenset({"Type", "Hard", "Soft"}),
    "Root": frozenset({"Path", "Readonly"}),
    "Mount": frozenset({"destination"}),
    "Hook": frozenset({"Path"}),
    "LinuxIDMapping": frozenset({"HostID", "ContainerID", "Size"}),
    "LinuxNamespace": frozenset({"Type"}),
    "LinuxDevice": frozenset({"Path", "Type", "Major", "Minor", "UID", "GID"}),
    "LinuxDeviceCgroup": frozenset({"Allow"}),
    "LinuxWeightDevice": frozenset({"Major", "Minor"}),
    "LinuxThrottleDevice": frozenset({"Major", "Minor", "Rate"}),
    "LinuxHugepageLimit": frozenset({"Pagesize", "Limit"}),
    "LinuxInterfacePriority": frozenset({"Name", "Priority"}),
    "LinuxSeccomp": frozenset({"DefaultAction"}),
    "LinuxSyscall": frozenset({"Names", "Action"}),
    "LinuxSeccompArg": frozenset({"Index", "Value", "ValueTwo", "Op"}),
}

# Other operating systems' sections; they carry nothing in either generation.
_LEFT_OUT = frozenset({"Solaris", "Windows"})


def spec_document(spec: Message) -> JsonObject:
    """The runtime-spec document of a `Spec` message.

    A missing version becomes `OCI_VERSION`; a missing `linux` section becomes an empty one, so that
    whoever edits the document need not ask.
    """
    document = _convert(spec)
    document.setdefault("ociVersion", OCI_VERSION)
    document.setdefault("linux", {})
    return document


def resources_document(resources: Message) -> JsonObject:
    """The `linux.resources` object of a `LinuxResources` message."""
    return _convert(resources)


def process_document(process: Message) -> JsonObject:
    """The `process` object of a `Process` message, as `crun exec --process` takes it."""
    return _convert(process)


def _convert(message: Message) -> JsonObject:
    kind = message.DESCRIPTOR.name
    document = {_json_name(name): _value(message, name) for name in _fields(message)}
    quirk = _QUIRKS.get(kind)
    return quirk(document) if quirk else document


def _fields(message: Message) -> Iterable[str]:
    """The names of the fields to write, in the order of the schema."""
    present = {field.name for field, _ in message.ListFields()}
    wanted = present | _ALWAYS.get(message.DESCRIPTOR.name, frozenset())
    return [
        field.name
        for field in message.DESCRIPTOR.fields
        if field.name in wanted and field.name not in _LEFT_OUT
    ]


def _value(message: Message, name: str) -> JsonValue:
    field = message.DESCRIPTOR.fields_by_name[name]
    value = getattr(message, name)
    if field.message_type is None:
        return list(value) if field.is_repeated else value
    if field.message_type.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        return [_convert(item) for item in value]
    return _convert(value)


def _json_name(name: str) -> str:
    return _NAMES.get(name) or name[0].lower() + name[1:]


def _process(process: JsonObject) -> JsonObject:
    """The two fields that config.md requires: a process starts in `/` as root unless told otherwise."""
    process["cwd"] = process["cwd"] or "/"
    process.setdefault("user", {"uid": 0, "gid": 0})
    return process


def _device_rule(rule: JsonObject) -> JsonObject:
    """A rule without numbers speaks of every device.

    The hosts send a missing major or minor as 0. No device has the major 0, so it is a wildcard;
    a minor of 0 under a real major is a device of its own and stays (`b 8:0` must not widen to `b 8:*`).
    """
    major, minor = rule.pop("major", 0), rule.pop("minor", 0)
    if major > 0:
        rule["major"] = major
        if minor >= 0:
            rule["minor"] = minor
    elif minor > 0:
        rule["minor"] = minor
    return rule


def _device(device: JsonObject) -> JsonObject:
    """Only permission bits in `fileMode`: Go hosts send their own type bits above them (os.FileMode)."""
    if "fileMode" in device:
        device["fileMode"] &= 0o7777
    return device


def _resources(resources: JsonObject) -> JsonObject:
    """Sections that say nothing go: `{"pids": {}}` lacks its required limit and would be refused."""
    return {name: section for name, section in resources.items() if section != {}}


_QUIRKS: Mapping[str, Callable[[JsonObject], JsonObject]] = {
    "Process": _process,
    "LinuxDeviceCgroup": _device_rule,
    "LinuxDevice": _device,
    "LinuxResources": _resources,
}

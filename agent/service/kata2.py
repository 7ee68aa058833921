"""Kata 2 to 4: their messages, and what their hosts expect.

Source: kata-containers src/agent/src/rpc.rs and netlink.rs at 4.1.0.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.errors import (
    AlreadyExists,
    Generation,
    InvalidRequest,
    NotFound,
    StatusCode,
    Unavailable,
    WrongState,
)
from agent.network.interfaces import Interface
from agent.network.routes import Route
from agent.sandbox.sandbox import UnknownContainer
from agent.service import messages, requests
from agent.service.rules import ANY_METHOD, CopyRules, ProcessorRules, Rules, UpdateRules
from agent.service.stats_messages import as_counted, encode_stats
from agent.storage.handler import FsGroup, StorageRequest
from agent.storage.volumes import VolumeUsage
from protos import kata2

_ON_ROOT_MISMATCH = 1  # FSGroupChangePolicy
_FAMILY_V6 = 1  # types.IPFamily
_UNIT_BYTES, _UNIT_INODES = 1, 2  # VolumeUsage.Unit

RULES = Rules(
    generation=Generation.KATA2,
    codes={
        ANY_METHOD: {UnknownContainer: StatusCode.INVALID_ARGUMENT},
        "StartContainer": {UnknownContainer: StatusCode.INTERNAL},
        "RemoveContainer": {UnknownContainer: StatusCode.INTERNAL},
        "ExecProcess": {UnknownContainer: StatusCode.INTERNAL, AlreadyExists: StatusCode.INTERNAL},
        "WriteStdin": {
            UnknownContainer: StatusCode.INTERNAL,
            NotFound: StatusCode.INTERNAL,
            Unavailable: StatusCode.INTERNAL,
        },
        "PauseContainer": {WrongState: StatusCode.INTERNAL},
        "ResumeContainer": {WrongState: StatusCode.INTERNAL},
        "GetDiagnosticData": {NotFound: StatusCode.INTERNAL, UnknownContainer: StatusCode.INTERNAL},
        "UpdateInterface": {NotFound: StatusCode.INTERNAL},
        "ReseedRandomDev": {InvalidRequest: StatusCode.INTERNAL},
        "CopyFile": {InvalidRequest: StatusCode.INTERNAL},
        "AddSwap": {InvalidRequest: StatusCode.INTERNAL},
        "AddSwapPath": {InvalidRequest: StatusCode.INTERNAL},
        "UpdateEphemeralMounts": {InvalidRequest: StatusCode.INTERNAL},
    },
    needs_sandbox=frozenset(),
    empty_exec_id_is_init=True,
    init_answers_to_exec_id=False,
    only_sigkill_goes_to_all=True,
    handled_signal_fields=("SigBlk", "SigIgn", "SigCgt"),
    empty_write_closes_stdin=True,
    write_after_close_is_dropped=False,
    refuses_pid_namespace=False,
    shared_pid_namespace_must_exist=True,
    destroy_shuts_down=True,
    network_replaces=False,
    unknown_service_is_invalid=True,
    names_device_handlers=False,
    acpi_spares_memory_probe=False,
    reseed_is_best_effort=False,
    oom_spares_sandbox_container=True,
    updates=UpdateRules(needs_resources=False, ignored=frozenset(), unknown_cpus_mean_all=False),
    copies=CopyRules(
        root="/run/kata-containers/shared/containers", mode_bits=0o7777, owner_gets_parents=True
    ),
    processors=ProcessorRules(count_is_total=True, may_go_on_behind=False, timeout_s=5.0),
)


def _storage(message: kata2.Storage) -> StorageRequest:
    fs_group = None
    if message.HasField("fs_group"):
        group = message.fs_group
        fs_group = FsGroup(group.group_id, group.group_change_policy == _ON_ROOT_MISMATCH)
    return messages.storage(message, fs_group=fs_group, shared=message.shared)


def _create_sandbox(message: kata2.CreateSandboxRequest) -> requests.CreateSandbox:
    return messages.create_sandbox(message, [_storage(each) for each in message.storages])


def _create_container(message: kata2.CreateContainerRequest) -> requests.CreateContainer:
    storages = [_storage(each) for each in message.storages]
    shared = [
        requests.SharedMount(each.src_ctr, each.src_path, each.dst_path) for each in message.shared_mounts
    ]
    return messages.create_container(message, storages, shared_mounts=shared, ports=_ports(message))


def _ports(message: kata2.CreateContainerRequest | kata2.ExecProcessRequest) -> requests.StreamPorts:
    return requests.StreamPorts(message.stdin_port, message.stdout_port, message.stderr_port)


def _update_interface(message: kata2.UpdateInterfaceRequest) -> requests.UpdateInterface:
    if not message.HasField("interface"):
        return requests.UpdateInterface(None)
    return requests.UpdateInterface(
        messages.interface(message.interface, device_path=message.interface.devicePath)
    )


def _update_routes(message: kata2.UpdateRoutesRequest) -> requests.UpdateRoutes:
    if not message.HasField("routes"):
        return requests.UpdateRoutes(None)
    return requests.UpdateRoutes(
        tuple(
            Route(
                dest=each.dest,
                gateway=each.gateway,
                device=each.device,
                source=each.source,
                scope=each.scope,
                ipv6=each.family == _FAMILY_V6,
                flags=each.flags,
                mtu=each.mtu,
            )
            for each in message.routes.Routes
        )
    )


def _encode_read(answer: requests.StreamData) -> kata2.ReadStreamResponse:
    """The end of a stream is an answer without data."""
    return kata2.ReadStreamResponse(data=answer.data)


def _encode_interface(answer: Interface) -> kata2.Interface:
    message = kata2.Interface()
    messages.fill_interface(message, answer, device_path_field="devicePath")
    return message


def _encode_interfaces(answer: Sequence[Interface]) -> kata2.Interfaces:
    """MACs in upper case, as the Rust agent lists them."""
    encoded = [_encode_interface(each) for each in answer]
    for each in encoded:
        each.hwAddr = each.hwAddr.upper()
    return kata2.Interfaces(Interfaces=encoded)


def _encode_routes(answer: Sequence[Route]) -> kata2.Routes:
    """The default route goes to the unspecified address; one that has no gateway either is not told.

    The Rust agent overwrites the destination of every route through a gateway, and for IPv6 with
    "::1". That loses what the route is for, so here only the default route is written so.
    """
    return kata2.Routes(
        Routes=[
            kata2.Route(
                dest=each.dest or ("::" if each.ipv6 else "0.0.0.0"),
                gateway=each.gateway,
                device=each.device,
                source=each.source,
                scope=each.scope,
                family=_FAMILY_V6 if each.ipv6 else 0,
                mtu=each.mtu,
            )
            for each in answer
            if each.dest or each.gateway
        ]
    )


def _encode_volume_stats(answer: VolumeUsage) -> kata2.VolumeStatsResponse:
    """Bytes first, then inodes; a volume that could be looked at is in order."""
    usages = ((_UNIT_BYTES, answer.size_bytes), (_UNIT_INODES, answer.inodes))
    return kata2.VolumeStatsResponse(
        usage=[
            kata2.VolumeUsage(unit=unit, total=each.total, used=each.used, available=each.available)
            for unit, each in usages
        ],
        volume_condition=kata2.VolumeCondition(abnormal=False, message="OK"),
    )


def _encode_guest_details(answer: requests.GuestDetails) -> kata2.GuestDetailsResponse:
    message: kata2.GuestDetailsResponse = messages.encode_guest_details(kata2, answer)
    message.agent_details.extra_features.extend(answer.extra_features)
    return message


CODEC = messages.Codec(
    kata2,
    decoders={
        **messages.SHARED_DECODERS,
        "CreateSandbox": _create_sandbox,
        "CreateContainer": _create_container,
        "ExecProcess": lambda m: messages.exec_process(m, _ports(m)),
        "GetDiagnosticData": lambda m: requests.GetDiagnosticData(m.log_type, m.container_id),
        "UpdateInterface": _update_interface,
        "UpdateRoutes": _update_routes,
        "GetVolumeStats": lambda m: requests.GetVolumeStats(m.volume_guest_path),
        "ResizeVolume": lambda m: requests.ResizeVolume(m.volume_guest_path, m.size),
        "UpdateEphemeralMounts": lambda m: requests.UpdateEphemeralMounts(
            tuple(_storage(each) for each in m.storages)
        ),
        "RemoveStaleVirtiofsShareMounts": messages.no_arguments,
        "GetMetrics": messages.no_arguments,
        "GetIPTables": lambda m: requests.GetIpTables(m.is_ipv6),
        "SetIPTables": lambda m: requests.SetIpTables(m.is_ipv6, m.data),
        "AddSwap": lambda m: requests.AddSwap(tuple(m.PCIPath)),
        "AddSwapPath": lambda m: requests.AddSwapPath(m.path),
        "MemAgentMemcgSet": messages.no_arguments,
        "MemAgentCompactSet": messages.no_arguments,
    },
    encoders={
        **messages.shared_encoders(kata2),
        "ReadStdout": _encode_read,
        "ReadStderr": _encode_read,
        "StatsContainer": lambda answer: encode_stats(kata2, answer, block_io_view=as_counted),
        "GetDiagnosticData": lambda answer: kata2.GetDiagnosticDataResponse(data=answer),
        "UpdateInterface": _encode_interface,
        "ListInterfaces": _encode_interfaces,
        "UpdateRoutes": _encode_routes,
        "ListRoutes": _encode_routes,
        "GetVolumeStats": _encode_volume_stats,
        "GetMetrics": lambda answer: kata2.Metrics(metrics=answer),
        "GetIPTables": lambda answer: kata2.GetIPTablesResponse(data=answer),
        "SetIPTables": lambda answer: kata2.SetIPTablesResponse(data=answer),
        "GetGuestDetails": _encode_guest_details,
    },
)

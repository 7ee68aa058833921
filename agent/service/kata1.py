"""Kata 1.x: its messages, and what its hosts expect. Source: kata-containers/agent grpc.go, agent.go."""

from __future__ import annotations

from collections.abc import Sequence

from agent.errors import (
    CodedError,
    DeadlineExceeded,
    Generation,
    InvalidRequest,
    KernelRefused,
    NotFound,
    StatusCode,
    WrongState,
)
from agent.network.interfaces import Interface
from agent.network.routes import Route
from agent.sandbox.sandbox import UnknownContainer
from agent.service import messages, requests
from agent.service.rules import CopyRules, ProcessorRules, Rules, UpdateRules
from agent.service.stats_messages import as_libcontainer, encode_stats
from protos import kata1

RULES = Rules(
    generation=Generation.KATA1,
    codes={
        "SignalProcess": {UnknownContainer: StatusCode.FAILED_PRECONDITION},
        # What Go's libcontainer refuses comes as an error without a code.
        "UpdateContainer": {InvalidRequest: StatusCode.UNKNOWN, WrongState: StatusCode.UNKNOWN},
        "PauseContainer": {WrongState: StatusCode.UNKNOWN},
        "ResumeContainer": {WrongState: StatusCode.UNKNOWN},
        "ListProcesses": {InvalidRequest: StatusCode.UNKNOWN},
        "UpdateInterface": {NotFound: StatusCode.INTERNAL},
        "ReseedRandomDev": {InvalidRequest: StatusCode.UNKNOWN},
        "SetGuestDateTime": {KernelRefused: StatusCode.INTERNAL},
        "CopyFile": {InvalidRequest: StatusCode.UNKNOWN},
        "OnlineCPUMem": {InvalidRequest: StatusCode.UNKNOWN, DeadlineExceeded: StatusCode.UNKNOWN},
    },
    needs_sandbox=frozenset(
        {
            "CreateContainer",
            "StartContainer",
            "ExecProcess",
            "SignalProcess",
            "WaitProcess",
            "WriteStdin",
            "ReadStdout",
            "ReadStderr",
            "CloseStdin",
            "TtyWinResize",
        }
    ),
    empty_exec_id_is_init=False,
    init_answers_to_exec_id=True,
    only_sigkill_goes_to_all=False,
    handled_signal_fields=("SigCgt",),
    empty_write_closes_stdin=False,
    write_after_close_is_dropped=True,
    refuses_pid_namespace=True,
    shared_pid_namespace_must_exist=False,
    destroy_shuts_down=False,
    network_replaces=True,
    unknown_service_is_invalid=False,
    names_device_handlers=True,
    acpi_spares_memory_probe=True,
    reseed_is_best_effort=True,
    oom_spares_sandbox_container=False,
    updates=UpdateRules(
        needs_resources=True,
        ignored=frozenset(
            {
                "memory.swappiness",
                "memory.disableOOMKiller",
                "blockIO.leafWeight",
                "blockIO.weightDevice",
                "blockIO.throttleReadBpsDevice",
                "blockIO.throttleWriteBpsDevice",
                "blockIO.throttleReadIOPSDevice",
                "blockIO.throttleWriteIOPSDevice",
                "network",
            }
        ),
        unknown_cpus_mean_all=True,
    ),
    copies=CopyRules(root="/run", mode_bits=0o777, owner_gets_parents=False),
    processors=ProcessorRules(count_is_total=False, may_go_on_behind=True, timeout_s=10.0),
)


def _create_sandbox(message: kata1.CreateSandboxRequest) -> requests.CreateSandbox:
    return messages.create_sandbox(message, [messages.storage(each) for each in message.storages])


def _create_container(message: kata1.CreateContainerRequest) -> requests.CreateContainer:
    storages = [messages.storage(each) for each in message.storages]
    return messages.create_container(message, storages, agent_pidns=message.agent_pidns)


def _update_interface(message: kata1.UpdateInterfaceRequest) -> requests.UpdateInterface:
    if not message.HasField("interface"):
        return requests.UpdateInterface(None)
    return requests.UpdateInterface(
        messages.interface(message.interface, device_path=message.interface.pciPath)
    )


def _update_routes(message: kata1.UpdateRoutesRequest) -> requests.UpdateRoutes:
    if not message.HasField("routes"):
        return requests.UpdateRoutes(None)
    return requests.UpdateRoutes(
        tuple(
            Route(each.dest, each.gateway, each.device, each.source, each.scope)
            for each in message.routes.Routes
        )
    )


def _encode_read(answer: requests.StreamData) -> kata1.ReadStreamResponse:
    """The end of a stream is an error whose text is exactly "EOF"; a 1.x host compares it."""
    if answer.at_end:
        raise CodedError(StatusCode.UNKNOWN, "EOF")
    return kata1.ReadStreamResponse(data=answer.data)


def _encode_interface(answer: Interface) -> kata1.Interface:
    message = kata1.Interface()
    messages.fill_interface(message, answer, device_path_field="pciPath")
    return message


def _encode_interfaces(answer: Sequence[Interface]) -> kata1.Interfaces:
    return kata1.Interfaces(Interfaces=[_encode_interface(each) for each in answer])


def _encode_routes(answer: Sequence[Route]) -> kata1.Routes:
    """The default route is the one with an empty destination."""
    return kata1.Routes(
        Routes=[
            kata1.Route(
                dest=each.dest,
                gateway=each.gateway,
                device=each.device,
                source=each.source,
                scope=each.scope,
            )
            for each in answer
        ]
    )


CODEC = messages.Codec(
    kata1,
    decoders={
        **messages.SHARED_DECODERS,
        "CreateSandbox": _create_sandbox,
        "CreateContainer": _create_container,
        "ListProcesses": lambda m: requests.ListProcesses(m.container_id, m.format, tuple(m.args)),
        "UpdateInterface": _update_interface,
        "UpdateRoutes": _update_routes,
    },
    encoders={
        **messages.shared_encoders(kata1),
        "ReadStdout": _encode_read,
        "ReadStderr": _encode_read,
        "StatsContainer": lambda answer: encode_stats(kata1, answer, block_io_view=as_libcontainer),
        "ListProcesses": lambda answer: kata1.ListProcessesResponse(process_list=answer),
        "UpdateInterface": _encode_interface,
        "ListInterfaces": _encode_interfaces,
        "UpdateRoutes": _encode_routes,
        "ListRoutes": _encode_routes,
        "GetGuestDetails": lambda answer: messages.encode_guest_details(kata1, answer),
    },
)

"""From a method's name to its coroutine: what both wires share of handling a request.

One place decodes, checks the order of calls, logs, and fixes the codes that a single method's rule
demands. Only this file and the two generations' own know that there are messages.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from agent.errors import AgentError, CodedError, Generation, InvalidRequest, Unsupported, WrongState
from agent.log import request_name
from agent.service import (
    container_calls,
    file_calls,
    guest_calls,
    health_calls,
    inspection_calls,
    memory_calls,
    metrics_calls,
    network_calls,
    policy_calls,
    process_io_calls,
    resource_calls,
    sandbox_calls,
    volume_calls,
)
from agent.service.agent import Agent
from agent.service.messages import Codec
from agent.service.redaction import describe
from agent.service.rules import Rules

_log = logging.getLogger("agent.service")

AGENT_SERVICE = "grpc.AgentService"
HEALTH_SERVICE = "grpc.Health"

Request: TypeAlias = Any  # each handler takes its own class; the codec makes it by the method's name
Handler = Callable[[Agent, Request, Rules], Awaitable[object]]

ROUTES: Mapping[str, Mapping[str, Handler]] = {
    HEALTH_SERVICE: {
        "Check": health_calls.check,
        "Version": health_calls.version,
    },
    AGENT_SERVICE: {
        "CreateSandbox": sandbox_calls.create_sandbox,
        "DestroySandbox": sandbox_calls.destroy_sandbox,
        "CreateContainer": container_calls.create_container,
        "StartContainer": container_calls.start_container,
        "RemoveContainer": container_calls.remove_container,
        "ExecProcess": container_calls.exec_process,
        "SignalProcess": container_calls.signal_process,
        "UpdateContainer": resource_calls.update_container,
        "StatsContainer": resource_calls.stats_container,
        "PauseContainer": resource_calls.pause_container,
        "ResumeContainer": resource_calls.resume_container,
        "GetOOMEvent": resource_calls.get_oom_event,
        "ListProcesses": inspection_calls.list_processes,
        "GetDiagnosticData": inspection_calls.get_diagnostic_data,
        "WaitProcess": process_io_calls.wait_process,
        "WriteStdin": process_io_calls.write_stdin,
        "ReadStdout": process_io_calls.read_stdout,
        "ReadStderr": process_io_calls.read_stderr,
        "CloseStdin": process_io_calls.close_stdin,
        "TtyWinResize": process_io_calls.tty_win_resize,
        "UpdateInterface": network_calls.update_interface,
        "UpdateRoutes": network_calls.update_routes,
        "ListInterfaces": network_calls.list_interfaces,
        "ListRoutes": network_calls.list_routes,
        "AddARPNeighbors": network_calls.add_neighbours,
        "GetGuestDetails": guest_calls.get_guest_details,
        "ReseedRandomDev": guest_calls.reseed_random_device,
        "SetGuestDateTime": guest_calls.set_guest_date_time,
        "CopyFile": file_calls.copy_file,
        "GetVolumeStats": volume_calls.get_volume_stats,
        "ResizeVolume": volume_calls.resize_volume,
        "UpdateEphemeralMounts": volume_calls.update_ephemeral_mounts,
        "RemoveStaleVirtiofsShareMounts": volume_calls.remove_stale_virtiofs_share_mounts,
        "GetMetrics": metrics_calls.get_metrics,
        "GetIPTables": network_calls.get_iptables,
        "SetIPTables": network_calls.set_iptables,
        "OnlineCPUMem": memory_calls.online_cpu_mem,
        "MemHotplugByProbe": memory_calls.mem_hotplug_by_probe,
        "AddSwap": memory_calls.add_swap,
        "AddSwapPath": memory_calls.add_swap_path,
        "MemAgentMemcgSet": memory_calls.refuse_memory_agent,
        "MemAgentCompactSet": memory_calls.refuse_memory_agent,
        "SetPolicy": policy_calls.set_policy,
    },
}

# The methods that exist on a wire but not in this agent, with what the host is told.
_NO_TRACING = "this agent is not traced"
UNSUPPORTED: Mapping[str, str] = {
    "StartTracing": _NO_TRACING,
    "StopTracing": _NO_TRACING,
}

_MODULES = {Generation.KATA1: "agent.service.kata1", Generation.KATA2: "agent.service.kata2"}


class Router:
    """The agent's side of every call (agent.transports.dispatch.Dispatcher)."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._dialects: dict[Generation, tuple[Codec, Rules]] = {}

    async def call(
        self, generation: Generation, service: str, method: str, payload: bytes, metadata: Mapping[str, str]
    ) -> bytes:
        """Run one RPC and return the bytes of its answer. Raises AgentError, with the code it is to have."""
        request_name.set(f"/{service}/{method}")  # a call has a task, and so a context, of its own
        codec, rules = self._dialect(generation)
        try:
            handler = _handler(service, method, codec, rules)
            message = codec.parse(service, method, payload)
            request = codec.read(method, message)
            if service == AGENT_SERVICE and self._agent.policy.is_set:
                handler = policy_calls.under_policy(handler, method, message)
            if _log.isEnabledFor(logging.DEBUG):
                answer = await self._logged(handler, method, request, rules)
            else:
                answer = await self._run(handler, method, request, rules)
        except AgentError as error:
            code = rules.recode(method, error)
            _log.warning("request failed", extra={"error": str(error)})
            if code is None:
                raise
            raise CodedError(code, str(error)) from error
        return codec.encode(method, answer)

    async def _run(self, handler: Handler, method: str, request: Request, rules: Rules) -> object:
        if method in rules.needs_sandbox and not self._agent.sandbox.is_running:
            raise WrongState("Sandbox not started")
        return await handler(self._agent, request, rules)

    async def _logged(self, handler: Handler, method: str, request: Request, rules: Rules) -> object:
        _log.debug("new request", extra={"req": describe(request)})
        began = time.monotonic()
        try:
            return await self._run(handler, method, request, rules)
        finally:
            _log.debug("request end", extra={"duration_s": round(time.monotonic() - began, 6)})

    def _dialect(self, generation: Generation) -> tuple[Codec, Rules]:
        """What speaks with peers of `generation`; its messages are loaded when the first one calls."""
        if generation not in self._dialects:
            module = importlib.import_module(_MODULES[generation])
            self._dialects[generation] = (module.CODEC, module.RULES)
        return self._dialects[generation]


def _handler(service: str, method: str, codec: Codec, rules: Rules) -> Handler:
    """Raises Unsupported for a method without a coroutine; for an unknown service, what its wire has."""
    if service not in ROUTES:
        kind = InvalidRequest if rules.unknown_service_is_invalid else Unsupported
        raise kind(f'"{service}" service does not exist')
    handler = ROUTES[service].get(method)
    if handler is None or not codec.has(service, method):
        reason = UNSUPPORTED.get(method, f"{service} has no such method for this generation of hosts")
        raise Unsupported(f"{method}: {reason}")
    return handler

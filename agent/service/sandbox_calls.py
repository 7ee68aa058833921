"""The life of the sandbox: what all its containers share is made here, and goes with it."""

from __future__ import annotations

import asyncio
import logging
import os
from functools import partial

from agent import log
from agent.errors import AgentError, CodedError, InvalidRequest, KernelRefused, StatusCode, WrongState
from agent.linux.blocking import run_blocking
from agent.linux.namespaces import NamespaceKind, pin_new_namespace, unpin_namespace
from agent.processes.completion import run_to_completion
from agent.processes.spawn import run
from agent.sandbox.guest_hooks import find_guest_hooks
from agent.sandbox.sandbox import SandboxState
from agent.service.agent import Agent
from agent.service.container_calls import start_removal
from agent.service.pause_process import start_pause_process
from agent.service.requests import CreateSandbox, KernelModule, NoArguments
from agent.service.resolv_conf import install_resolv_conf
from agent.service.rules import Rules
from agent.storage.apply import attach_storages

_log = logging.getLogger("agent.service.sandbox")

_MODPROBE = "/sbin/modprobe"
_MODPROBE_TIMEOUT_S = 30.0  # assumed: a driver may probe slow hardware


async def create_sandbox(agent: Agent, request: CreateSandbox, rules: Rules) -> None:
    """Make what the containers are to share.

    A second call is refused before anything is touched. After a failure all is undone (but for
    kernel modules, which stay loaded), and the call may be repeated.

    Raises AlreadyExists, InvalidRequest, DeviceTimeout, KernelRefused, LaunchFailed.
    """
    sandbox = agent.sandbox
    sandbox.begin(request.sandbox_id, request.hostname)
    try:
        await _set_up(agent, request)
    except BaseException:
        await run_to_completion(_roll_back(agent))
        raise
    sandbox.state = SandboxState.RUNNING
    log.set_sandbox(request.sandbox_id)
    _log.info("sandbox created", extra={"hostname": request.hostname})


async def destroy_sandbox(agent: Agent, request: NoArguments, rules: Rules) -> None:
    """Remove all containers and what they shared; a later host's agent then shuts down.

    Everything is tried; the first failure is what the host is told. Without a sandbox there is
    nothing to do. Raises KernelRefused.
    """
    if rules.destroy_shuts_down and agent.shutdown.is_set():
        raise CodedError(StatusCode.INTERNAL, "the sandbox has been destroyed and the agent is shutting down")
    try:
        await run_to_completion(tear_down(agent))
    finally:
        if rules.destroy_shuts_down:
            agent.oom_events.close()
            agent.shutdown.set()


async def tear_down(agent: Agent) -> None:
    """Remove all containers, then what they shared; nothing if there are neither.

    Raises the first failure when all has been tried; WrongState while the sandbox is being made or
    destroyed.
    """
    await agent.copied_files.discard_unfinished()
    sandbox = agent.sandbox
    if sandbox.state is SandboxState.ABSENT and not sandbox.members():
        return
    if sandbox.state in (SandboxState.STARTING, SandboxState.STOPPING):
        raise WrongState(f"the sandbox cannot be destroyed: it is {sandbox.state.value}")
    shared = sandbox.begin_stopping()
    failures: list[BaseException] = []
    try:
        members = sandbox.members()
        results = await asyncio.gather(
            *(start_removal(agent, member) for member in members), return_exceptions=True
        )
        failures += [result for result in results if isinstance(result, BaseException)]
        try:
            await shared.aclose()
            await sandbox.storages.release_leftovers()
        except AgentError as error:
            failures.append(error)
    finally:
        sandbox.clear()
    await run_blocking(os.sync)
    if failures:
        raise failures[0]
    _log.info("sandbox destroyed")


async def _set_up(agent: Agent, request: CreateSandbox) -> None:
    sandbox = agent.sandbox
    for module in request.kernel_modules:
        await _load_module(agent, module)
    if request.guest_hook_path:
        sandbox.guest_hooks = await run_blocking(find_guest_hooks, request.guest_hook_path)
    await _pin_namespaces(agent, request.hostname)
    # The 4.x agent ignores the wish. Its host never has it without a pause container of its own, to
    # which ours makes no difference; a host without one gets what it asks for.
    if request.sandbox_pidns:
        sandbox.shares_pid_namespace = True
        sandbox.pid_namespace = await start_pause_process(agent.reaper, sandbox.teardown)
    await attach_storages(
        request.storages,
        guest=agent.guest,
        registry=agent.registry,
        ledger=sandbox.storages,
        stack=sandbox.teardown,
    )
    if request.dns:
        await install_resolv_conf(agent.guest_paths, request.dns, sandbox.teardown)


async def _pin_namespaces(agent: Agent, hostname: str) -> None:
    """The ipc and uts namespaces that all containers join; `hostname` is that of the latter."""
    sandbox = agent.sandbox
    names: dict[NamespaceKind, str | None] = {"ipc": None, "uts": hostname or None}
    paths: dict[NamespaceKind, str] = {}
    for kind, name in names.items():
        path = os.path.join(agent.guest_paths.namespaces, kind)
        try:
            await run_blocking(pin_new_namespace, kind, path, name, undo=partial(_unpin, path))
        except OSError as error:
            raise KernelRefused.from_oserror(f"new {kind} namespace", error) from error
        sandbox.teardown.push_async_callback(run_blocking, _unpin, path, None)
        paths[kind] = path
    sandbox.namespaces = paths


def _unpin(path: str, _result: None) -> None:
    try:
        unpin_namespace(path)
    except OSError as error:
        raise KernelRefused.from_oserror("giving up a namespace", error) from error


async def _load_module(agent: Agent, module: KernelModule) -> None:
    if not module.name or module.name.startswith("-"):
        raise InvalidRequest(f'"{module.name}" is no name of a kernel module')
    done = await run(
        agent.reaper, [_MODPROBE, "-v", module.name, *module.parameters], timeout_s=_MODPROBE_TIMEOUT_S
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise KernelRefused(f"loading kernel module {module.name} failed with {done.returncode}: {said}")


async def _roll_back(agent: Agent) -> None:
    """Undo a failed CreateSandbox. What cannot be undone is logged: the host hears of the first failure."""
    try:
        await agent.sandbox.teardown.aclose()
    except Exception as error:  # noqa: BLE001 - as above
        _log.error("undoing a failed CreateSandbox", exc_info=error)
    agent.sandbox.clear()

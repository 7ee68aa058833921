"""The life of a container: create, start, exec, signal, remove.

CreateContainer and ExecProcess are transactions: after a failure, or when the host gives up on one, the
guest is what it was. The other calls, once begun, run to their end even if the host has gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import AsyncExitStack

from agent.containers.container import Container, ContainerStatus
from agent.errors import DeadlineExceeded, InvalidRequest
from agent.linux.signals import handles_signal
from agent.processes.completion import run_to_completion
from agent.sandbox.sandbox import Member
from agent.service.agent import Agent
from agent.service.container_setup import check_spec, prepare
from agent.service.names import check_container_id, check_exec_id
from agent.service.process_io_calls import find_process
from agent.service.requests import (
    CreateContainer,
    ExecProcess,
    ProcessName,
    RemoveContainer,
    SignalProcess,
    StartContainer,
)
from agent.service.resource_calls import watch_oom
from agent.service.rules import Rules
from agent.service.shared_mounts import check_shared_mounts, share_mounts
from agent.service.stream_ports import connect_streams, named_connections
from agent.storage.mount_points import normal_path

_log = logging.getLogger("agent.service.containers")

_HIGHEST_SIGNAL = 64  # SIGRTMAX of signal(7)


async def create_container(agent: Agent, request: CreateContainer, rules: Rules) -> None:
    """Create a container up to the point where its command could run.

    Raises AlreadyExists before anything else is looked at; then InvalidRequest, Unsupported,
    WrongState, DeviceTimeout, KernelRefused, LaunchFailed.
    """
    sandbox = agent.sandbox
    sandbox.check_id_is_free(request.container_id)
    check_container_id(request.container_id)
    if request.exec_id:
        check_exec_id(request.exec_id)
    spec = check_spec(request, rules)
    check_shared_mounts(request)
    member = sandbox.reserve(request.container_id)
    try:
        async with member.lock, AsyncExitStack() as undo_on_failure:
            plan = await prepare(agent, request, spec, rules, member, undo_on_failure=undo_on_failure)
            container = await Container.create(
                plan, paths=agent.runtime_paths, reaper=agent.reaper, stack=member.teardown
            )
            await share_mounts(agent, request, container)
            async with named_connections(agent, request.ports) as connections:
                connect_streams(container.init, connections)
            undo_on_failure.pop_all()
            _offer_pid_namespace(agent, member, container)
            _keep_shared_storages(agent, request)
            member.container = container
    except BaseException:
        await run_to_completion(_roll_back(agent, member))
        raise
    _log.info("container created", extra={"container": request.container_id})


async def start_container(agent: Agent, request: StartContainer, rules: Rules) -> None:
    """Let the container's command run. Raises UnknownContainer, WrongState, LaunchFailed."""
    container = agent.sandbox.container(request.container_id)
    if container.status is ContainerStatus.CREATED:
        watch_oom(agent, container, rules)
    await container.start()


async def exec_process(agent: Agent, request: ExecProcess, rules: Rules) -> None:
    """Run one more process in a container; answers once its command runs.

    Raises UnknownContainer, InvalidRequest, WrongState, AlreadyExists, LaunchFailed.
    """
    container = agent.sandbox.container(request.container_id)
    check_exec_id(request.exec_id)
    process = request.process
    if process is None:
        raise InvalidRequest("the request has no process")
    async with named_connections(agent, request.ports) as connections:
        launched = await container.execute(request.exec_id, process, agent.config.container_pipe_size)
        connect_streams(launched, connections)


async def signal_process(agent: Agent, request: SignalProcess, rules: Rules) -> None:
    """Send a signal to one process, or to all that the container has.

    Without an exec id a 1.x host means all of them; a later one only with SIGKILL, and else init. To
    a process that has exited, a signal is a success without effect.

    Raises UnknownContainer, NotFound, InvalidRequest, KernelRefused.
    """
    container = agent.sandbox.container(request.container_id)
    signum = request.signal
    if not 0 <= signum <= _HIGHEST_SIGNAL:
        raise InvalidRequest(f"signal {signum} does not exist")
    if rules.only_sigkill_goes_to_all:
        everyone = not request.exec_id and signum == signal.SIGKILL
    else:
        if container.status is ContainerStatus.STOPPED:
            return
        everyone = not request.exec_id or container.status is ContainerStatus.PAUSED
    if everyone:
        await run_to_completion(container.signal(signum, exec_id=None))
        return
    process = find_process(agent, ProcessName(request.container_id, request.exec_id), rules)
    # The kernel drops a signal without handler that is sent to a pid namespace's first process
    # (pid_namespaces(7)); both reference agents send SIGKILL in its place.
    if (
        signum == signal.SIGTERM
        and process is container.init
        and not handles_signal(process.pid, signum, rules.handled_signal_fields)
    ):
        signum = signal.SIGKILL
    await run_to_completion(container.signal(signum, exec_id=process.exec_id))


async def remove_container(agent: Agent, request: RemoveContainer, rules: Rules) -> None:
    """Kill what runs in the container and undo all that its creation did.

    With a timeout the caller is let go after so many seconds, while the removal goes on; a later call
    joins it. Raises UnknownContainer, DeadlineExceeded, KernelRefused.
    """
    removal = start_removal(agent, agent.sandbox.member(request.container_id))
    done, _ = await asyncio.wait([removal], timeout=request.timeout_s or None)
    if not done:
        raise DeadlineExceeded(
            f'container "{request.container_id}" was not removed within {request.timeout_s} s; '
            "the removal goes on"
        )
    removal.result()


def start_removal(agent: Agent, member: Member[Container]) -> asyncio.Task[None]:
    """The removal of `member`: the one under way, or a new one. Its failure is logged."""
    if member.removal is None:
        member.removal = asyncio.create_task(_remove(agent, member), name=f"remove {member.id}")
        member.removal.add_done_callback(lambda task: _settle(member, task))
    return member.removal


async def _remove(agent: Agent, member: Member[Container]) -> None:
    async with member.lock:
        if member.container is None:
            return  # its creation has failed meanwhile
        await member.container.remove()
        await member.teardown.aclose()
        await agent.sandbox.storages.release_leftovers()
    agent.sandbox.forget(member)
    _log.info("container removed", extra={"container": member.id})


def _settle(member: Member[Container], task: asyncio.Task[None]) -> None:
    """After a failure the next call may try again."""
    if task.cancelled() or task.exception() is not None:
        member.removal = None
        if not task.cancelled():
            _log.error("removing a container", extra={"container": member.id, "error": str(task.exception())})


async def _roll_back(agent: Agent, member: Member[Container]) -> None:
    """Undo a creation. If that fails too, the id stays taken: what is left must not be built upon."""
    try:
        await member.teardown.aclose()
    except Exception as error:  # noqa: BLE001 - the failure that led here is what the host is told
        _log.error(
            "undoing a failed creation", extra={"container": member.id, "error": str(error)}, exc_info=error
        )
        return
    agent.sandbox.forget(member)


def _keep_shared_storages(agent: Agent, request: CreateContainer) -> None:
    """Have the sandbox keep what the host wants shared. Not before the container is there: after a
    failure nothing may stay.
    """
    for storage in request.storages:
        if storage.shared:
            agent.sandbox.keep_storage(normal_path(storage.mount_point))


def _offer_pid_namespace(agent: Agent, member: Member[Container], container: Container) -> None:
    """Make the first container's pid namespace the one that later ones may share.

    The namespace is named by a descriptor of the agent's, because the pid may come to mean another
    process; it is dropped with the container, whose end is the namespace's end.
    """
    sandbox = agent.sandbox
    if sandbox.pid_namespace is not None or len(sandbox.members()) > 1:
        return
    try:
        descriptor = os.open(f"/proc/{container.init.pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return  # init is gone already, and nobody can join its namespace
    path = f"/proc/{os.getpid()}/fd/{descriptor}"
    sandbox.pid_namespace = path

    def withdraw() -> None:
        if sandbox.pid_namespace == path:
            sandbox.pid_namespace = None
        os.close(descriptor)

    member.teardown.callback(withdraw)

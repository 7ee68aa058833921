"""What a container may use and what it has used: update, stats, pause, resume, and want of memory."""

from __future__ import annotations

import logging

from agent.containers.container import Container
from agent.containers.limits import Resources
from agent.containers.stats import ContainerStats
from agent.containers.stats_reader import read_stats
from agent.errors import CodedError, InvalidRequest, StatusCode
from agent.linux.blocking import run_blocking
from agent.service.agent import Agent
from agent.service.container_setup import online_if_lacking
from agent.service.requests import ContainerName, NoArguments, UpdateContainer
from agent.service.rules import Rules

_log = logging.getLogger("agent.service.containers")


async def update_container(agent: Agent, request: UpdateContainer, rules: Rules) -> None:
    """Set the limits that the request names, all of them or none; the others stay.

    Zero leaves a limit as it is, -1 takes it away. Raises UnknownContainer, InvalidRequest, WrongState,
    Unsupported, KernelRefused.
    """
    member = agent.sandbox.member(request.container_id)
    if request.resources is None:
        if rules.updates.needs_resources:
            raise InvalidRequest("Resources in the request are nil")
        return
    resources = _taken(request.resources, rules)
    async with member.lock:
        # Not the one of before: it may have been removed while the lock was waited for.
        container = agent.sandbox.container(request.container_id)
        await container.update(resources, cpus_may_come=not rules.updates.unknown_cpus_mean_all)


async def stats_container(agent: Agent, request: ContainerName, rules: Rules) -> ContainerStats:
    """What the container has used so far. Waits for nobody: a dying container is looked at, too.

    Raises UnknownContainer.
    """
    container = agent.sandbox.container(request.container_id)
    pid = None if container.init.exited.is_set() else container.init.pid
    return await run_blocking(read_stats, container.cgroup_files, pid)


async def pause_container(agent: Agent, request: ContainerName, rules: Rules) -> None:
    """Freeze all that runs in the container. Raises UnknownContainer, WrongState, KernelRefused."""
    async with agent.sandbox.member(request.container_id).lock:
        await agent.sandbox.container(request.container_id).pause()


async def resume_container(agent: Agent, request: ContainerName, rules: Rules) -> None:
    """Let a paused container go on. Raises UnknownContainer, WrongState, KernelRefused."""
    async with agent.sandbox.member(request.container_id).lock:
        await agent.sandbox.container(request.container_id).resume()


async def get_oom_event(agent: Agent, request: NoArguments, rules: Rules) -> str:
    """Wait for a container in which the kernel kills for want of memory; its id.

    Each event has one caller. Raises CodedError (INTERNAL, no text) once the agent is shutting down.
    """
    container_id = await agent.oom_events.next()
    if container_id is None:
        raise CodedError(StatusCode.INTERNAL, "")
    return container_id


def watch_oom(agent: Agent, container: Container, rules: Rules) -> None:
    """Have GetOOMEvent tell of `container`, which is about to be started. Raises KernelRefused."""
    if rules.oom_spares_sandbox_container and container.id == agent.sandbox.id:
        return
    container.watch_oom(agent.oom_events.report)


def _taken(resources: Resources, rules: Rules) -> Resources:
    """Of what the host sends, that which an update of its generation changes."""
    taken = {}
    for name, section in resources.items():
        if isinstance(section, dict):
            section = {
                field: value
                for field, value in section.items()
                if f"{name}.{field}" not in rules.updates.ignored
            }
        if name not in rules.updates.ignored:
            taken[name] = section
    if "devices" in resources:
        _log.info("device rules of an update are the host's and are not taken")
    cpus = taken.get("cpu", {}).get("cpus")
    if cpus and rules.updates.unknown_cpus_mean_all:
        taken["cpu"] = {**taken["cpu"], "cpus": online_if_lacking(cpus)}
    return taken

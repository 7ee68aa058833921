"""CPUs, memory and swap space that the host adds while the guest runs."""

from __future__ import annotations

import logging

from agent.containers.cpusets import spread_cpus
from agent.devices.address import PciPath
from agent.errors import CodedError, InvalidRequest, KernelRefused, StatusCode
from agent.linux.blocking import run_blocking
from agent.linux.swap import swap_on
from agent.service.agent import Agent
from agent.service.requests import AddSwap, AddSwapPath, NoArguments, OnlineCpusAndMemory, ProbeMemory
from agent.service.rules import Rules

_log = logging.getLogger("agent.service.memory")


async def online_cpu_mem(agent: Agent, request: OnlineCpusAndMemory, rules: Rules) -> None:
    """Put CPUs and memory to use that have been, or are just being, plugged in.

    A host that does not wait is answered at once, where its generation knows the difference, and what
    fails then is only logged. Raises InvalidRequest, DeadlineExceeded, KernelRefused.
    """
    if rules.processors.may_go_on_behind and not request.wait:
        agent.go_on_behind(_online(agent, request, rules), "putting CPUs and memory to use")
        return
    await _online(agent, request, rules)


async def mem_hotplug_by_probe(agent: Agent, request: ProbeMemory, rules: Rules) -> None:
    """Tell the kernel of plugged memory where nobody else does. Raises Unsupported, KernelRefused."""
    await agent.devices.memory.probe(request.addresses)


async def add_swap(agent: Agent, request: AddSwap, rules: Rules) -> None:
    """Swap to a disk that is being plugged in. Raises InvalidRequest, DeviceTimeout, KernelRefused."""
    if not request.pci_path:
        raise InvalidRequest("the request has no PCI path")
    slots = [PciPath.parse(f"{slot:02x}").slots[0] for slot in request.pci_path]
    await _swap_to(await agent.devices.block_node(PciPath(tuple(slots))))


async def add_swap_path(agent: Agent, request: AddSwapPath, rules: Rules) -> None:
    """Swap to a disk, or a file, that is there. Raises InvalidRequest, KernelRefused."""
    if not request.path.startswith("/") or "\0" in request.path:
        raise InvalidRequest(f"swap path {request.path!r} is not absolute")
    await _swap_to(request.path)


async def refuse_memory_agent(agent: Agent, request: NoArguments, rules: Rules) -> None:
    """There is no memory agent here to be set up. The words are those of an agent built without one."""
    raise CodedError(StatusCode.INTERNAL, "mem-agent is disabled")


async def _online(agent: Agent, request: OnlineCpusAndMemory, rules: Rules) -> None:
    if not rules.processors.count_is_total and request.cpus == 0 and request.cpu_only:
        raise InvalidRequest("requested number of CPUs '0' must be greater than 0")
    processors = agent.devices.processors
    if request.cpus > 0:
        total = request.cpus
        if not rules.processors.count_is_total:
            total += processors.online_count()
        await processors.bring_online(total, rules.processors.timeout_s)
    if not request.cpu_only:
        await agent.devices.memory.bring_online()
    if request.cpus > 0:
        await _let_containers_have(agent, processors.online_list())


async def _let_containers_have(agent: Agent, online: str) -> None:
    """Give the CPUs to every container, unless its host has chosen some for it."""
    for member in agent.sandbox.members():
        if member.container is None:
            continue  # it is just being created, with the CPUs there are now
        linux = member.container.spec["linux"]
        own = linux.get("resources", {}).get("cpu", {}).get("cpus", "")
        try:
            await run_blocking(spread_cpus, agent.runtime_paths.cgroups, linux["cgroupsPath"], online, own)
        except OSError as error:
            raise KernelRefused.from_oserror(f"cpuset of container {member.id}", error) from error


async def _swap_to(path: str) -> None:
    try:
        await run_blocking(swap_on, path)
    except OSError as error:
        raise KernelRefused.from_oserror("swapon", error) from error
    _log.info("swap space added", extra={"path": path})

"""The guest's network, as the host wants it. These calls need no sandbox: hosts make them before it."""

from __future__ import annotations

from collections.abc import Sequence

from agent.errors import InvalidRequest
from agent.network import interfaces, iptables, neighbours, routes
from agent.network.interfaces import Interface
from agent.network.routes import Route
from agent.service.agent import Agent
from agent.service.requests import (
    AddNeighbours,
    GetIpTables,
    NoArguments,
    SetIpTables,
    UpdateInterface,
    UpdateRoutes,
)
from agent.service.rules import Rules


async def update_interface(agent: Agent, request: UpdateInterface, rules: Rules) -> Interface:
    """Set up one interface; answers with what was asked for.

    Raises InvalidRequest, DeviceTimeout, NotFound, KernelRefused.
    """
    wanted = request.interface
    if wanted is None:
        raise InvalidRequest("the request has no interface")
    if rules.network_replaces and not wanted.hw_addr:
        raise InvalidRequest("Interface HwAddr empty")
    await interfaces.update_interface(wanted, agent.devices, exclusive_addresses=rules.network_replaces)
    return wanted


async def update_routes(agent: Agent, request: UpdateRoutes, rules: Rules) -> Sequence[Route]:
    """Take over the host's routes; answers with them (1.x), or with the whole table as it is now.

    Raises InvalidRequest, KernelRefused.
    """
    if request.routes is None:
        raise InvalidRequest("the request has no routes")
    await routes.update_routes(request.routes, whole_table=rules.network_replaces)
    if rules.network_replaces:
        return request.routes
    return await routes.list_routes(main_table_only=True)


async def list_interfaces(agent: Agent, request: NoArguments, rules: Rules) -> Sequence[Interface]:
    """Every interface with its addresses. Raises KernelRefused."""
    return await interfaces.list_interfaces()


async def list_routes(agent: Agent, request: NoArguments, rules: Rules) -> Sequence[Route]:
    """The routes of all tables (1.x), or those of the main one. Raises KernelRefused."""
    return await routes.list_routes(main_table_only=not rules.network_replaces)


async def add_neighbours(agent: Agent, request: AddNeighbours, rules: Rules) -> None:
    """Add entries to the neighbour tables. Raises InvalidRequest, KernelRefused."""
    if request.neighbours is None:
        raise InvalidRequest("the request has no neighbors")
    await neighbours.add_neighbours(request.neighbours, exclusive=rules.network_replaces)


async def get_iptables(agent: Agent, request: GetIpTables, rules: Rules) -> bytes:
    """All packet filter rules of one family, as iptables-save(8) writes them.

    Raises Unsupported, KernelRefused, DeadlineExceeded.
    """
    return await iptables.save(agent.reaper, ipv6=request.ipv6)


async def set_iptables(agent: Agent, request: SetIpTables, rules: Rules) -> bytes:
    """Put the tables in `data` in place of what they hold now; what iptables-restore(8) said.

    Raises Unsupported, KernelRefused, DeadlineExceeded.
    """
    return await iptables.restore(agent.reaper, request.data, ipv6=request.ipv6)

"""The guest's routing tables: take over what the host wants, and list what there is.

What differs by generation (kata-containers/agent network.go, kata-containers
src/agent/src/netlink.rs): a 1.x host sends the whole table and everything else goes; a later host
adds to what is there.
"""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.errors import InvalidRequest, KernelRefused
from agent.linux.netlink import (
    PROTO_BOOT,
    PROTO_KERNEL,
    TABLE_MAIN,
    TYPE_UNICAST,
    IpAddress,
    IpNetwork,
    KernelRoute,
    Link,
    RouteSocket,
    open_route_socket,
)
from agent.network.addresses import parse_address, parse_network

_DEFAULT_WORD = "default"  # what ip(8) and 1.x hosts write for the default route


@dataclass(frozen=True, slots=True)
class Route:
    """`types.Route`: an empty `dest` is the default route; `ipv6` settles what the texts leave open."""

    dest: str
    gateway: str = ""
    device: str = ""
    source: str = ""
    scope: int = 0
    ipv6: bool = False
    flags: int = 0
    mtu: int = 0


async def update_routes(wanted: Sequence[Route], *, whole_table: bool) -> None:
    """Put `wanted` into the main table, routes without a gateway first.

    `whole_table` takes away all other routes, but for the kernel's own and the loopback's; if one of
    the new routes is refused, the old ones come back. Everything is checked before the first change.

    Raises InvalidRequest (bad text, no such device), KernelRefused.
    """
    try:
        async with open_route_socket() as socket:
            links = {link.name: link for link in await socket.links()}
            parsed = _direct_first(parse_route(route, links) for route in wanted)
            await _exchange(socket, links, parsed, whole_table=whole_table)
    except OSError as error:
        raise KernelRefused.from_oserror("netlink", error) from error


async def list_routes(*, main_table_only: bool) -> list[Route]:
    """The unicast routes of the guest, as the kernel lists them. Raises KernelRefused."""
    try:
        async with open_route_socket() as socket:
            names = {link.index: link.name for link in await socket.links()}
            routes = await socket.routes()
    except OSError as error:
        raise KernelRefused.from_oserror("netlink", error) from error
    return [
        _describe(route, names)
        for route in routes
        if not main_table_only or (route.table == TABLE_MAIN and route.type == TYPE_UNICAST)
    ]


async def _exchange(
    socket: RouteSocket, links: Mapping[str, Link], wanted: Sequence[KernelRoute], *, whole_table: bool
) -> None:
    """Add `wanted`, after taking away the others if it is the whole table; undo all on a refusal."""
    before = await _changeable(socket, links)
    try:
        if whole_table:
            await _delete_all(socket, before)
        for route in wanted:
            await socket.add_route(route, replace=True)
    except OSError:
        now = await _changeable(socket, links)
        await _delete_all(socket, [route for route in now if route not in before])
        for route in _direct_first(route for route in before if route not in now):
            await socket.add_route(route, replace=True)
        raise


async def _delete_all(socket: RouteSocket, routes: Sequence[KernelRoute]) -> None:
    """Delete `routes`, those through a gateway first, as they may hang on the others."""
    for route in reversed(_direct_first(routes)):
        try:
            await socket.delete_route(route)
        except OSError as error:
            if error.errno != errno.ESRCH:  # gone by itself, as routes do with the one they lead through
                raise


async def _changeable(socket: RouteSocket, links: Mapping[str, Link]) -> list[KernelRoute]:
    """The routes of the main table that are neither the kernel's own nor the loopback's."""
    loopbacks = {link.index for link in links.values() if link.is_loopback}
    return [
        route
        for route in await socket.routes()
        if route.table == TABLE_MAIN and route.protocol != PROTO_KERNEL and route.oif not in loopbacks
    ]


def _direct_first(routes: Iterable[KernelRoute]) -> list[KernelRoute]:
    """`routes` with those that need no gateway in front: a gateway must be reachable when it is used."""
    return sorted(routes, key=lambda route: route.gateway is not None)


def parse_route(route: Route, links: Mapping[str, Link]) -> KernelRoute:
    """`route` in the kernel's terms. Raises InvalidRequest."""
    gateway = parse_address(route.gateway, "gateway") if route.gateway else None
    if gateway is not None and gateway.is_unspecified:
        gateway = None
    preferred, source = _parse_source(route.source)
    destination = _parse_destination(route, gateway or preferred)
    for other in (gateway, preferred, source):
        if other is not None and other.version != destination.version:
            raise InvalidRequest(f"route to {destination}: {other} is of the other IP version")
    if route.device and route.device not in links:
        raise InvalidRequest(f'route to {destination}: the guest has no device "{route.device}"')
    if not route.device and gateway is None:
        raise InvalidRequest(f"route to {destination} names neither a device nor a gateway")
    return KernelRoute(
        destination=destination,
        gateway=gateway,
        oif=links[route.device].index if route.device else None,
        preferred_source=preferred,
        source=source,
        scope=route.scope,
        protocol=PROTO_BOOT,
        flags=route.flags,
        mtu=route.mtu,
    )


def _parse_destination(route: Route, hint: IpAddress | None) -> IpNetwork:
    if route.dest and route.dest != _DEFAULT_WORD:
        return parse_network(route.dest, "dest")
    is_ipv6 = hint.version == 6 if hint is not None else route.ipv6
    return ipaddress.ip_network("::/0" if is_ipv6 else "0.0.0.0/0")


def _parse_source(text: str) -> tuple[IpAddress | None, IpNetwork | None]:
    """(preferred source, source prefix) of a `source` text.

    A plain address, which is what the Go hosts send, and one with the prefix length 0 is the address
    to send from; a network restricts the route to packets from it.
    """
    if not text:
        return None, None
    address, slash, length = text.partition("/")
    if not slash or length == "0":
        return parse_address(address, "source"), None
    return None, parse_network(text, "source")


def _describe(route: KernelRoute, names: Mapping[int, str]) -> Route:
    return Route(
        dest=str(route.destination) if route.destination.prefixlen else "",
        gateway=str(route.gateway) if route.gateway else "",
        device=names.get(route.oif, "") if route.oif is not None else "",
        source=str(route.preferred_source) if route.preferred_source else "",
        scope=route.scope,
        ipv6=route.destination.version == 6,
        mtu=route.mtu,
    )

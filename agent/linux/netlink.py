"""Links, addresses, routes and neighbours of this network namespace, over rtnetlink.

A thin, typed layer over pyroute2: no policy, errors as OSError with the errno of the kernel's answer.
Source: rtnetlink(7); constants from the headers named beside them.

pyroute2 costs 0.1 s and 15 MB to import (measured), so it is imported when the first socket opens,
in the pool of blocking calls.
"""

from __future__ import annotations

import ipaddress
import os
import sys
import types
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from agent.linux.blocking import run_blocking

Pyroute2: TypeAlias = Any  # the library ships no types

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

AF_INET, AF_INET6 = 2, 10  # linux/socket.h

IFF_UP, IFF_LOOPBACK, IFF_NOARP = 0x1, 0x8, 0x80  # linux/if.h
NAME_LIMIT = 15  # IFNAMSIZ of linux/if.h, less the closing zero

_IFA_F_NODAD = 0x02  # linux/if_addr.h

# linux/rtnetlink.h
TABLE_MAIN = 254
PROTO_KERNEL, PROTO_BOOT = 2, 3
SCOPE_UNIVERSE, SCOPE_LINK = 0, 253
TYPE_UNICAST = 1
_RTM_F_CLONED = 0x200
_ROUTE_FLAGS = 0x2 | 0x4  # RTNH_F_PERVASIVE, RTNH_F_ONLINK: what a request may set; the rest is the kernel's

NUD_PERMANENT = 0x80  # linux/neighbour.h


@dataclass(frozen=True, slots=True)
class Link:
    """One network interface; `mac` is lower case, and empty for a link that has none."""

    index: int
    name: str
    mac: str
    mtu: int
    flags: int

    @property
    def is_up(self) -> bool:
        """Whether the link is administratively up (IFF_UP)."""
        return bool(self.flags & IFF_UP)

    @property
    def is_loopback(self) -> bool:
        """Whether this is a loopback device (IFF_LOOPBACK)."""
        return bool(self.flags & IFF_LOOPBACK)


@dataclass(frozen=True, slots=True)
class KernelRoute:
    """One route as the kernel keeps it; a `destination` of prefix length 0 is the default route."""

    destination: IpNetwork
    gateway: IpAddress | None = None
    oif: int | None = None
    preferred_source: IpAddress | None = None
    source: IpNetwork | None = None
    scope: int = SCOPE_UNIVERSE
    protocol: int = PROTO_BOOT
    table: int = TABLE_MAIN
    type: int = TYPE_UNICAST
    flags: int = 0
    mtu: int = 0
    metric: int = 0

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return _family(self.destination)


class RouteSocket:
    """One rtnetlink socket; open it with `open_route_socket`. Every method raises OSError."""

    def __init__(self, ipr: Pyroute2) -> None:
        self._ipr = ipr

    async def links(self) -> list[Link]:
        """All links, the loopback device among them."""
        with _oserrors("RTM_GETLINK", ""):
            return [
                Link(
                    index=message["index"],
                    name=message.get("ifname"),
                    mac=(message.get("address") or "").lower(),
                    mtu=message.get("mtu") or 0,
                    flags=message["flags"],
                )
                async for message in await self._ipr.link("dump")
            ]

    async def change_link(
        self,
        index: int,
        *,
        up: bool | None = None,
        arp: bool | None = None,
        name: str | None = None,
        mtu: int | None = None,
        mac: str | None = None,
    ) -> None:
        """Change what is not None, in one request (RTM_NEWLINK)."""
        change = (IFF_UP if up is not None else 0) | (IFF_NOARP if arp is not None else 0)
        flags = (IFF_UP if up else 0) | (IFF_NOARP if arp is False else 0)
        wanted = {"ifname": name, "mtu": mtu, "address": mac}
        request = {key: value for key, value in wanted.items() if value is not None}
        if change:
            request |= {"flags": flags, "change": change}
        with _oserrors("RTM_NEWLINK", f"link {index}"):
            await self._ipr.link("set", index=index, **request)

    async def addresses(self) -> list[tuple[int, IpInterface]]:
        """(link index, address with its prefix length) of all links, IPv4 before IPv6."""
        found: list[tuple[int, IpInterface]] = []
        with _oserrors("RTM_GETADDR", ""):
            async for message in await self._ipr.addr("dump"):
                # On a point-to-point link IFA_ADDRESS is the other end; IFA_LOCAL is ours.
                text = message.get("local") or message.get("address")
                found.append((message["index"], ipaddress.ip_interface(f"{text}/{message['prefixlen']}")))
        return found

    async def replace_address(self, index: int, address: IpInterface) -> None:
        """Add `address` to a link, or do nothing if it has it; IPv6 without duplicate detection."""
        extra: dict[str, int] = {"flags": _IFA_F_NODAD} if address.version == 6 else {}
        with _oserrors("RTM_NEWADDR", f"{address} on link {index}"):
            await self._ipr.addr("replace", **_address(index, address), **extra)

    async def delete_address(self, index: int, address: IpInterface) -> None:
        """Take `address` from a link."""
        with _oserrors("RTM_DELADDR", f"{address} on link {index}"):
            await self._ipr.addr("del", **_address(index, address))

    async def routes(self) -> list[KernelRoute]:
        """All routes of all tables, without the kernel's cache of IPv6 routes."""
        with _oserrors("RTM_GETROUTE", ""):
            return [
                _kernel_route(message)
                async for message in await self._ipr.route("dump")
                if message["family"] in (AF_INET, AF_INET6) and not message["flags"] & _RTM_F_CLONED
            ]

    async def add_route(self, route: KernelRoute, *, replace: bool) -> None:
        """Add `route`; `replace` puts it in the place of one with the same destination and metric."""
        with _oserrors("RTM_NEWROUTE", str(route.destination)):
            await self._ipr.route("replace" if replace else "add", **_route_request(route))

    async def delete_route(self, route: KernelRoute) -> None:
        """Delete `route`."""
        with _oserrors("RTM_DELROUTE", str(route.destination)):
            await self._ipr.route("del", **_route_request(route))

    async def replace_neighbour(
        self, index: int, address: IpAddress, mac: str, *, state: int, flags: int, exclusive: bool
    ) -> None:
        """Put a neighbour entry; `exclusive` fails with EEXIST if there is one. `mac` may be empty."""
        request: dict[str, Any] = {"ifindex": index, "dst": str(address), "state": state, "flags": flags}
        request["family"] = AF_INET if address.version == 4 else AF_INET6
        if mac:
            request["lladdr"] = mac
        with _oserrors("RTM_NEWNEIGH", f"{address} on link {index}"):
            await self._ipr.neigh("add" if exclusive else "replace", **request)


@asynccontextmanager
async def open_route_socket() -> AsyncIterator[RouteSocket]:
    """A socket into the network namespace of the calling thread, closed at the end of the block."""
    async_iproute = await run_blocking(_import_pyroute2)
    async with async_iproute() as ipr:
        yield RouteSocket(ipr)


def _import_pyroute2() -> Pyroute2:
    """pyroute2's AsyncIPRoute.

    One of its modules imports ssl, for a TLS probe that nothing here calls. Where ssl is blocked
    (`agent.__main__`), an empty module stands in for it while pyroute2 is imported.
    """
    blocked = sys.modules.get("ssl", ...) is None
    if blocked:
        sys.modules["ssl"] = types.ModuleType("ssl")
    try:
        from pyroute2.iproute.linux import AsyncIPRoute
    finally:
        if blocked:
            sys.modules["ssl"] = None  # type: ignore[assignment] # None is how Python spells "blocked"
    return AsyncIPRoute


@contextmanager
def _oserrors(call: str, what: str) -> Iterator[None]:
    """Turn pyroute2's NetlinkError into OSError, with the request and its object as the file name."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        yield
    except NetlinkError as error:
        code = abs(error.code)
        raise OSError(code, os.strerror(code), f"{call} {what}".rstrip()) from error


def _family(address: IpNetwork | IpInterface) -> int:
    return AF_INET if address.version == 4 else AF_INET6


def _address(index: int, address: IpInterface) -> dict[str, Any]:
    return {
        "index": index,
        "address": str(address.ip),
        "prefixlen": address.network.prefixlen,
        "family": _family(address),
    }


def _kernel_route(message: Pyroute2) -> KernelRoute:
    anywhere = "0.0.0.0" if message["family"] == AF_INET else "::"
    destination = ipaddress.ip_network(f"{message.get('dst') or anywhere}/{message['dst_len']}")
    source = ipaddress.ip_network(f"{message.get('src') or anywhere}/{message['src_len']}")
    metrics = message.get("metrics")
    return KernelRoute(
        destination=destination,
        gateway=_parsed(message.get("gateway")),
        oif=message.get("oif"),
        preferred_source=_parsed(message.get("prefsrc")),
        source=source if source.prefixlen else None,
        scope=message["scope"],
        protocol=message["proto"],
        table=message.get("table") or message["table"],
        type=message["type"],
        flags=message["flags"] & _ROUTE_FLAGS,
        mtu=(metrics.get("mtu") or 0) if metrics else 0,
        metric=message.get("priority") or 0,
    )


def _parsed(text: str | None) -> IpAddress | None:
    return ipaddress.ip_address(text) if text else None


def _route_request(route: KernelRoute) -> dict[str, Any]:
    request: dict[str, Any] = {
        "family": route.family,
        "dst": str(route.destination.network_address),
        "dst_len": route.destination.prefixlen,
        "scope": route.scope,
        "proto": route.protocol,
        "table": route.table,
        "type": route.type,
        "flags": route.flags,
    }
    if not route.destination.prefixlen:
        del request["dst"]
    optional = {
        "gateway": str(route.gateway) if route.gateway else None,
        "oif": route.oif,
        "prefsrc": str(route.preferred_source) if route.preferred_source else None,
        "src": str(route.source.network_address) if route.source else None,
        "src_len": route.source.prefixlen if route.source else None,
        "priority": route.metric or None,
        "metrics": {"mtu": route.mtu} if route.mtu else None,
    }
    return request | {key: value for key, value in optional.items() if value is not None}

"""The guest's network interfaces: give one its name and addresses, and list them.

A host names an interface by its MAC, and may name the PCI device that is to bring it. What differs
by generation (kata-containers/agent network.go, kata-containers src/agent/src/netlink.rs) arrives as
`exclusive_addresses`.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.devices.address import PciPath
from agent.errors import InvalidRequest, KernelRefused, NotFound
from agent.linux.netlink import (
    IFF_NOARP,
    NAME_LIMIT,
    IpInterface,
    Link,
    RouteSocket,
    open_route_socket,
)
from agent.network.addresses import AddressText, parse_mac

_SUFFIX = "_temp"  # what the Rust agent appends to a link that is in the way of a name


@dataclass(frozen=True, slots=True)
class Interface:
    """`types.Interface`: `name` is the name it is to have, `device_path` a PCI path or empty."""

    name: str
    hw_addr: str
    mtu: int = 0
    addresses: tuple[AddressText, ...] = ()
    device_path: str = ""
    device: str = ""
    type: str = ""
    raw_flags: int = 0


class NetworkDevices(Protocol):
    """The part of the guest's hardware that brings interfaces (agent/devices)."""

    async def net_interface(self, path: PciPath) -> str:
        """The name of the interface of the PCI device at `path`, awaited. Raises DeviceTimeout."""


async def update_interface(wanted: Interface, devices: NetworkDevices, *, exclusive_addresses: bool) -> None:
    """Give the link with the MAC of `wanted` its name, addresses, MTU and ARP flag, and bring it up.

    `exclusive_addresses` takes away every address that is not asked for. Everything is checked before
    anything is changed. Once a link was taken down it is brought up again, whatever fails in between.

    Raises InvalidRequest, DeviceTimeout, NotFound (no such link), KernelRefused.
    """
    addresses = [address.interface() for address in wanted.addresses]
    mac = parse_mac(wanted.hw_addr, "hwAddr") if wanted.hw_addr else ""
    if not (mac or wanted.name):
        raise InvalidRequest("the interface has neither hwAddr nor name, so no link can be found")
    if len(wanted.name) > NAME_LIMIT:
        raise InvalidRequest(f'interface name "{wanted.name}" is longer than {NAME_LIMIT} characters')
    names = [wanted.name] if wanted.name else []
    if wanted.device_path:
        names.insert(0, await devices.net_interface(PciPath.parse(wanted.device_path)))
    async with _kernel() as socket:
        link = await _find(socket, names, mac)
        if link.is_up:
            await socket.change_link(link.index, up=False)
        try:
            await _set_addresses(socket, link, addresses, exclusive=exclusive_addresses)
            if wanted.name and wanted.name != link.name:
                await _rename(socket, link, wanted.name)
            noarp = bool(wanted.raw_flags & IFF_NOARP)
            await socket.change_link(link.index, mtu=wanted.mtu or None, arp=not noarp)
        finally:
            await socket.change_link(link.index, up=True)


async def list_interfaces() -> list[Interface]:
    """Every link with its addresses, the loopback among them; MACs in lower case.

    Raises KernelRefused.
    """
    async with _kernel() as socket:
        links = await socket.links()
        addresses = await socket.addresses()
    return [
        Interface(
            name=link.name,
            hw_addr=link.mac,
            mtu=link.mtu,
            addresses=tuple(
                AddressText(str(address.ip), str(address.network.prefixlen))
                for index, address in addresses
                if index == link.index
            ),
        )
        for link in links
    ]


@contextlib.asynccontextmanager
async def _kernel() -> AsyncIterator[RouteSocket]:
    """A netlink socket whose errors are ours."""
    try:
        async with open_route_socket() as socket:
            yield socket
    except OSError as error:
        raise KernelRefused.from_oserror("netlink", error) from error


async def _find(socket: RouteSocket, names: Sequence[str], mac: str) -> Link:
    """The link with `mac`; else the first of `names` that there is, which is given that MAC."""
    links = {link.name: link for link in await socket.links() if not link.is_loopback}
    for link in links.values():
        if mac and link.mac == mac:
            return link
    for name in names:
        if name in links:
            if mac:
                await socket.change_link(links[name].index, mac=mac)
            return links[name]
    known = ", ".join(f"{link.name} ({link.mac})" for link in links.values()) or "none"
    raise NotFound(f'no link has the MAC "{mac}" or a name of {list(names)}', hint=f"the guest has {known}")


async def _set_addresses(
    socket: RouteSocket, link: Link, wanted: Sequence[IpInterface], *, exclusive: bool
) -> None:
    if exclusive:
        for index, address in await socket.addresses():
            if index == link.index and address not in wanted:
                await _delete_address(socket, index, address)
    for address in wanted:
        if address.version == 4 or not _ipv6_is_off():
            await socket.replace_address(link.index, address)


async def _delete_address(socket: RouteSocket, index: int, address: IpInterface) -> None:
    """Delete `address`; a secondary one may have gone with its primary already (ip-sysctl.rst)."""
    try:
        await socket.delete_address(index, address)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise


async def _rename(socket: RouteSocket, link: Link, name: str) -> None:
    """Rename `link`, which is down; a link that has the name already gets the old name in exchange."""
    holder = next((other for other in await socket.links() if other.name == name), None)
    if holder is None:
        await socket.change_link(link.index, name=name)
        return
    await socket.change_link(holder.index, up=False)
    try:
        await socket.change_link(holder.index, name=name[: NAME_LIMIT - len(_SUFFIX)] + _SUFFIX)
        await socket.change_link(link.index, name=name)
        await socket.change_link(holder.index, name=link.name)
    finally:
        if holder.is_up:
            await socket.change_link(holder.index, up=True)


def _ipv6_is_off() -> bool:
    """Whether IPv6 is disabled for links present and to come (Documentation/networking/ip-sysctl.rst).

    A few bytes of procfs, read on the loop.
    """
    try:
        return all(
            Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6").read_text().strip() == "1"
            for scope in ("all", "default")
        )
    except FileNotFoundError:
        return True  # the kernel has no IPv6

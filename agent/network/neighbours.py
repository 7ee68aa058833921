"""Entries of the guest's neighbour tables (ARP, NDP)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.errors import InvalidRequest, KernelRefused
from agent.linux.netlink import NUD_PERMANENT, open_route_socket
from agent.network.addresses import parse_address, parse_mac


@dataclass(frozen=True, slots=True)
class Neighbour:
    """`types.ARPNeighbor`; `state` is a NUD_* number of linux/neighbour.h, 0 for "permanent"."""

    address: str
    device: str
    mac: str = ""
    state: int = 0
    flags: int = 0


async def add_neighbours(neighbours: Sequence[Neighbour], *, exclusive: bool) -> None:
    """Add `neighbours`; all are checked before the first is added, the first refusal ends the call.

    `exclusive` makes an entry that exists already an error (Kata 1.x); otherwise it is replaced.
    Raises InvalidRequest (bad text, no such device), KernelRefused.
    """
    parsed = [
        (parse_address(each.address, "toIPAddress"), parse_mac(each.mac, "lladdr") if each.mac else "", each)
        for each in neighbours
    ]
    try:
        async with open_route_socket() as socket:
            index_of = {link.name: link.index for link in await socket.links()}
            for each in neighbours:
                if each.device not in index_of:
                    raise InvalidRequest(f'neighbour {each.address}: the guest has no device "{each.device}"')
            for address, mac, each in parsed:
                await socket.replace_neighbour(
                    index_of[each.device],
                    address,
                    mac,
                    state=each.state or NUD_PERMANENT,
                    flags=each.flags,
                    exclusive=exclusive,
                )
    except OSError as error:
        raise KernelRefused.from_oserror("netlink", error) from error

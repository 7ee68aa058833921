"""The guest's network: QEMU's user networking, published ports, and the files that name hosts.

QEMU's user networking (slirp) is a small NAT inside the QEMU process: no tap device, no root, no
change to the host. Its addresses are fixed: guest 10.0.2.15/24, gateway 10.0.2.2, name server
10.0.2.3 (QEMU documentation, "Using the user mode network stack"). The guest reaches the host's
loopback as 10.0.2.2.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from host.errors import InvalidInput

GUEST_ADDRESS = "10.0.2.15"
GATEWAY = "10.0.2.2"
NAME_SERVER = "10.0.2.3"
PREFIX_LENGTH = 24
# Each machine has its own slirp network, so one address serves all. 52:54:00 is QEMU's prefix.
MAC_ADDRESS = "52:54:00:12:34:56"
MTU = 1500
INTERFACE_NAME = "eth0"
NETDEV_ID = "network-0"

Protocol = Literal["tcp", "udp"]
_HOST_NAME_LIMIT = 64  # the Kata runtime cuts it there; also Linux's __NEW_UTS_LEN


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """A port of the host that leads to a port of the guest."""

    host_port: int
    guest_port: int
    host_address: str = "127.0.0.1"
    protocol: Protocol = "tcp"

    @classmethod
    def parse(cls, text: str) -> PublishedPort:
        """Read `[ADDRESS:]HOST:GUEST[/tcp|/udp]`. Raises InvalidInput, quoting `text`."""
        ports, _, protocol = text.partition("/")
        *address, host_port, guest_port = ports.split(":") if ports.count(":") in (1, 2) else ("", "", "")
        try:
            host_address = str(ipaddress.IPv4Address(address[0])) if address and address[0] else "127.0.0.1"
            numbers = int(host_port), int(guest_port)
        except ValueError:
            numbers, host_address = (0, 0), ""
        if not all(0 < number < 65536 for number in numbers) or protocol not in ("", "tcp", "udp"):
            raise InvalidInput(f"{text!r} is no published port", "write [ADDRESS:]HOST:GUEST[/tcp|/udp]")
        return cls(*numbers, host_address, "udp" if protocol == "udp" else "tcp")

    def forward_rule(self) -> str:
        """The rule as QEMU's `hostfwd=` takes it."""
        return f"{self.protocol}:{self.host_address}:{self.host_port}-:{self.guest_port}"


def netdev_argument(published_ports: Iterable[PublishedPort]) -> str:
    """The value of QEMU's `-netdev` for user networking with these ports."""
    rules = [f"hostfwd={port.forward_rule()}" for port in published_ports]
    return ",".join(["user", f"id={NETDEV_ID}", "ipv6=off", *rules])


def update_interface_request(messages: Any) -> Any:  # noqa: ANN401 - generated messages
    """The UpdateInterfaceRequest for the guest's one interface.

    `messages` is `protos.kata1` or `protos.kata2`; the fields used are the same in both. The agent
    finds the link by its MAC address and gives it this name.
    """
    interface = messages.Interface(
        device=INTERFACE_NAME,
        name=INTERFACE_NAME,
        IPAddresses=[messages.IPAddress(family=0, address=GUEST_ADDRESS, mask=str(PREFIX_LENGTH))],
        mtu=MTU,
        hwAddr=MAC_ADDRESS,
    )
    return messages.UpdateInterfaceRequest(interface=interface)


def update_routes_request(messages: Any) -> Any:  # noqa: ANN401 - generated messages
    """The UpdateRoutesRequest: everything that is not local goes to the gateway."""
    subnet = str(ipaddress.IPv4Interface(f"{GUEST_ADDRESS}/{PREFIX_LENGTH}").network)
    # scope 253 is RT_SCOPE_LINK (linux/rtnetlink.h): reached without a gateway.
    link = messages.Route(dest=subnet, device=INTERFACE_NAME, source=GUEST_ADDRESS, scope=253)
    default = messages.Route(dest="", gateway=GATEWAY, device=INTERFACE_NAME)
    return messages.UpdateRoutesRequest(routes=messages.Routes(Routes=[link, default]))


def resolv_conf(mode: Literal["user", "none"]) -> str:
    """The text of /etc/resolv.conf; without a network a comment only, so that lookups fail at once."""
    return f"nameserver {NAME_SERVER}\n" if mode == "user" else "# no network\n"


def hosts_file(hostname: str, mode: Literal["user", "none"]) -> str:
    """The text of /etc/hosts: localhost, and the container's own name on an address it has."""
    own_address = GUEST_ADDRESS if mode == "user" else "127.0.1.1"
    return f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{own_address}\t{hostname}\n"


def guest_hostname(text: str) -> str:
    """`text` as a host name: cut to 64 bytes. Raises InvalidInput if it is none."""
    name = text[:_HOST_NAME_LIMIT]
    labels = name.split(".")
    if not all(label and label.strip("-") == label for label in labels) or not all(
        character.isascii() and (character.isalnum() or character in "-.") for character in name
    ):
        raise InvalidInput(f"{text!r} is no host name", "use letters, digits, - and .")
    return name

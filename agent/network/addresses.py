"""Addresses as the hosts write them: text to `ipaddress` objects, naming the field that is wrong."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from agent.errors import InvalidRequest
from agent.linux.netlink import IpAddress, IpInterface, IpNetwork

_MAC = re.compile(
    r"[0-9a-f]{2}(:[0-9a-f]{2}){5}(:[0-9a-f]{2}){0,14}"
)  # MAX_ADDR_LEN is 32, linux/netdevice.h


@dataclass(frozen=True, slots=True)
class AddressText:
    """`IPAddress` on the wire; `mask` is a prefix length in text. The family is read from the text."""

    address: str
    mask: str = ""

    def interface(self) -> IpInterface:
        """The address with its prefix length; an empty mask is a host address. Raises InvalidRequest."""
        text = f"{self.address}/{self.mask}" if self.mask else self.address
        try:
            return ipaddress.ip_interface(text)
        except ValueError as error:
            raise InvalidRequest(f'"{text}" is no IP address with a prefix length') from error


def parse_address(text: str, field: str) -> IpAddress:
    """An IP address without a prefix. Raises InvalidRequest, naming `field`."""
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise InvalidRequest(f'{field} "{text}" is no IP address') from error


def parse_network(text: str, field: str) -> IpNetwork:
    """A network; host bits below the prefix are cleared. Raises InvalidRequest, naming `field`."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise InvalidRequest(f'{field} "{text}" is no IP network') from error


def parse_mac(text: str, field: str) -> str:
    """A link-layer address in lower case. Raises InvalidRequest, naming `field`."""
    mac = text.lower()
    if not _MAC.fullmatch(mac):
        raise InvalidRequest(f'{field} "{text}" is no link-layer address')
    return mac

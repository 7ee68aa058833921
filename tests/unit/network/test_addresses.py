"""Addresses in text, and the routes made of them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import InvalidRequest
from agent.linux.netlink import IFF_UP, PROTO_BOOT, KernelRoute, Link
from agent.network.addresses import AddressText, parse_address, parse_mac, parse_network
from agent.network.routes import Route, parse_route

LINKS = {"eth0": Link(2, "eth0", "02:00:00:00:00:01", 1500, IFF_UP)}


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)


@pytest.mark.parametrize(
    ("route", "parsed"),
    [
        (
            Route("", "10.0.0.1", "eth0"),
            KernelRoute(network("0.0.0.0/0"), ipaddress.ip_address("10.0.0.1"), 2),
        ),
        (
            Route("default", "fd00::1", "eth0"),
            KernelRoute(network("::/0"), ipaddress.ip_address("fd00::1"), 2),
        ),
        (Route("", "", "eth0"), KernelRoute(network("0.0.0.0/0"), None, 2)),
        (Route("", "0.0.0.0", "eth0"), KernelRoute(network("0.0.0.0/0"), None, 2)),
        (Route("", "", "eth0", ipv6=True), KernelRoute(network("::/0"), None, 2)),
        (
            Route("10.1.2.3/16", "", "eth0", scope=253),
            KernelRoute(network("10.1.0.0/16"), None, 2, scope=253),
        ),
        (Route("10.1.2.3", "", "eth0"), KernelRoute(network("10.1.2.3/32"), None, 2)),
        (
            Route("10.1.0.0/16", "", "eth0", source="10.9.9.9"),
            KernelRoute(network("10.1.0.0/16"), None, 2, ipaddress.ip_address("10.9.9.9")),
        ),
        (
            Route("10.1.0.0/16", "", "eth0", source="10.9.9.9/0"),
            KernelRoute(network("10.1.0.0/16"), None, 2, ipaddress.ip_address("10.9.9.9")),
        ),
        (
            Route("fd01::/64", "", "eth0", source="fd02::/64"),
            KernelRoute(network("fd01::/64"), None, 2, source=network("fd02::/64")),
        ),
        (
            Route("", "10.0.0.1", flags=4, mtu=1300),
            KernelRoute(network("0.0.0.0/0"), ipaddress.ip_address("10.0.0.1"), flags=4, mtu=1300),
        ),
    ],
)
def test_routes(route: Route, parsed: KernelRoute) -> None:
    assert parse_route(route, LINKS) == parsed
    assert parsed.protocol == PROTO_BOOT


def outcome(parse: Callable[[], object]) -> object:
    """What `parse` returns, or the error it is allowed to raise."""
    try:
        return parse()
    except InvalidRequest as error:
        return str(error)


@given(st.text())
def test_any_text_is_parsed_or_refused_by_name(text: str) -> None:
    for parser in (parse_address, parse_network, parse_mac):
        result = outcome(partial(parser, text, "field"))
        assert not isinstance(result, str) or "field" in result or result == text.lower()
    assert outcome(AddressText(text, "24").interface) is not None


@given(st.ip_addresses(), st.integers(0, 32))
def test_an_address_with_its_prefix_is_kept(address: ipaddress.IPv4Address, length: int) -> None:
    interface = AddressText(str(address), str(length)).interface()
    assert interface.ip == address
    assert interface.network.prefixlen == length


def test_an_address_without_mask_is_a_host() -> None:
    assert str(AddressText("10.0.0.1").interface()) == "10.0.0.1/32"


@pytest.mark.parametrize(
    "text", ["02:00:CA:fe:00:01", "80:00:00:48:fe:80:00:00:00:00:00:00:f4:52:14:03:00:7b:cb:a1"]
)
def test_macs_are_lower_case_of_any_length(text: str) -> None:
    assert parse_mac(text, "hwAddr") == text.lower()


@pytest.mark.parametrize(
    "text", ["", "02:00:ca:fe:00", "02-00-ca-fe-00-01", "02:00:ca:fe:00:0g", "02:00:ca:fe:00:01\n"]
)
def test_bad_macs(text: str) -> None:
    with pytest.raises(InvalidRequest, match="hwAddr"):
        parse_mac(text, "hwAddr")

"""Interfaces, routes and neighbours in a network namespace of the test's own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from agent.devices.address import PciPath
from agent.errors import InvalidRequest, KernelRefused, NotFound
from agent.network.addresses import AddressText
from agent.network.interfaces import Interface, list_interfaces, update_interface
from agent.network.neighbours import Neighbour, add_neighbours
from agent.network.routes import Route, list_routes, update_routes
from tests.privileged.own_network import own_network

MAC = "02:00:ca:fe:00:01"
OTHER_MAC = "02:00:ca:fe:00:02"


class NoDevices:
    """Hardware that brings one interface, at whatever address."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.asked: list[str] = []

    async def net_interface(self, path: PciPath) -> str:
        self.asked.append(str(path))
        return self.name


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture(autouse=True)
def network() -> Iterator[None]:
    """A namespace with lo and two links whose other ends are up; it goes with the last descriptor on it."""
    with own_network():
        ip("link", "set", "lo", "up")
        for name, mac in (("link0", MAC), ("link1", OTHER_MAC)):
            ip("link", "add", name, "address", mac, "type", "veth", "peer", "name", f"far-{name}")
            ip("link", "set", f"far-{name}", "up")
        yield


def addresses(*texts: str) -> tuple[AddressText, ...]:
    return tuple(AddressText(*text.split("/")) for text in texts)


async def named(name: str) -> Interface:
    return next(each for each in await list_interfaces() if each.name == name)


async def test_an_interface_gets_name_addresses_and_mtu() -> None:
    wanted = Interface("eth0", MAC.upper(), 1400, addresses("10.1.2.3/24", "fd00:1::2/64"))
    await update_interface(wanted, NoDevices(), exclusive_addresses=False)
    link = await named("eth0")
    assert (link.hw_addr, link.mtu) == (MAC, 1400)
    assert {(each.address, each.mask) for each in link.addresses} >= {("10.1.2.3", "24"), ("fd00:1::2", "64")}
    assert "state UP" in ip("link", "show", "dev", "eth0")
    assert "tentative" not in ip("addr", "show", "dev", "eth0", "to", "fd00:1::/64")


async def test_the_same_again_changes_nothing() -> None:
    wanted = Interface("eth0", MAC, 1400, addresses("10.1.2.3/24"))
    await update_interface(wanted, NoDevices(), exclusive_addresses=False)
    before = await named("eth0")
    await update_interface(wanted, NoDevices(), exclusive_addresses=False)
    assert [each for each in (await named("eth0")).addresses if "." in each.address] == [
        each for each in before.addresses if "." in each.address
    ]


@pytest.mark.parametrize(("exclusive", "left"), [(True, set()), (False, {"192.168.7.1", "192.168.7.2"})])
async def test_old_addresses_go_only_where_the_host_means_all(exclusive: bool, left: set[str]) -> None:
    ip("addr", "add", "192.168.7.1/24", "dev", "link0")
    ip("addr", "add", "192.168.7.2/24", "dev", "link0")  # a secondary one, which may go with the first
    wanted = Interface("link0", MAC, 0, addresses("10.1.2.3/24"))
    await update_interface(wanted, NoDevices(), exclusive_addresses=exclusive)
    found = {each.address for each in (await named("link0")).addresses if "." in each.address}
    assert found == {"10.1.2.3"} | left


async def test_a_taken_name_is_exchanged() -> None:
    ip("link", "set", "link1", "up")
    await update_interface(Interface("link1", MAC), NoDevices(), exclusive_addresses=False)
    assert (await named("link1")).hw_addr == MAC
    assert (await named("link0")).hw_addr == OTHER_MAC
    assert "state UP" in ip("link", "show", "dev", "link0")


async def test_a_link_found_by_its_pci_path_gets_the_mac() -> None:
    devices = NoDevices("link1")
    wanted = Interface("eth0", "02:00:ca:fe:00:77", device_path="02/03")
    await update_interface(wanted, devices, exclusive_addresses=False)
    assert devices.asked == [str(PciPath.parse("02/03"))]
    assert (await named("eth0")).hw_addr == "02:00:ca:fe:00:77"


async def test_noarp_is_set_and_taken_back() -> None:
    await update_interface(Interface("link0", MAC, raw_flags=0x80), NoDevices(), exclusive_addresses=False)
    assert "NOARP" in ip("link", "show", "dev", "link0")
    await update_interface(Interface("link0", MAC), NoDevices(), exclusive_addresses=False)
    assert "NOARP" not in ip("link", "show", "dev", "link0")


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (Interface("eth0", "02:00:ca:fe:00:99"), NotFound),
        (Interface("eth0", "no mac"), InvalidRequest),
        (Interface("", ""), InvalidRequest),
        (Interface("a-name-of-17-chars", MAC), InvalidRequest),
        (Interface("eth0", MAC, 0, addresses("10.1.2.300/24")), InvalidRequest),
        (Interface("eth0", MAC, 0, addresses("10.1.2.3/33")), InvalidRequest),
        (Interface("eth0", MAC, device_path="not/a/path"), InvalidRequest),
    ],
)
async def test_bad_input_changes_nothing(wanted: Interface, error: type[Exception]) -> None:
    before = ip("addr")
    with pytest.raises(error):
        await update_interface(wanted, NoDevices(), exclusive_addresses=True)
    assert ip("addr") == before


async def test_a_refused_change_leaves_the_link_up() -> None:
    with pytest.raises(KernelRefused, match="RTM_NEWLINK"):
        await update_interface(Interface("link0", MAC, 2**31), NoDevices(), exclusive_addresses=False)
    assert "state UP" in ip("link", "show", "dev", "link0")


async def ready_link() -> None:
    wanted = Interface("eth0", MAC, 0, addresses("10.1.2.3/24", "fd00:1::2/64"))
    await update_interface(wanted, NoDevices(), exclusive_addresses=True)


async def test_routes_are_added_to_those_that_are_there() -> None:
    await ready_link()
    ip("route", "add", "10.9.0.0/16", "via", "10.1.2.1")
    await update_routes(
        [
            Route("", "10.1.2.1", "eth0"),
            Route("10.8.0.0/16", "", "eth0", source="10.1.2.3", scope=253, mtu=1300),
            Route("default", "fd00:1::1", "eth0"),
            Route("fd00:9::/48", "", "eth0"),
        ],
        whole_table=False,
    )
    routes = await list_routes(main_table_only=True)
    by_destination = {(each.dest, each.ipv6): each for each in routes}
    assert by_destination["", False].gateway == "10.1.2.1"
    assert by_destination["", True].gateway == "fd00:1::1"
    assert by_destination["10.8.0.0/16", False].source == "10.1.2.3"
    assert by_destination["10.8.0.0/16", False].mtu == 1300
    assert ("fd00:9::/48", True) in by_destination
    assert ("10.9.0.0/16", False) in by_destination


async def test_a_whole_table_replaces_what_was_there() -> None:
    await ready_link()
    ip("route", "add", "10.9.0.0/16", "via", "10.1.2.1")
    ip("route", "add", "default", "via", "10.1.2.254")
    await update_routes([Route("", "10.1.2.1", "eth0")], whole_table=True)
    routes = {(each.dest, each.gateway) for each in await list_routes(main_table_only=True) if not each.ipv6}
    assert routes == {("", "10.1.2.1"), ("10.1.2.0/24", "")}


async def test_a_refused_route_brings_the_old_table_back() -> None:
    await ready_link()
    ip("route", "add", "10.9.0.0/16", "via", "10.1.2.1")
    ip("-6", "route", "add", "fd00:9::/48", "via", "fd00:1::1")
    before = ip("route"), ip("-6", "route")
    with pytest.raises(KernelRefused, match=r"172\.16\.0\.0"):
        await update_routes(
            [Route("10.7.0.0/16", "10.1.2.1", "eth0"), Route("172.16.0.0/16", "192.0.2.1", "eth0")],
            whole_table=True,
        )
    assert (ip("route"), ip("-6", "route")) == before


@pytest.mark.parametrize(
    "route",
    [
        Route("10.0.0.0/8", "", "none0"),
        Route("10.0.0.0/40", "", "eth0"),
        Route("10.0.0.0/8", "fd00::1", "eth0"),
        Route("10.0.0.0/8", "gateway", "eth0"),
        Route("10.0.0.0/8"),
    ],
)
async def test_a_bad_route_changes_nothing(route: Route) -> None:
    await ready_link()
    ip("route", "add", "10.9.0.0/16", "via", "10.1.2.1")
    before = ip("route")
    with pytest.raises(InvalidRequest):
        await update_routes([Route("10.5.0.0/16", "", "eth0"), route], whole_table=True)
    assert ip("route") == before


async def test_neighbours() -> None:
    await ready_link()
    entry = Neighbour("10.1.2.1", "eth0", "02:00:00:00:00:01")
    await add_neighbours([entry, Neighbour("fd00:1::1", "eth0", "02:00:00:00:00:02")], exclusive=False)
    assert "10.1.2.1 lladdr 02:00:00:00:00:01 PERMANENT" in ip("neigh", "show", "dev", "eth0")
    assert "fd00:1::1 lladdr 02:00:00:00:00:02 PERMANENT" in ip("-6", "neigh", "show", "dev", "eth0")
    await add_neighbours([entry], exclusive=False)
    with pytest.raises(KernelRefused, match="EEXIST"):
        await add_neighbours([entry], exclusive=True)
    with pytest.raises(InvalidRequest, match="none0"):
        await add_neighbours([Neighbour("10.1.2.9", "eth0"), Neighbour("10.1.2.8", "none0")], exclusive=False)
    assert "10.1.2.9" not in ip("neigh", "show", "dev", "eth0")

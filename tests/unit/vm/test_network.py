"""Published ports, the requests for the guest's one interface, and the files that name hosts."""

from __future__ import annotations

from types import ModuleType

import pytest

from host import network
from host.errors import InvalidInput
from host.network import PublishedPort
from protos import kata1, kata2


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("8080:80", "tcp:127.0.0.1:8080-:80"),
        ("53:5353/udp", "udp:127.0.0.1:53-:5353"),
        ("0.0.0.0:8080:80/tcp", "tcp:0.0.0.0:8080-:80"),
    ],
)
def test_published_port(text: str, rule: str) -> None:
    assert PublishedPort.parse(text).forward_rule() == rule


@pytest.mark.parametrize(
    "text",
    ["", "80", "0:80", "80:65536", "a:80", "80:80/sctp", "host:1:2", "1:2:3:4", "80:80:", "-1:80", "8,0:80"],
)
def test_bad_published_port(text: str) -> None:
    with pytest.raises(InvalidInput, match="no published port"):
        PublishedPort.parse(text)


def test_netdev_argument() -> None:
    ports = [PublishedPort(1, 2), PublishedPort(3, 4, "0.0.0.0", "udp")]
    assert network.netdev_argument(ports) == (
        "user,id=network-0,ipv6=off,hostfwd=tcp:127.0.0.1:1-:2,hostfwd=udp:0.0.0.0:3-:4"
    )


@pytest.mark.parametrize("messages", [kata1, kata2])
def test_requests_in_both_generations(messages: ModuleType) -> None:
    interface = network.update_interface_request(messages).interface
    assert (interface.name, interface.hwAddr, interface.mtu) == ("eth0", network.MAC_ADDRESS, 1500)
    [address] = interface.IPAddresses
    assert (address.address, address.mask) == ("10.0.2.15", "24")
    subnet, default = network.update_routes_request(messages).routes.Routes
    assert (subnet.dest, subnet.gateway, subnet.device) == ("10.0.2.0/24", "", "eth0")
    assert (default.dest, default.gateway, default.device) == ("", "10.0.2.2", "eth0")


def test_resolv_conf() -> None:
    assert network.resolv_conf("user") == "nameserver 10.0.2.3\n"
    assert "nameserver" not in network.resolv_conf("none")


def test_hosts_file_names_the_container() -> None:
    assert network.hosts_file("box", "user").splitlines()[-1] == "10.0.2.15\tbox"
    assert network.hosts_file("box", "none").splitlines()[-1] == "127.0.1.1\tbox"


def test_guest_hostname_is_cut() -> None:
    assert network.guest_hostname("a" * 70) == "a" * 64
    assert network.guest_hostname("web-1.example") == "web-1.example"


@pytest.mark.parametrize("text", ["", "-a", "a..b", "a_b", "ä"])
def test_bad_hostname(text: str) -> None:
    with pytest.raises(InvalidInput, match="no host name"):
        network.guest_hostname(text)

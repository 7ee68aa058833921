"""The relay, between pairs of connected sockets."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from agent.transports.splice_relay import SpliceRelay

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def relay() -> Iterator[SpliceRelay]:
    relay = SpliceRelay(limit=2)
    yield relay
    relay.abort()
    assert relay.join(5)
    assert len(relay) == 0


@pytest.fixture
def sockets() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def relayed(relay: SpliceRelay, sockets: ExitStack) -> Pair:
    """The two far ends of a relayed connection."""
    left, near_left = socket.socketpair()
    near_right, right = socket.socketpair()
    for each in (left, right):
        sockets.enter_context(each)
        each.settimeout(5)
    assert relay.carry(near_left, near_right)
    return left, right


def read_all(end: socket.socket) -> bytes:
    return b"".join(iter(lambda: end.recv(65536), b""))


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_bytes_pass_both_ways(relay: SpliceRelay, sockets: ExitStack) -> None:
    left, right = relayed(relay, sockets)
    left.sendall(b"to the right")
    right.sendall(b"to the left")
    assert right.recv(100) == b"to the right"
    assert left.recv(100) == b"to the left"


def test_much_data_passes_whole(relay: SpliceRelay, sockets: ExitStack) -> None:
    left, right = relayed(relay, sockets)
    data = os.urandom(3 << 20)

    def send() -> None:
        left.sendall(data)
        left.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    assert read_all(right) == data
    sender.join()


def test_the_end_of_one_direction_leaves_the_other(relay: SpliceRelay, sockets: ExitStack) -> None:
    left, right = relayed(relay, sockets)
    left.sendall(b"question")
    left.shutdown(socket.SHUT_WR)
    assert read_all(right) == b"question"
    right.sendall(b"answer")
    assert left.recv(100) == b"answer"
    assert len(relay) == 1
    right.shutdown(socket.SHUT_WR)
    assert read_all(left) == b""
    assert relay.join(5)
    assert len(relay) == 0


def test_nothing_stays_open(relay: SpliceRelay, sockets: ExitStack) -> None:
    before = open_descriptors()
    left, right = relayed(relay, sockets)
    left.close()
    assert read_all(right) == b""
    right.close()
    assert relay.join(5)
    assert open_descriptors() == before


def test_an_error_ends_both_directions(relay: SpliceRelay, sockets: ExitStack) -> None:
    before = open_descriptors()
    left, right = relayed(relay, sockets)
    right.close()
    # The relay now has nobody to give this to (EPIPE), while the other direction has ended.
    with pytest.raises(OSError, match=r"pipe|reset"):
        left.sendall(bytes(16 << 20))
    left.close()
    assert relay.join(5)
    assert open_descriptors() == before


def test_more_than_the_limit_are_refused(relay: SpliceRelay, sockets: ExitStack) -> None:
    first, _ = relayed(relay, sockets)
    relayed(relay, sockets)
    assert relay.full
    left, near_left = socket.socketpair()
    near_right, right = socket.socketpair()
    with left, right:
        assert not relay.carry(near_left, near_right)
        assert left.recv(1) == b""
        assert right.recv(1) == b""
    assert len(relay) == 2
    first.close()


def test_a_place_becomes_free_again(relay: SpliceRelay, sockets: ExitStack) -> None:
    for _ in range(20):
        left, right = relayed(relay, sockets)
        left.close()
        right.close()
        assert relay.join(5)


def test_abort_ends_blocked_connections(relay: SpliceRelay, sockets: ExitStack) -> None:
    left, _ = relayed(relay, sockets)
    blocked, _never_reads = relayed(relay, sockets)
    blocked.settimeout(0.2)
    with pytest.raises(TimeoutError):
        blocked.sendall(bytes(8 << 20))
    assert not relay.join(0.05)
    relay.abort()
    assert relay.join(5)
    assert left.recv(1) == b""

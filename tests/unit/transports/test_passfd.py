"""Connections that wait for the request that names them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from agent.config import AgentConfig
from agent.containers.process import PassedConnections
from agent.processes.reaper import Reaper
from agent.service.agent import Agent
from agent.service.requests import StreamPorts
from agent.service.stream_ports import connect_streams, named_connections
from agent.transports import passfd
from agent.transports.passfd import PassfdListener
from protos import kata2


@pytest.fixture
def listener() -> Iterator[PassfdListener]:
    listener = PassfdListener()
    yield listener
    listener.stop()


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Connected sockets; the agent's end and the host's."""
    made = [socket.socketpair() for _ in range(4)]
    yield made
    for pair in made:
        for end in pair:
            end.close()


async def test_a_connection_that_came_first(
    listener: PassfdListener, pairs: list[tuple[socket.socket, ...]]
) -> None:
    listener.keep(1001, pairs[0][0])
    listener.keep(1002, pairs[1][0])
    assert await listener.take(1002) is pairs[1][0]
    assert await listener.take(1001) is pairs[0][0]
    assert await listener.take(1001, patience_s=0.01) is None


async def test_a_connection_that_comes_later(
    listener: PassfdListener, pairs: list[tuple[socket.socket, ...]]
) -> None:
    asyncio.get_running_loop().call_later(0.05, listener.keep, 1001, pairs[0][0])
    assert await listener.take(1001, patience_s=10) is pairs[0][0]


async def test_no_connection(listener: PassfdListener, caplog: pytest.LogCaptureFixture) -> None:
    assert await listener.take(0) is None
    assert not caplog.records
    assert await listener.take(7, patience_s=0.01) is None
    assert [record.__dict__["port"] for record in caplog.records] == [7]


async def test_a_port_used_again(listener: PassfdListener, pairs: list[tuple[socket.socket, ...]]) -> None:
    listener.keep(1001, pairs[0][0])
    listener.keep(1001, pairs[1][0])
    assert pairs[0][0].fileno() == -1
    assert await listener.take(1001) is pairs[1][0]


async def test_unclaimed_connections_are_bounded(
    listener: PassfdListener, pairs: list[tuple[socket.socket, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passfd, "_MOST_UNCLAIMED", 2)
    for port, (ours, _) in enumerate(pairs[:3]):
        listener.keep(port + 1, ours)
    assert [ours.fileno() == -1 for ours, _ in pairs[:3]] == [True, False, False]
    listener.stop()
    assert [ours.fileno() == -1 for ours, _ in pairs[:3]] == [True] * 3


def test_only_the_host_is_served(listener: PassfdListener, pairs: list[tuple[socket.socket, ...]]) -> None:
    class Listening:
        def __init__(self, peer: tuple[int, int]) -> None:
            self.peer = peer

        def accept(self) -> tuple[socket.socket, tuple[int, int]]:
            return pairs[0][0], self.peer

    listener._accept(Listening((3, 1001)))  # type: ignore[arg-type]  # what of a socket it uses
    assert pairs[0][0].fileno() == -1
    pairs[0][1].close()
    pairs[0] = socket.socketpair()
    listener._accept(Listening((2, 1001)))  # type: ignore[arg-type]  # as above
    assert pairs[0][0].fileno() != -1


@pytest.fixture
async def agent(listener: PassfdListener) -> Agent:
    agent = Agent(AgentConfig(), Reaper())
    agent.passed_connections = listener
    return agent


async def test_a_request_gets_what_it_names(
    agent: Agent, listener: PassfdListener, pairs: list[tuple[socket.socket, ...]]
) -> None:
    for port in (11, 12, 13):
        listener.keep(port, pairs[port - 11][0])
    async with named_connections(agent, StreamPorts(13, 0, 11)) as connections:
        assert connections == PassedConnections(pairs[2][0], None, pairs[0][0])
    assert pairs[2][0].fileno() != -1


async def test_after_a_failure_they_are_closed(
    agent: Agent, listener: PassfdListener, pairs: list[tuple[socket.socket, ...]]
) -> None:
    listener.keep(11, pairs[0][0])
    with pytest.raises(ValueError, match="launch"):
        async with named_connections(agent, StreamPorts(stdout=11)):
            raise ValueError("the launch failed")
    assert pairs[0][0].fileno() == -1


async def test_requests_without_ports_and_agents_without_a_listener(agent: Agent) -> None:
    async with named_connections(agent, StreamPorts()) as connections:
        assert connections is None
    agent.passed_connections = None
    async with named_connections(agent, StreamPorts(1, 2, 3)) as connections:
        assert connections is None
        connect_streams(None, connections)  # type: ignore[arg-type]  # no process is needed


@pytest.mark.parametrize("method", ["CreateContainer", "ExecProcess"])
def test_the_ports_are_read_from_the_request(method: str) -> None:
    from agent.service.kata2 import CODEC

    request = kata2.SERVICES["grpc.AgentService"][method][0](stdin_port=1, stdout_port=2, stderr_port=3)
    decoded = CODEC.decode("grpc.AgentService", method, request.SerializeToString())
    assert decoded.ports == StreamPorts(1, 2, 3)  # type: ignore[attr-defined]  # either of the two has it

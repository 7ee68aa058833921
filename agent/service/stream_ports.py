"""A process's streams over connections of the host's own, which it names by their ports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent.containers.process import PassedConnections, Process
from agent.service.agent import Agent
from agent.service.requests import StreamPorts


@asynccontextmanager
async def named_connections(agent: Agent, ports: StreamPorts) -> AsyncIterator[PassedConnections | None]:
    """The connections that `ports` names; None if it names none, or this agent has no port for them.

    Those that do not come are missing. If the block fails, all are closed.
    """
    if agent.passed_connections is None or ports == StreamPorts():
        yield None
        return
    take = agent.passed_connections.take
    connections = PassedConnections()
    try:
        connections.stdin = await take(ports.stdin)
        connections.stdout = await take(ports.stdout)
        connections.stderr = await take(ports.stderr)
        yield connections
    except BaseException:
        connections.close()
        raise


def connect_streams(process: Process, connections: PassedConnections | None) -> None:
    """Have `process` read and write by `connections`, if there are any."""
    if connections is not None:
        process.pass_on(connections)

"""What both wires offer a client: a call as bytes, and the errors it can end with."""

from __future__ import annotations

from typing import Protocol

# google.rpc.Code, the numbers that both wires use.
DEADLINE_EXCEEDED = 4
RESOURCE_EXHAUSTED = 8
UNAVAILABLE = 14


class AgentCallError(Exception):
    """The agent answered a call with a status other than OK, or not within the call's time.

    `code` is a google.rpc.Code, `message` the agent's own sentence.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} (status {code})")
        self.code = code
        self.message = message


class Channel(Protocol):
    """A connection to an agent on one wire; any number of calls at once."""

    async def call(self, service: str, method: str, payload: bytes, timeout_s: float | None) -> bytes:
        """Send an encoded request and return the encoded answer.

        Raises AgentCallError (the agent's status, or the time is over), ConnectionError (the agent
        has gone, or `close` was called).
        """
        ...

    async def close(self) -> None:
        """Close the connection; calls that still wait fail with ConnectionError."""
        ...

"""The agent's client: any call, on either wire, over unix sockets and vsock.

async with await connect("unix:///run/agent.sock", wire="ttrpc", timeout_s=30) as client:
    answer = await client.call("Version", client.messages.CheckRequest())
"""

from __future__ import annotations

import asyncio
import errno
import json
import socket
from types import ModuleType
from typing import Any, Literal, Self, TypeAlias

from google.protobuf import json_format
from google.protobuf.message import Message

from host.addresses import Address, parse_address
from host.channel import AgentCallError, Channel
from host.heap import keep_freed_memory
from host.ttrpc_channel import TtrpcChannel
from protos import kata1, kata2

__all__ = ["AgentCallError", "AgentClient", "connect", "request_from_json", "response_to_json"]

Wire = Literal["ttrpc", "grpc"]

AnyMessage: TypeAlias = Any
"""A message whose class depends on the method and the wire; its fields are in protos/kata?/."""

# How long one attempt to connect may take, and how soon the next follows. Nothing tells us that
# the agent of a machine that boots has begun to listen, and a daemon in between may swallow an
# attempt that comes too early.
_ATTEMPT_S = 2.0
_RETRY_S = 0.05

# Beside refused connections and missing socket files: a guest whose vsock is not up yet.
_NOT_YET = {errno.ENODEV, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EAGAIN}


class AgentClient:
    """A connection to one agent; any number of calls at once."""

    def __init__(self, wire: Wire, channel: Channel) -> None:
        self.wire = wire
        self.messages: ModuleType = kata2 if wire == "ttrpc" else kata1
        self._channel = channel
        self._methods = {
            method: (service, *classes)
            for service, methods in self.messages.SERVICES.items()
            for method, classes in methods.items()
        }

    @property
    def methods(self) -> list[str]:
        """The names of all calls of this wire, sorted."""
        return sorted(self._methods)

    def request_class(self, method: str) -> type[Message]:
        """The class of a method's request. Raises ValueError if this wire has no such method."""
        return self._method(method)[1]

    async def call(self, method: str, request: Message, *, timeout_s: float | None = 60.0) -> AnyMessage:
        """Call `method` ("CreateSandbox", "Check") and return its answer.

        `timeout_s` None waits for as long as it takes. Raises AgentCallError (the agent refuses,
        or the time is over), ConnectionError (the agent has gone), ValueError (no such method),
        TypeError (not this method's request, or that of the other wire).
        """
        service, request_class, response_class = self._method(method)
        if not isinstance(request, request_class):
            raise TypeError(f"{method} takes {request_class.__name__} of {self.messages.__name__}")
        answer = await self._channel.call(service, method, request.SerializeToString(), timeout_s)
        return response_class.FromString(answer)

    async def close(self) -> None:
        """Close the connection; calls that still wait fail with ConnectionError."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _method(self, name: str) -> tuple[str, type[Message], type[Message]]:
        try:
            return self._methods[name]
        except KeyError:
            raise ValueError(f"there is no call {name!r} over {self.wire}") from None


async def connect(address: str, *, wire: Wire, timeout_s: float) -> AgentClient:
    """Connect to the agent at `address`, trying until it listens, for at most `timeout_s`.

    `address` as host.addresses.parse_address reads it. Raises ValueError (no such form),
    ConnectionError (nobody there in time; says what the last attempt met), OSError (an error that
    waiting does not cure).
    """
    place = parse_address(address)
    keep_freed_memory()
    try:
        async with asyncio.timeout(timeout_s):
            connection = await _dial(place, timeout_s)
            if wire == "ttrpc":
                return AgentClient(wire, await TtrpcChannel.over(connection, str(place)))
            # Here, because grpc is large and ttrpc does without.
            from host.grpc_channel import GrpcChannel

            return AgentClient(wire, await GrpcChannel.over(connection, str(place)))
    except TimeoutError:
        raise ConnectionError(f"no agent has answered at {place} within {timeout_s:g} s") from None


async def _dial(place: Address, timeout_s: float) -> socket.socket:
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    while True:
        try:
            async with asyncio.timeout(_ATTEMPT_S):
                return await place.open()
        except OSError as error:
            passing = isinstance(error, ConnectionError | FileNotFoundError | TimeoutError)
            if not passing and error.errno not in _NOT_YET:
                raise
            if loop.time() + _RETRY_S >= end:
                reason = str(error) or "no answer"
                raise ConnectionError(f"no agent at {place} within {timeout_s:g} s: {reason}") from error
        await asyncio.sleep(_RETRY_S)


def request_from_json(client: AgentClient, method: str, text: str) -> Message:
    """The request of `method` that `text`, a JSON object, describes; empty text is an empty one.

    Field names as in the .proto files or in lowerCamelCase, bytes in base64. Raises ValueError,
    which names the field that does not fit.
    """
    request = client.request_class(method)()
    try:
        document = json.loads(text or "{}")
        if not isinstance(document, dict):  # json_format takes an empty array for an empty object
            raise json_format.ParseError("it is not an object")
        return json_format.ParseDict(document, request)
    except (json.JSONDecodeError, json_format.ParseError) as error:
        raise ValueError(f"this is no {type(request).__name__}: {error}") from None


def response_to_json(message: Message) -> str:
    """`message` as indented JSON, with the field names of the .proto files."""
    return json_format.MessageToJson(message, preserving_proto_field_name=True)

"""The generated messages as the host side builds them, and the OCI document in their form.

A host speaks one of two API generations. Their message classes have the same names but no common
type, so whoever builds a request takes the classes as an argument: `protos.kata1` or `protos.kata2`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from google.protobuf.message import Message


class Messages(Protocol):
    """The message classes that the host side builds requests from; a module satisfies it."""

    @property
    def CreateSandboxRequest(self) -> Callable[..., Message]: ...
    @property
    def CreateContainerRequest(self) -> Callable[..., Message]: ...
    @property
    def CopyFileRequest(self) -> Callable[..., Message]: ...
    @property
    def KernelModule(self) -> Callable[..., Message]: ...
    @property
    def Storage(self) -> Callable[..., Message]: ...
    @property
    def Device(self) -> Callable[..., Message]: ...
    @property
    def Spec(self) -> Callable[..., Message]: ...
    @property
    def Process(self) -> Callable[..., Message]: ...


class AgentCalls(Protocol):
    """The part of the agent's client (`host.client.AgentClient`) that a request needs."""

    @property
    def messages(self) -> Messages: ...

    async def call(self, method: str, request: Message, *, timeout_s: float | None = 60.0) -> Message:
        """Call `method` ("CreateContainer") and return its answer. Raises AgentCallError."""


# The one field of oci.proto that is not named after the JSON of the OCI runtime specification.
_JSON_NAMES = {"Version": "ociVersion"}


def fill_message(message: Message, document: Mapping[str, Any]) -> Message:
    """Copy an OCI runtime-spec `document` into `message`, a `Spec`, a `Process` or a part of one.

    A field takes the member of its own name, in whatever case: `UIDMappings` takes `uidMappings`. An
    empty object makes its field present. Members that the message has no field for are left out, as
    what a generation cannot say it cannot carry. Raises TypeError, ValueError for a member of another type.
    """
    members = {name.lower(): value for name, value in document.items()}
    for descriptor in message.DESCRIPTOR.fields:
        value = members.get(_JSON_NAMES.get(descriptor.name, descriptor.name).lower())
        if value is not None:
            _fill_field(message, descriptor, value)
    return message


def _fill_field(message: Message, descriptor: Any, value: Any) -> None:  # noqa: ANN401 - JSON
    name, kind = descriptor.name, descriptor.message_type
    if kind is not None and kind.GetOptions().map_entry:
        getattr(message, name).update(value)
    elif kind is not None and descriptor.is_repeated:
        _fill_list(getattr(message, name), value)
    elif kind is not None:
        part = getattr(message, name)
        part.SetInParent()
        fill_message(part, value)
    elif descriptor.is_repeated:
        getattr(message, name).extend(value)
    else:
        setattr(message, name, value)


def _fill_list(parts: Any, values: Iterable[Mapping[str, Any]]) -> None:  # noqa: ANN401 - a list of messages
    for value in values:
        fill_message(parts.add(), value)

"""Message classes built at run time from a committed descriptor set.

Both generations declare the same full names (`grpc.CreateContainerRequest`) with different
fields, which one descriptor pool refuses; so each generation has a `Schema` with a pool of its
own. Nothing is read before the first look-up, and a class is built when it is first asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message import Message

Method = tuple["type[Message]", "type[Message]"]
"""The request's class and the response's class of one RPC."""

_SERVICE_FILES = ("agent.proto", "health.proto")


@dataclass(frozen=True)
class Schema:
    """One generation: every message and enumeration by its short name, and its services."""

    descriptor_set: Path

    def lookup(self, name: str) -> Any:  # noqa: ANN401 - a class known only by its descriptor
        """The message class or enumeration called `name`, without its package.

        Raises AttributeError if this generation has none.
        """
        full_name = self._full_names.get(name)
        if full_name is None:
            raise AttributeError(f"{self.descriptor_set.parent.name} has no message or enumeration {name!r}")
        return self._build(full_name)

    def names(self) -> list[str]:
        """The short names of all messages and enumerations, sorted."""
        return sorted(self._full_names)

    @cached_property
    def services(self) -> Mapping[str, Mapping[str, Method]]:
        """Per service's full name ("grpc.AgentService"), each method's classes by its name."""
        from google.protobuf.message_factory import GetMessageClass

        services = {}
        for file_name in _SERVICE_FILES:
            for service in self.pool.FindFileByName(file_name).services_by_name.values():
                services[service.full_name] = MappingProxyType(
                    {
                        name: (GetMessageClass(method.input_type), GetMessageClass(method.output_type))
                        for name, method in service.methods_by_name.items()
                    }
                )
        return MappingProxyType(services)

    @cached_property
    def pool(self) -> DescriptorPool:
        """This generation's own pool, filled from the descriptor set."""
        return self._loaded[0]

    @cached_property
    def _full_names(self) -> dict[str, str]:
        return self._loaded[1]

    @cached_property
    def _loaded(self) -> tuple[DescriptorPool, dict[str, str]]:
        # Imported here: 38 ms and some MB that a process pays when it decodes its first message.
        from google.protobuf.descriptor_pb2 import FileDescriptorSet
        from google.protobuf.descriptor_pool import DescriptorPool

        files = FileDescriptorSet.FromString(self.descriptor_set.read_bytes()).file
        pool = DescriptorPool()
        full_names: dict[str, str] = {}
        for file in files:
            pool.AddSerializedFile(file.SerializeToString())
            names = [message.name for message in file.message_type] + [enum.name for enum in file.enum_type]
            full_names.update({name: f"{file.package}.{name}" for name in names})
        return pool, full_names

    def _build(self, full_name: str) -> Any:  # noqa: ANN401 - as in lookup()
        from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
        from google.protobuf.message_factory import GetMessageClass

        try:
            return GetMessageClass(self.pool.FindMessageTypeByName(full_name))
        except KeyError:
            return EnumTypeWrapper(self.pool.FindEnumTypeByName(full_name))

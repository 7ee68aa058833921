"""A type stub for one generation's module, from its descriptors.

The stubs that protoc writes describe a `_pb2` module per .proto file; ours is one flat module
whose classes come from a pool of their own, so we write ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import (
        DescriptorProto,
        EnumDescriptorProto,
        FieldDescriptorProto,
        FileDescriptorSet,
    )

_HEADER = '''\
"""Written by protos/generate.py from the .proto files beside it."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from google.protobuf.internal.containers import (
    MessageMap,
    RepeatedCompositeFieldContainer,
    RepeatedScalarFieldContainer,
    ScalarMap,
)
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message

SERVICES: Mapping[str, Mapping[str, tuple[type[Message], type[Message]]]]
'''

# Numbers of FieldDescriptorProto.Type and .Label (google/protobuf/descriptor.proto).
_MESSAGE = 11
_SCALARS = {8: "bool", 9: "str", 12: "bytes"}  # every other scalar is an int
_REPEATED = 3

_INDENT = "    "


def stub_text(files: FileDescriptorSet) -> str:
    """The stub of a module that has every message and enumeration of `files` as an attribute."""
    enums = sorted((enum for file in files.file for enum in file.enum_type), key=lambda enum: enum.name)
    messages = sorted(
        (message for file in files.file for message in file.message_type), key=lambda message: message.name
    )
    blocks = [_HEADER, *map(_enum, enums), *map(_message, messages)]
    return "\n".join(blocks)


def _enum(enum: EnumDescriptorProto, indent: str = "") -> str:
    """A class for the wrapper, and its one instance under the enumeration's own name."""
    lines = [f"class _{enum.name}Wrapper(EnumTypeWrapper):"]
    lines += [f"{_INDENT}{value.name}: int" for value in enum.value]
    lines += [f"{enum.name}: _{enum.name}Wrapper"]
    return "".join(f"{indent}{line}\n" for line in lines)


def _message(message: DescriptorProto) -> str:
    """A class, and an alias of it: a field may have the name of its own type (Spec.Process)."""
    maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    body = ""
    for enum in message.enum_type:
        body += _enum(enum, _INDENT)
        body += "".join(f"{_INDENT}{value.name}: int\n" for value in enum.value)
    arguments = ""
    for field in message.field:
        read, write = _types(field, maps)
        if read == write:
            body += f"{_INDENT}{field.name}: {read}\n"
        else:
            body += f"{_INDENT}@property\n{_INDENT}def {field.name}(self) -> {read}: ...\n"
        arguments += f", {field.name}: {write} = ..."
    if arguments:
        body += f"{_INDENT}def __init__(self, *{arguments}) -> None: ...\n"
    head = f"class {message.name}(Message):"
    return f"{head}\n{body or _INDENT + '...'}\n_{message.name}: TypeAlias = {message.name}\n"


def _types(field: FieldDescriptorProto, maps: dict[str, DescriptorProto]) -> tuple[str, str]:
    """What reading `field` gives, and what the constructor takes for it."""
    one = _element(field)
    is_message = field.type == _MESSAGE
    entry = maps.get(field.type_name.rpartition(".")[2]) if is_message else None
    if entry is not None:
        key, value = (_element(each) for each in entry.field)
        container = "MessageMap" if entry.field[1].type == _MESSAGE else "ScalarMap"
        return f"{container}[{key}, {value}]", f"Mapping[{key}, {value}]"
    taken = f"{one} | Mapping[str, Any]" if is_message else one
    if field.label == _REPEATED:
        container = "RepeatedCompositeFieldContainer" if is_message else "RepeatedScalarFieldContainer"
        return f"{container}[{one}]", f"Iterable[{taken}]"
    return one, f"{taken} | None" if is_message else one


def _element(field: FieldDescriptorProto) -> str:
    if field.type == _MESSAGE:
        return "_" + field.type_name.rpartition(".")[2]
    return _SCALARS.get(field.type, "int")

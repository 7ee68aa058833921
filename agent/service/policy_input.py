"""A request as a policy sees it: the document `input` of its rules.

The field names, numbers and nulls are those of the Rust agent, whose messages go through serde as
rust-protobuf generates them (kata-containers src/agent/src/policy.rs and
src/libs/protocols/build.rs): policies are written against that. A 1.x request is presented in the same
way, with its own generation's fields. No message class is imported.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import Any, TypeAlias

from agent.errors import CodedError, StatusCode

Json: TypeAlias = Any
Message: TypeAlias = Any  # of either generation: the two have no type in common
Field: TypeAlias = Any  # its descriptor

# Names that are words of Rust get an underscore (rust-protobuf, rust_name.rs).
_RUST_WORDS = frozenset({"type", "move", "match", "ref", "use", "where", "in", "as"})

_FILE_TYPES = {stat.S_IFREG: "Regular", stat.S_IFDIR: "Directory", stat.S_IFLNK: "Symlink"}


def rule_name(message: Message) -> str:
    """The rule that decides on `message`: its type's name."""
    name: str = message.DESCRIPTOR.name
    return name


def input_document(message: Message) -> Json:
    """`message` as the rules' input. Raises CodedError (INTERNAL) for a link's target that is no UTF-8."""
    if rule_name(message) == "CopyFileRequest":
        return _copy_file(message)
    return _document(message)


def _document(message: Message) -> Json:
    document: dict[str, Json] = {}
    for oneof in message.DESCRIPTOR.oneofs:
        if not _is_synthetic(oneof):
            chosen = message.WhichOneof(oneof.name)
            document[oneof.name] = None if chosen is None else {chosen: getattr(message, chosen)}
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof is None or _is_synthetic(field.containing_oneof):
            name = f"{field.name}_" if field.name in _RUST_WORDS else field.name
            document[name] = _field(message, field)
    return document


def _is_synthetic(oneof: Any) -> bool:  # noqa: ANN401 - a descriptor of protobuf's
    """Whether protobuf has made `oneof` to keep the presence of one `optional` field."""
    return len(oneof.fields) == 1 and bool(oneof.fields[0].has_presence) and oneof.name.startswith("_")


def _field(message: Message, field: Field) -> Json:
    value = getattr(message, field.name)
    if _is_map(field):
        of_value = _converter(field.message_type.fields_by_name["value"])
        return {str(key): of_value(item) for key, item in value.items()}
    convert = _converter(field)
    if field.is_repeated:
        return [convert(item) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return convert(value)


def _is_map(field: Field) -> bool:
    kind = field.message_type
    return kind is not None and bool(kind.GetOptions().map_entry)


def _converter(field: Field) -> Callable[[Any], Json]:
    if field.message_type is not None:
        return _document
    if field.type == field.TYPE_BYTES:
        return list
    return lambda value: value


def _copy_file(message: Message) -> Json:
    """Without the data, and with words where rules would have to take numbers apart."""
    file_type = _FILE_TYPES.get(stat.S_IFMT(message.file_mode), "Unknown")
    target = None
    if file_type == "Symlink":
        try:
            target = message.data.decode()
        except UnicodeDecodeError as error:
            raise CodedError(
                StatusCode.INTERNAL, f"the target of the link {message.path} is no UTF-8"
            ) from error
    names = ("path", "file_size", "file_mode", "dir_mode", "uid", "gid", "offset")
    return {
        "file_type": file_type,
        "symlink_target": target,
        **{name: getattr(message, name) for name in names},
    }

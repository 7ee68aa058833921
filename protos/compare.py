"""Compare our schemas with the originals they were written from, name by name, number by number.

    python protos/compare.py kata2 DIRECTORY

DIRECTORY holds the original .proto files, laid out as their import lines expect. Comments, order
and the split into files do not count; package, message, field, number, type, label, presence,
JSON name, enumeration values and RPC signatures do. Prints each difference; exits 1 if there is one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

# Run as a script: sys.path begins with protos/ itself, not with the folder that holds it.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from protos.generate import compile_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorSet

OUR_PACKAGES = ("grpc", "types")


def facts(files: FileDescriptorSet) -> set[str]:
    """Every fact of `files` that a byte on the wire or a name in JSON depends on, a line each."""
    lines: set[str] = set()
    for file in files.file:
        if file.package not in OUR_PACKAGES:
            continue
        for message in file.message_type:
            lines.update(_message_facts(f"{file.package}.{message.name}", message))
        for enum in file.enum_type:
            lines.update(_enum_facts(f"{file.package}.{enum.name}", enum))
        for service in file.service:
            lines.update(
                f"rpc {file.package}.{service.name}/{method.name} {method.input_type} -> {method.output_type}"
                for method in service.method
            )
    return lines


def _message_facts(name: str, message: DescriptorProto) -> Iterator[str]:
    yield f"message {name}"
    for field in message.field:
        presence = "explicit" if field.HasField("oneof_index") else "implicit"
        yield (
            f"field {name}.{field.name} = {field.number}: type {field.type} {field.type_name} "
            f"label {field.label} presence {presence} json {field.json_name}"
        )
    for nested in message.nested_type:
        yield from _message_facts(f"{name}.{nested.name}", nested)
    for enum in message.enum_type:
        yield from _enum_facts(f"{name}.{enum.name}", enum)


def _enum_facts(name: str, enum: EnumDescriptorProto) -> Iterator[str]:
    for value in enum.value:
        yield f"enum {name}.{value.name} = {value.number}"


def main(argv: list[str]) -> int:
    """Compare generation argv[0] with the originals in directory argv[1]."""
    generation, originals = argv
    ours = facts(compile_schema(Path(__file__).with_name(generation)))
    theirs = facts(compile_schema(Path(originals)))
    for line in sorted(ours - theirs):
        sys.stdout.write(f"only ours:   {line}\n")
    for line in sorted(theirs - ours):
        sys.stdout.write(f"only theirs: {line}\n")
    sys.stdout.write(f"{generation}: {len(ours & theirs)} facts agree, {len(ours ^ theirs)} differ\n")
    return 1 if ours ^ theirs else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

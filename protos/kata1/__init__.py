"""The messages and services of Kata Containers 1.x, spoken over gRPC.

Each message class and enumeration is an attribute (`kata1.CreateContainerRequest`), built when it
is first used. The stub beside this file, written by `protos/generate.py`, tells type checkers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from protos.schema import Schema

_schema = Schema(Path(__file__).with_name("descriptors.binpb"))


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the stub has the types
    if name == "SERVICES":
        value: Any = _schema.services
    else:
        value = _schema.lookup(name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return ["SERVICES", *_schema.names()]

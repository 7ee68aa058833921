"""What a row of the RPC tables says, and the words its states are named by.

The tables in this folder are data: `tests/privileged/test_rpc_tables.py` runs each row over both wires
against a running agent, as root, because most of them need containers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["none", "sandbox", "created", "running", "stopped", "paused", "terminal", "destroyed"]
"""Before the call: no sandbox; a sandbox; in it a container `c1` that is created, runs `cat`, has exited
with 7, is frozen, or runs `cat` on a terminal; the sandbox is gone again (1.x: a later agent is, too)."""

Status = Literal["created", "running", "stopped", "paused", "absent"]

# google.rpc.Code
OK, UNKNOWN, INVALID, DEADLINE, NOT_FOUND, EXISTS, PRECONDITION = 0, 2, 3, 4, 5, 6, 9
UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 12, 13, 14

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One call: in which state, with what, answered how, and what is so afterwards.

    `later` and `old` are the codes for hosts of Kata 2 to 4 and of 1.x; None where the generation has
    no such method or field. `says` is part of the error's message. `answer` holds the answer's
    fields, or a function that judges it. `after`: c1's state, where it is told. A refused call
    leaves c1, mounts, files and cgroups as they were.
    """

    state: State
    fields: Fields | Callable[[Any], Fields]
    later: int | None = OK
    old: int | None = OK
    says: str = ""
    answer: Fields | Callable[[Any], object] = field(default_factory=dict)
    after: Status | None = None


C1: Fields = {"container_id": "c1"}
INIT: Fields = {"container_id": "c1", "exec_id": "c1"}
NOBODY: Fields = {"container_id": "nobody"}
NO_EXEC: Fields = {"container_id": "c1", "exec_id": "e9"}

"""Processes and their streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.contract.rpc.cases import (
    C1,
    INIT,
    INTERNAL,
    INVALID,
    NO_EXEC,
    NOBODY,
    NOT_FOUND,
    OK,
    PRECONDITION,
    UNAVAILABLE,
    UNKNOWN,
    Fields,
    Row,
)

_KILL: Fields = {"signal": 9}


def _find(fields: Fields, *, unknown: int = INVALID, no_exec: int = NOT_FOUND) -> list[Row]:
    """What every call about a process answers when there is none; the codes are a later host's."""
    return [
        Row("running", {**NO_EXEC, **fields}, no_exec, NOT_FOUND, "e9"),
        Row("sandbox", {**NOBODY, "exec_id": "nobody", **fields}, unknown, NOT_FOUND, "nobody"),
        Row("none", {**NOBODY, "exec_id": "nobody", **fields}, unknown, PRECONDITION),
        Row("destroyed", {**INIT, **fields}, None, PRECONDITION, "Sandbox not started"),
    ]


TABLES: Mapping[str, Sequence[Row]] = {
    "SignalProcess": [
        Row("running", {**INIT, **_KILL}),
        Row("running", {**C1, **_KILL}),
        Row("paused", {**INIT, **_KILL}),
        Row("stopped", {**INIT, **_KILL}),
        Row("running", {**INIT, "signal": 0}),
        Row("running", {**INIT, "signal": 65}, INVALID, INVALID, "65"),
        Row("running", {**NO_EXEC, **_KILL}, NOT_FOUND, NOT_FOUND, "e9"),
        Row("sandbox", {**NOBODY, "exec_id": "nobody", **_KILL}, INVALID, PRECONDITION, "nobody"),
        Row("none", {**NOBODY, **_KILL}, INVALID, PRECONDITION),
    ],
    "WaitProcess": [
        Row("stopped", INIT, answer={"status": 7}),
        Row("stopped", C1, OK, NOT_FOUND, answer=lambda answer: answer.status == 7),
        *_find({}),
    ],
    "ReadStdout": [
        Row("stopped", {**INIT, "len": 100}, answer={"data": b"out\n"}),
        Row("stopped", {**INIT, "len": 2}, answer={"data": b"ou"}),
        Row("running", {**INIT, "len": 0}, answer={"data": b""}),
        *_find({"len": 1}),
    ],
    "ReadStderr": [
        # Nothing was written: the end, which 1.x tells as an error.
        Row("stopped", {**INIT, "len": 100}, OK, UNKNOWN, "EOF", answer={"data": b""}),
        Row("running", {**INIT, "len": 0}, answer={"data": b""}),
        *_find({"len": 1}),
    ],
    "WriteStdin": [
        Row("running", {**INIT, "data": b"abc"}, answer={"len": 3}),
        Row("created", {**INIT, "data": b"abc"}, answer={"len": 3}),
        Row("running", {**INIT, "data": b""}, answer={"len": 0}),
        Row("stopped", {**INIT, "data": b"abc"}, INTERNAL, UNKNOWN, "EPIPE"),
        *_find({"data": b"x"}, unknown=INTERNAL, no_exec=INTERNAL),
    ],
    "CloseStdin": [
        Row("running", INIT),
        Row("stopped", INIT),
        Row("terminal", INIT),
        *_find({}),
    ],
    "TtyWinResize": [
        Row("terminal", {**INIT, "row": 24, "column": 80}),
        Row("terminal", {**INIT, "row": 70000, "column": 0}),
        Row("running", {**INIT, "row": 24, "column": 80}, UNAVAILABLE, PRECONDITION, "no tty"),
        *_find({}),
    ],
}

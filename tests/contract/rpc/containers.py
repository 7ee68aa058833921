"""The sandbox and the lives of containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.contract.rpc.cases import (
    C1,
    EXISTS,
    INTERNAL,
    INVALID,
    NOBODY,
    NOT_FOUND,
    PRECONDITION,
    UNKNOWN,
    Fields,
    Row,
)


def creation(host: Any) -> Fields:
    """A good CreateContainer."""
    return {"container_id": "c1", "exec_id": "c1", "OCI": host.spec("cat", container_id="c1")}


def _with(**fields: Any) -> Any:
    return lambda host: {**creation(host), **fields}


def _exec(exec_id: str, *command: str) -> Any:
    return lambda host: {"container_id": "c1", "exec_id": exec_id, "process": host.process(*command)}


TABLES: Mapping[str, Sequence[Row]] = {
    "CreateSandbox": [
        Row("none", {"sandbox_id": "s1", "hostname": "boxy"}),
        Row("sandbox", {"sandbox_id": "s1"}, EXISTS, EXISTS, "s1"),
        Row("none", {"sandbox_id": "s1", "storages": [{"driver": "floppy"}]}, INVALID, INVALID, "floppy"),
        Row("destroyed", {"sandbox_id": "s2"}, None),
    ],
    "DestroySandbox": [
        Row("none", {}),
        Row("sandbox", {}),
        Row("running", {}, after="absent"),
        Row("destroyed", {}, None),
    ],
    "CreateContainer": [
        Row("sandbox", creation, after="created"),
        Row("none", creation, old=PRECONDITION, says="Sandbox not started"),
        Row("created", creation, EXISTS, EXISTS, "c1"),
        Row("stopped", creation, EXISTS, EXISTS, "c1"),
        Row("sandbox", _with(container_id="../x"), INVALID, INVALID, "../x"),
        Row("sandbox", _with(OCI=None), INVALID, INVALID, "no OCI spec"),
        Row("sandbox", _with(devices=[{"type": "tape"}]), INVALID, INVALID, "tape"),
        Row("destroyed", creation, None, PRECONDITION),
    ],
    "StartContainer": [
        Row("created", C1, after="running"),
        Row("running", C1, PRECONDITION, PRECONDITION, "running"),
        Row("stopped", C1, PRECONDITION, PRECONDITION, "stopped"),
        Row("paused", C1, PRECONDITION, PRECONDITION, "paused"),
        Row("sandbox", NOBODY, INTERNAL, NOT_FOUND, "nobody"),
        Row("none", NOBODY, INTERNAL, PRECONDITION),
    ],
    "RemoveContainer": [
        Row("created", C1, after="absent"),
        Row("running", C1, after="absent"),
        Row("stopped", C1, after="absent"),
        Row("paused", C1, after="absent"),
        Row("running", {**C1, "timeout": 30}, after="absent"),
        Row("sandbox", NOBODY, INTERNAL, NOT_FOUND, "nobody"),
        Row("none", NOBODY, INTERNAL, NOT_FOUND),
        Row("destroyed", C1, None, NOT_FOUND),
    ],
    "ExecProcess": [
        Row("running", _exec("e1", "true")),
        Row("created", _exec("e1", "true")),
        Row("running", _exec("c1", "true"), INTERNAL, EXISTS, "already exists"),
        Row("running", _exec("a/b", "true"), INVALID, INVALID, "a/b"),
        Row("running", _exec("e1", "nothing"), INTERNAL, INTERNAL, "exit status 127"),
        Row("running", {**C1, "exec_id": "e1"}, INVALID, INVALID, "no process"),
        Row("stopped", _exec("e1", "true"), PRECONDITION, PRECONDITION, "stopped"),
        Row("paused", _exec("e1", "true"), PRECONDITION, PRECONDITION, "paused"),
        Row("sandbox", {**NOBODY, "exec_id": "e1"}, INTERNAL, NOT_FOUND, "nobody"),
        Row("none", {**NOBODY, "exec_id": "e1"}, INTERNAL, PRECONDITION),
    ],
    "UpdateContainer": [
        Row("running", {**C1, "resources": {"Pids": {"Limit": 99}}}),
        Row("created", {**C1, "resources": {"Pids": {"Limit": 99}}}),
        Row("running", {**C1, "resources": {"CPU": {"Cpus": "x"}}}, INVALID, UNKNOWN),
        Row("running", C1, old=UNKNOWN),
        Row("stopped", {**C1, "resources": {"Pids": {"Limit": 9}}}, PRECONDITION, UNKNOWN, "stopped"),
        Row("sandbox", {**NOBODY, "resources": {}}, INVALID, NOT_FOUND, "nobody"),
        Row("none", {**NOBODY, "resources": {}}, INVALID, NOT_FOUND),
    ],
    "StatsContainer": [
        Row("running", C1, answer=lambda answer: answer.cgroup_stats.pids_stats.current >= 1),
        Row("created", C1),
        Row("paused", C1),
        Row("stopped", C1),
        Row("sandbox", NOBODY, INVALID, NOT_FOUND, "nobody"),
        Row("none", NOBODY, INVALID, NOT_FOUND),
    ],
    "PauseContainer": [
        Row("running", C1, after="paused"),
        Row("created", C1),  # crun goes on calling it created
        Row("paused", C1, INTERNAL, UNKNOWN, "paused"),
        Row("stopped", C1, INTERNAL, UNKNOWN, "stopped"),
        Row("sandbox", NOBODY, INVALID, NOT_FOUND, "nobody"),
        Row("none", NOBODY, INVALID, NOT_FOUND),
    ],
    "ResumeContainer": [
        Row("paused", C1, after="running"),
        Row("running", C1, INTERNAL, UNKNOWN, "not paused"),
        Row("created", C1, INTERNAL, UNKNOWN, "not paused"),
        Row("stopped", C1, INTERNAL, UNKNOWN, "not paused"),
        Row("sandbox", NOBODY, INVALID, NOT_FOUND, "nobody"),
        Row("none", NOBODY, INVALID, NOT_FOUND),
    ],
    "ListProcesses": [
        Row("running", {**C1, "format": "json"}, None, answer=lambda answer: answer.process_list[:1] == b"["),
        Row("running", {**C1, "format": "table"}, None, answer=lambda answer: b"PID" in answer.process_list),
        Row("running", {**C1, "format": "xml"}, None, UNKNOWN, "xml"),
        Row("sandbox", {**NOBODY, "format": "json"}, None, NOT_FOUND, "nobody"),
    ],
    "GetDiagnosticData": [
        Row("running", {**C1, "log_type": "core"}, INVALID, None, "core"),
        Row("running", {**C1, "log_type": "termination_log"}, INTERNAL, None, "annotation"),
        Row("sandbox", {**NOBODY, "log_type": "termination_log"}, INTERNAL, None, "nobody"),
    ],
}

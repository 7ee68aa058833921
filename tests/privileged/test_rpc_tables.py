"""Every row of the RPC tables, over both wires, against a running agent."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.service.routes import ROUTES, UNSUPPORTED
from protos import kata1, kata2
from tests.contract.rpc import containers, guest, processes
from tests.contract.rpc.cases import OK, Row, State
from tests.privileged.agents import AgentProcess, Host, Wire, agent_process, guest_state, host_of

TABLES = {**containers.TABLES, **processes.TABLES, **guest.TABLES}
CRUN_ROOT = "/run/kata-agent/crun"
RUNNING = ("running", "paused", "terminal")


class Agents:
    """One agent at a time, on one wire; another only when a row wants what this one has no longer."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._life = ExitStack()
        self._wire: Wire | None = None
        self._agent: AgentProcess | None = None
        self.has_sandbox = False

    def on(self, wire: Wire, *, fresh: bool) -> AgentProcess:
        """An agent for `wire`; `fresh`: without a sandbox."""
        ended = self._agent is None or self._agent.process.poll() is not None
        if ended or self._wire != wire or (fresh and self.has_sandbox):
            self.stop()
            place = Path(tempfile.mkdtemp(dir=self._directory))
            self._agent = self._life.enter_context(agent_process(place, prefix=["unshare", "-n"]))
            self._wire = wire
        assert self._agent is not None
        return self._agent

    def stop(self) -> None:
        self._life.close()
        self._agent = None
        self.has_sandbox = False


@pytest.fixture(scope="module")
def agents() -> Iterator[Agents]:
    directory = Path(tempfile.mkdtemp(prefix="rpc", dir="/run"))
    agents = Agents(directory)
    yield agents
    agents.stop()
    shutil.rmtree(directory)
    # What CopyFile has copied stays, as the host that copied it expects.
    shutil.rmtree("/run/kata-containers/shared", ignore_errors=True)


def status(container_id: str = "c1") -> str:
    """What the OCI runtime says of a container."""
    done = subprocess.run(
        ["crun", "--root", CRUN_ROOT, "state", container_id], capture_output=True, text=True, check=False
    )
    return str(json.loads(done.stdout)["status"]) if done.returncode == 0 else "absent"


def comes_to(expected: str, patience_s: float = 5.0) -> bool:
    """Whether c1 gets into this state: with cgroup v1 the kernel freezes a little after the call."""
    end = time.monotonic() + patience_s
    while status() != expected:
        if time.monotonic() > end:
            return False
    return True


async def _bring(host: Host, agents: Agents, state: State) -> None:
    """Make it so that `state` holds."""
    if state == "none":
        return
    if not agents.has_sandbox:
        await host.call("CreateSandbox", sandbox_id="s1")
        agents.has_sandbox = True
    if state == "destroyed":
        await host.call("DestroySandbox")
        agents.has_sandbox = False
    elif state == "stopped":
        await host.run("c1", "sh", "-c", "echo out; exit 7")
        assert await host.wait("c1") == 7
    elif state != "sandbox":
        terminal = state == "terminal"
        await host.create("c1", spec=host.spec("cat", container_id="c1", Terminal=terminal))
    if state in RUNNING:
        await host.call("StartContainer", container_id="c1")
    if state == "paused":
        await host.call("PauseContainer", container_id="c1")
        assert comes_to("paused")


@asynccontextmanager
async def _host_in(state: State, agents: Agents, wire: Wire, rootfs: Path) -> AsyncIterator[Host]:
    async with host_of(agents.on(wire, fresh=state == "none"), wire, rootfs) as host:
        await _bring(host, agents, state)
        try:
            yield host
        finally:
            if host.agent.process.poll() is None and status() != "absent":
                await host.remove("c1")


def _rows() -> list[Any]:
    """Those that need no sandbox first: so one agent serves them all, and the rest too."""
    rows = [
        (method, number, row, wire)
        for wire in ("ttrpc", "grpc")
        for method, table in TABLES.items()
        for number, row in enumerate(table)
        if (row.old if wire == "grpc" else row.later) is not None
    ]
    rows.sort(key=lambda each: (each[3], each[2].state != "none", each[0] == "DestroySandbox"))
    return [
        pytest.param(method, row, wire, id=f"{method}-{number}-{row.state}-{wire}")
        for method, number, row, wire in rows
    ]


@pytest.mark.parametrize(("method", "row", "wire"), _rows())
async def test_row(method: str, row: Row, wire: Wire, agents: Agents, busybox_rootfs: Path) -> None:
    async with _host_in(row.state, agents, wire, busybox_rootfs) as host:
        fields = row.fields(host) if callable(row.fields) else row.fields
        code = row.old if host.is_old else row.later
        before, was = guest_state(ignored=busybox_rootfs), status()
        if code == OK:
            _check(row, await host.call(method, **fields))
        else:
            refused = await host.refused(method, **fields)
            assert refused[0] == code, refused[1]
            assert row.says in refused[1]
            assert "\n" not in refused[1]
            assert guest_state(ignored=busybox_rootfs) == before
            assert status() == was
        if method in ("CreateSandbox", "DestroySandbox") and code == OK:
            agents.has_sandbox = method == "CreateSandbox"
            if method == "DestroySandbox" and not host.is_old:
                assert await host.agent.ended() == 0
        assert row.after is None or comes_to(row.after)


def _check(row: Row, answer: Any) -> None:
    if callable(row.answer):
        assert row.answer(answer)
    else:
        assert {name: getattr(answer, name) for name in row.answer} == row.answer


def test_every_method_has_a_table() -> None:
    methods = {method for handlers in ROUTES.values() for method in handlers} | UNSUPPORTED.keys()
    assert methods == TABLES.keys()
    for messages in (kata1, kata2):
        for service in messages.SERVICES.values():
            assert service.keys() <= methods


NO_ORDINARY_ROW = {
    # What it takes is another test's: a disk, a clock to be set, entropy that is counted, rules.
    "GetOOMEvent", "ReseedRandomDev", "SetGuestDateTime", "UpdateInterface", "AddSwap", "AddSwapPath",
    "ResizeVolume", "SetIPTables", "MemAgentMemcgSet", "MemAgentCompactSet", "SetPolicy",
    "GetDiagnosticData", "StartTracing", "StopTracing",
}  # fmt: skip


@pytest.mark.parametrize("code_of", [lambda row: row.later, lambda row: row.old], ids=["later", "old"])
def test_tables_hold_successes(code_of: Callable[[Row], int | None]) -> None:
    without = {
        method
        for method, table in TABLES.items()
        if any(code_of(row) is not None for row in table) and all(code_of(row) != OK for row in table)
    }
    assert without <= NO_ORDINARY_ROW

"""Calls in any order: whatever a host does, each answer is the one that the model foresees.

Hypothesis makes up the orders, among them repetitions, calls before CreateSandbox and after
DestroySandbox, and containers that are created again. The agent is a real one, with real containers.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from hypothesis.strategies import integers, lists, sampled_from

from host.client import AgentCallError
from tests.contract.rpc.cases import EXISTS, INTERNAL, INVALID, NOT_FOUND, OK, PRECONDITION, UNKNOWN
from tests.privileged.agents import BOTH_WIRES, Host, Wire, agent_process, guest_state, host_of

CONTAINERS = sampled_from(["c1", "c2"])

# What a container has to be for a call to succeed, and what it is afterwards.
ALLOWED: dict[str, dict[str, str]] = {
    "StartContainer": {"created": "running"},
    "ExecProcess": {"created": "created", "running": "running"},
    "PauseContainer": {"created": "paused created", "running": "paused running"},
    "ResumeContainer": {"paused created": "created", "paused running": "running"},
    "SignalProcess": dict.fromkeys(
        ("created", "running", "paused created", "paused running", "stopped"), "stopped"
    ),
    "RemoveContainer": dict.fromkeys(
        ("created", "running", "paused created", "paused running", "stopped"), "absent"
    ),
    "StatsContainer": {
        each: each for each in ("created", "running", "paused created", "paused running", "stopped")
    },
    "WaitProcess": {"stopped": "stopped"},
}
METHODS = sampled_from(sorted(ALLOWED))
NEEDS_SANDBOX = {"CreateContainer", "StartContainer", "ExecProcess", "SignalProcess", "WaitProcess"}
# Codes for later and for 1.x hosts: of a container that does not exist, and of one in another state.
UNKNOWN_CONTAINER = {
    "StartContainer": (INTERNAL, NOT_FOUND),
    "ExecProcess": (INTERNAL, NOT_FOUND),
    "RemoveContainer": (INTERNAL, NOT_FOUND),
    "SignalProcess": (INVALID, PRECONDITION),
}
WRONG_STATE = {"PauseContainer": (INTERNAL, UNKNOWN), "ResumeContainer": (INTERNAL, UNKNOWN)}


class Orders(RuleBasedStateMachine):
    """A host, an agent, and a model of what the agent must hold."""

    wire: ClassVar[Wire]
    directory: ClassVar[Path]
    rootfs: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.life = AsyncExitStack()
        self.host: Host = self.runner.run(self._connect())
        self.before = guest_state(ignored=self.directory)
        self.sandbox = False
        self.containers: dict[str, str] = {}
        self.execs = 0

    async def _connect(self) -> Host:
        place = Path(tempfile.mkdtemp(dir=self.directory))
        agent = self.life.enter_context(agent_process(place))
        return await self.life.enter_async_context(host_of(agent, self.wire, self.rootfs))

    def teardown(self) -> None:
        """Whatever was left is gone when the agent has ended."""
        try:
            self.runner.run(self.host.finish())
            assert guest_state(ignored=self.directory) == self.before
        finally:
            self.runner.run(self.life.aclose())
            self.runner.close()

    def code(self, method: str, **fields: Any) -> int:
        """Call, and return the code."""
        try:
            self.runner.run(self.host.call(method, **fields))
        except AgentCallError as error:
            return error.code
        return OK

    def foreseen(self, method: str, container_id: str) -> int:
        """The code that the model has for a call about a container."""
        state = self.containers.get(container_id, "absent")
        if self.host.is_old and not self.sandbox and method in NEEDS_SANDBOX:
            return PRECONDITION
        if state == "absent":
            return UNKNOWN_CONTAINER.get(method, (INVALID, NOT_FOUND))[self.host.is_old]
        if state not in ALLOWED[method]:
            return WRONG_STATE.get(method, (PRECONDITION, PRECONDITION))[self.host.is_old]
        return OK

    def do(self, method: str, container_id: str, **fields: Any) -> None:
        """Call, compare with the model, and carry the model on."""
        foreseen = self.foreseen(method, container_id)
        assert self.code(method, container_id=container_id, **fields) == foreseen, self.containers
        if foreseen == OK:
            after = ALLOWED[method][self.containers[container_id]]
            self.containers[container_id] = after
            if after == "absent":
                del self.containers[container_id]

    @initialize(
        is_bare=sampled_from([False, False, False, True]),
        states=lists(sampled_from(["none", "created", "running", "paused running"]), min_size=2, max_size=2),
    )
    def begin(self, is_bare: bool, states: list[str]) -> None:
        """Often with containers: most of what can go wrong needs one."""
        if is_bare:
            return
        self.create_sandbox()
        for container_id, state in zip(("c1", "c2"), states, strict=True):
            if state != "none":
                self.create_container(container_id)
            if state.endswith("running"):
                self.do("StartContainer", container_id)
            if state.startswith("paused"):
                self.do("PauseContainer", container_id)

    @rule()
    def create_sandbox(self) -> None:
        assert self.code("CreateSandbox", sandbox_id="s1") == (EXISTS if self.sandbox else OK)
        self.sandbox = True

    @precondition(lambda self: self.host.is_old)  # to a later host it is the end
    @rule(chance=integers(0, 9))
    def destroy_sandbox(self, chance: int) -> None:
        if chance != 7:  # seldom: it ends all that the others have built up
            return
        assert self.code("DestroySandbox") == OK
        self.sandbox = False
        self.containers.clear()
        assert guest_state(ignored=self.directory) == self.before

    @rule(container_id=CONTAINERS)
    def create_container(self, container_id: str) -> None:
        foreseen = EXISTS if container_id in self.containers else OK
        if self.host.is_old and not self.sandbox:
            foreseen = PRECONDITION
        spec = self.host.spec("cat", container_id=container_id)
        names = {"container_id": container_id, "exec_id": container_id}
        assert self.code("CreateContainer", **names, OCI=spec) == foreseen
        if foreseen == OK:
            self.containers[container_id] = "created"

    @precondition(lambda self: self.containers)
    @rule(method=METHODS, number=integers(0, 1))
    def about_a_container(self, method: str, number: int) -> None:
        self.about(method, sorted(self.containers)[number % len(self.containers)])

    @rule(method=METHODS)
    def about_nobody(self, method: str) -> None:
        self.about(method, "c3")

    def about(self, method: str, container_id: str) -> None:
        """Call `method` with what it needs."""
        fields: dict[str, Any] = {}
        if method == "ExecProcess":
            self.execs += 1
            fields = {"exec_id": f"e{self.execs}", "process": self.host.process("true")}
        elif method == "SignalProcess":
            fields = {"exec_id": container_id, "signal": 9}
        elif method == "WaitProcess":
            if self.containers.get(container_id, "absent") not in ("absent", "stopped"):
                return  # there would be nothing to wait for
            fields = {"exec_id": container_id}
        self.do(method, container_id, **fields)
        if method == "SignalProcess" and container_id in self.containers:
            assert self.runner.run(self.host.wait(container_id)) == 137


@BOTH_WIRES
def test_any_order(wire: Wire, run_dir: Path, busybox_rootfs: Path) -> None:
    machine = type(
        "OrdersOn" + wire, (Orders,), {"wire": wire, "directory": run_dir, "rootfs": busybox_rootfs}
    )
    limits = settings(
        max_examples=15,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),  # a shorter order is not worth minutes of shrinking
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=limits)

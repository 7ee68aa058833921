"""Policies: what they are asked, what their answers do, and what a bad one cannot do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.config import AgentConfig
from agent.errors import AgentError, Generation, InvalidRequest, StatusCode, status_for
from agent.processes.reaper import Reaper
from agent.sandbox.sandbox import SandboxState
from agent.service import policy, policy_calls, routes
from agent.service.agent import Agent
from agent.service.policy import Policy, PolicyUnusable
from agent.service.requests import StreamData
from agent.service.routes import AGENT_SERVICE, HEALTH_SERVICE, Router
from protos import kata1, kata2

MESSAGES: Mapping[Generation, Any] = {Generation.KATA1: kata1, Generation.KATA2: kata2}
GENERATIONS = pytest.mark.parametrize("generation", list(Generation), ids=lambda each: each.value)


def text(*rules: str) -> str:
    """A policy of these rules."""
    return "\n".join(["package agent_policy", "import future.keywords.in", *rules]) + "\n"


class Peer:
    """Calls an agent's router, as a host of one generation."""

    def __init__(self, generation: Generation) -> None:
        self.agent = Agent(AgentConfig(), Reaper())
        self.agent.sandbox.begin("s1", "")
        self.agent.sandbox.state = SandboxState.RUNNING
        self.generation = generation
        self._router = Router(self.agent)

    async def call(self, method: str, service: str = AGENT_SERVICE, /, **fields: Any) -> Any:
        """Call and decode the answer."""
        request, response = MESSAGES[self.generation].SERVICES[service][method]
        payload = request(**fields).SerializeToString()
        return response.FromString(await self._router.call(self.generation, service, method, payload, {}))

    async def refused(self, method: str, /, **fields: Any) -> tuple[int, str]:
        """Code and message of a call that fails."""
        with pytest.raises(AgentError) as caught:
            await self.call(method, **fields)
        status = status_for(caught.value, self.generation)
        return status.code, status.message

    async def set_policy(self, *rules: str) -> None:
        """Put a policy in force; a 1.x host has no call for it."""
        await self.agent.policy.replace(text(*rules))


@pytest.fixture(params=list(Generation), ids=lambda each: each.value)
def peer(request: pytest.FixtureRequest) -> Peer:
    return Peer(request.param)


@pytest.fixture
def new_peer() -> Peer:
    return Peer(Generation.KATA2)


def test_no_policy_no_engine() -> None:
    """Without a policy the engine is never loaded, though every request has been looked at."""
    code = (
        "import asyncio, sys\n"
        "from tests.unit.service.test_policy import Generation, Peer\n"
        "asyncio.run(Peer(Generation.KATA2).call('DestroySandbox'))\n"
        "assert 'agent.service.policy' in sys.modules and 'regopy' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


async def test_a_denied_call_names_its_rule_and_does_nothing(peer: Peer) -> None:
    await peer.set_policy("default DestroySandboxRequest := false")
    code, message = await peer.refused("DestroySandbox")
    assert code == StatusCode.PERMISSION_DENIED
    assert message == "DestroySandboxRequest is blocked by policy: the rule DestroySandboxRequest says no"
    assert peer.agent.sandbox.is_running
    assert not peer.agent.shutdown.is_set()


async def test_an_allowed_call_is_carried_out(peer: Peer) -> None:
    await peer.set_policy("default GuestDetailsRequest := true")
    assert (await peer.call("GetGuestDetails")).agent_details.version


async def test_a_call_without_a_rule_is_refused(peer: Peer) -> None:
    await peer.set_policy("default GuestDetailsRequest := true")
    code, message = await peer.refused("ListRoutes")
    assert code == StatusCode.INTERNAL
    assert message == "ListRoutesRequest is blocked by policy: there is no rule for it"


async def test_health_knows_no_policy(peer: Peer) -> None:
    await peer.set_policy()
    assert (await peer.call("Check", HEALTH_SERVICE)).status == 1
    assert (await peer.call("Version", HEALTH_SERVICE)).agent_version


async def test_what_a_policy_prints_says_why(peer: Peer, capfd: pytest.CaptureFixture[str]) -> None:
    """In the error alone: the agent's standard output is its log."""
    await peer.set_policy(
        "default SignalProcessRequest := false",
        'SignalProcessRequest { print("signal", input.signal); print("is it 15?"); input.signal == 15 }',
    )
    capfd.readouterr()
    code, message = await peer.refused("SignalProcess", container_id="c1", signal=9)
    assert code == StatusCode.PERMISSION_DENIED
    assert message == "SignalProcessRequest is blocked by policy: signal 9 is it 15?"
    assert capfd.readouterr() == ("", "")


async def test_rules_judge_the_request(peer: Peer) -> None:
    await peer.set_policy(
        "default ExecProcessRequest := false",
        'ExecProcessRequest { input.process.Args == ["sh"]; input.process.Terminal == false }',
    )
    assert "by policy" in (await peer.refused("ExecProcess", process={"Args": ["rm"]}))[1]
    assert "by policy" not in (await peer.refused("ExecProcess", process={"Args": ["sh"]}))[1]


async def test_a_policy_keeps_state(peer: Peer) -> None:
    """Here: each container may be started once."""
    await peer.set_policy(
        'default StartContainerRequest := {"allowed": false}',
        'StartContainerRequest := {"allowed": true, "ops": ops} {',
        "  not data.pstate[input.container_id]",
        '  ops := [{"op": "add", "path": concat("/", ["/pstate", input.container_id]), "value": true}]',
        "}",
    )
    for container_id in ("c1", "c2"):
        _, message = await peer.refused("StartContainer", container_id=container_id)
        assert "by policy" not in message  # it gets as far as: there is no such container
        code, message = await peer.refused("StartContainer", container_id=container_id)
        assert (code, "by policy" in message) == (StatusCode.PERMISSION_DENIED, True)


async def test_denied_changes_of_state_are_not_made(new_peer: Peer) -> None:
    await new_peer.set_policy(
        'ListRoutesRequest := {"allowed": false, "ops": [{"op": "add", "path": "/pstate/x", "value": 1}]}',
        "default ListInterfacesRequest := false",
        "ListInterfacesRequest { data.pstate.x == 1 }",
    )
    assert (await new_peer.refused("ListRoutes"))[0] == StatusCode.PERMISSION_DENIED
    assert (await new_peer.refused("ListInterfaces"))[0] == StatusCode.PERMISSION_DENIED


async def test_changes_that_cannot_be_made(new_peer: Peer) -> None:
    await new_peer.set_policy(
        'ListRoutesRequest := {"allowed": true, "ops": [{"op": "dance", "path": "/x"}]}'
    )
    code, message = await new_peer.refused("ListRoutes")
    assert (code, "'dance'" in message) == (StatusCode.INTERNAL, True)


@pytest.mark.parametrize("answer", ["1", '"true"', "null", "[true]", '{"allowed": 1}', '{"ops": []}'])
async def test_answers_that_are_none(new_peer: Peer, answer: str) -> None:
    await new_peer.set_policy(f"ListRoutesRequest := {answer}", "default AllowRequestsFailingPolicy := true")
    code, message = await new_peer.refused("ListRoutes")
    assert (code, "neither true nor false" in message) == (StatusCode.INTERNAL, True)


FAILING_RULES = {
    "two values": ("several values", "ListRoutesRequest := true", "ListRoutesRequest := false"),
    "unknown function": ("unknown function", "ListRoutesRequest := f(1)"),
    "a circle": ("or itself", "A { B }", "B { A }", "ListRoutesRequest { A }"),
}


@pytest.mark.parametrize("name", FAILING_RULES)
async def test_a_rule_that_fails_is_an_error(new_peer: Peer, name: str) -> None:
    """Also under AllowRequestsFailingPolicy: nobody has said no."""
    complaint, *rules = FAILING_RULES[name]
    await new_peer.set_policy(*rules, "default AllowRequestsFailingPolicy := true")
    code, message = await new_peer.refused("ListRoutes")
    assert (code, complaint in message, "\n" in message) == (StatusCode.INTERNAL, True, False)


async def test_failing_requests_may_be_allowed(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    await peer.set_policy(
        "default AllowRequestsFailingPolicy := true", "default DestroySandboxRequest := false"
    )
    assert (await peer.call("GetGuestDetails")).agent_details.version
    await peer.call("DestroySandbox")
    assert not peer.agent.sandbox.is_running
    records = [each for each in caplog.records if each.name == "agent.service.policy"]
    told = [each.message for each in records if each.levelname == "WARNING"]
    assert told == [
        "the policy allows what it denies: AllowRequestsFailingPolicy",
        "allowed although the policy denies it",
        "allowed although the policy denies it",
    ]


async def test_set_policy_asks_the_present_policy(new_peer: Peer) -> None:
    await new_peer.call("SetPolicy", policy=text("default SetPolicyRequest := true", "default A := 1"))
    only_short = 'SetPolicyRequest { contains(input.policy, "magic") }'
    await new_peer.call("SetPolicy", policy=text("default SetPolicyRequest := false", only_short))
    code, message = await new_peer.refused("SetPolicy", policy=text())
    assert (code, "SetPolicyRequest is blocked" in message) == (StatusCode.PERMISSION_DENIED, True)
    await new_peer.call("SetPolicy", policy=text("# magic", "default ListRoutesRequest := false"))
    assert (await new_peer.refused("ListRoutes"))[0] == StatusCode.PERMISSION_DENIED
    assert (await new_peer.refused("SetPolicy", policy=text("# magic")))[0] == StatusCode.INTERNAL


BAD_POLICIES = {
    "empty": ("", "package agent_policy"),
    "another package": ("package other\ndefault X := true", "package agent_policy"),
    "no Rego": ("package agent_policy\nhello world {", "line 2"),
    "open bracket": ("package agent_policy\n\ndefault A := {", "line 3: this is unclosed"),
    "no flag": ("package agent_policy\nAllowRequestsFailingPolicy := f(1)", "cannot be used"),
    "a NUL": ("package agent_policy\n# \0", "NUL"),
    "a long line": ("package agent_policy\n# " + "x" * 65536, "65536 bytes"),
    "many lines": ("package agent_policy\n" + "\n" * 200_000, "200000 lines"),
}


@pytest.mark.parametrize("name", BAD_POLICIES)
async def test_a_bad_policy_leaves_the_present_one(new_peer: Peer, name: str) -> None:
    await new_peer.set_policy("default SetPolicyRequest := true", "default DestroySandboxRequest := false")
    bad, complaint = BAD_POLICIES[name]
    code, message = await new_peer.refused("SetPolicy", policy=bad)
    assert (code, "\n" in message) == (StatusCode.INVALID_ARGUMENT, False)
    assert complaint in message
    assert (await new_peer.refused("DestroySandbox"))[0] == StatusCode.PERMISSION_DENIED


async def test_a_new_policy_has_no_state(new_peer: Peer) -> None:
    rules = (
        "default SetPolicyRequest := true",
        'ListRoutesRequest := {"allowed": true, "ops": [{"op": "add", "path": "/pstate/x", "value": 1}]}',
        "default DestroySandboxRequest := false",
        "DestroySandboxRequest { data.pstate.x == 1 }",
    )
    await new_peer.set_policy(*rules)
    await new_peer.call("ListRoutes")
    await new_peer.set_policy(*rules)
    assert (await new_peer.refused("DestroySandbox"))[0] == StatusCode.PERMISSION_DENIED


@GENERATIONS
async def test_output_that_may_not_be_seen(generation: Generation) -> None:
    """It is read all the same, and the host is told that there is no more."""
    agent = Agent(AgentConfig(), Reaper())
    await agent.policy.replace(text("default ReadStreamRequest := false"))
    reads = []

    async def read(agent: Agent, request: object, rules: object) -> StreamData:
        reads.append(request)
        return StreamData(b"secret")

    message = MESSAGES[generation].ReadStreamRequest(container_id="c1", len=9)
    rules: Any = None
    for method in ("ReadStdout", "ReadStderr"):
        answer = await policy_calls.under_policy(read, method, message)(agent, "request", rules)
        assert answer == StreamData(b"", at_end=True)
    assert reads == ["request"] * 2


async def test_boot_policy_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "p.rego"
    file.write_text(text("default ListRoutesRequest := false"))
    for configured, default in ((str(file), tmp_path / "none"), ("", file)):
        loaded = Policy()
        await loaded.load(configured, default)
        assert loaded.is_set
    unset = Policy()
    await unset.load("", tmp_path / "none")
    assert not unset.is_set


@pytest.mark.parametrize("content", [None, b"", b"package agent_policy\nA {", b"\xff"])
async def test_boot_policy_that_cannot_be_used(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "p.rego"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(PolicyUnusable, match=r"p\.rego cannot be used"):
        await Policy().load(str(file))


async def test_without_the_engine(monkeypatch: pytest.MonkeyPatch, new_peer: Peer, tmp_path: Path) -> None:
    monkeypatch.setattr(policy, "has_engine", lambda: False)
    code, message = await new_peer.refused("SetPolicy", policy=text())
    assert (code, "regopy is not installed" in message) == (StatusCode.UNIMPLEMENTED, True)
    (tmp_path / "p.rego").write_text(text())
    with pytest.raises(PolicyUnusable, match="regopy"):
        await Policy().load("", tmp_path / "p.rego")


def test_every_route_is_under_the_policy() -> None:
    """Nothing but Health and SetPolicy, which asks itself, is served as it is."""
    handlers = routes.ROUTES[AGENT_SERVICE]
    message = kata2.ListRoutesRequest()
    bare = {
        method
        for method, handler in handlers.items()
        if policy_calls.under_policy(handler, method, message) is handler
    }
    assert bare == {"SetPolicy"}


def test_descriptors_are_as_before() -> None:
    """What policies print is caught on descriptor 1, which comes back afterwards."""
    from agent.service.rego import PreparedInput, RegoPolicy

    before = os.readlink("/proc/self/fd/1"), len(os.listdir("/proc/self/fd"))
    engine = RegoPolicy(text('ListRoutesRequest { print("x" ) }'))
    assert engine.evaluate("ListRoutesRequest", PreparedInput({})) == (True, "x")
    assert (os.readlink("/proc/self/fd/1"), len(os.listdir("/proc/self/fd"))) == before


def test_errors_are_ours() -> None:
    assert issubclass(InvalidRequest, AgentError)
    assert issubclass(PolicyUnusable, AgentError)

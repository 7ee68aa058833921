"""An agent that starts with a policy: it is in force for the first call, or the agent does not serve."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from host.client import AgentCallError, connect
from tests.unit.supervisor.agent_process import output_of, running_agent

DENY = (
    'package agent_policy\ndefault ListRoutesRequest := false\nListRoutesRequest { print("never"); false }\n'
)


async def test_the_first_call_is_under_the_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.rego").write_text(DENY)
    monkeypatch.setenv("KATA_AGENT_POLICY_FILE", str(tmp_path / "p.rego"))
    address = f"unix://{tmp_path}/a.sock"
    with running_agent(address) as agent:
        async with await connect(address, wire="ttrpc", timeout_s=20) as client:
            with pytest.raises(AgentCallError) as caught:
                await client.call("ListRoutes", client.request_class("ListRoutes")())
            assert (caught.value.code, caught.value.message) == (
                7,
                "ListRoutesRequest is blocked by policy: never",
            )
            await client.call("Check", client.request_class("Check")())
        agent.terminate()
        assert agent.stdout is not None
        records = [json.loads(line) for line in agent.stdout if line.startswith("{")]
        assert agent.wait(20) == 0
    assert "policy in force" in [record["msg"] for record in records]


@pytest.mark.parametrize("content", [None, "package agent_policy\nA {", "hello"])
def test_no_service_without_the_policy(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "p.rego").write_text(content)
    done = output_of(
        environ={
            "KATA_AGENT_POLICY_FILE": f"{tmp_path}/p.rego",
            "KATA_AGENT_SERVER_ADDR": f"unix://{tmp_path}/a.sock",
        }
    )
    assert done.returncode == 1
    assert f"the policy {tmp_path}/p.rego cannot be used" in done.stderr

"""The table of methods, and what the router does around each call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from agent.config import AgentConfig
from agent.errors import AgentError, Generation, InvalidRequest, StatusCode, Unsupported, status_for
from agent.log import request_name
from agent.processes.reaper import Reaper
from agent.service import kata1, kata2, routes
from agent.service.agent import Agent
from agent.service.redaction import describe
from agent.service.requests import CreateContainer, WriteStdin
from agent.service.routes import AGENT_SERVICE, HEALTH_SERVICE, ROUTES, UNSUPPORTED, Router
from protos import kata1 as kata1_messages
from protos import kata2 as kata2_messages

MESSAGES: Mapping[Generation, Any] = {Generation.KATA1: kata1_messages, Generation.KATA2: kata2_messages}
CODECS = {Generation.KATA1: kata1.CODEC, Generation.KATA2: kata2.CODEC}
GENERATIONS = pytest.mark.parametrize("generation", list(Generation), ids=lambda each: each.value)


def union(service: str) -> set[str]:
    """The methods of `service` in either generation."""
    return {method for messages in MESSAGES.values() for method in messages.SERVICES[service]}


def test_the_union_has_45_methods_and_each_is_listed_once() -> None:
    assert len(union(AGENT_SERVICE)) == 45
    assert ROUTES[AGENT_SERVICE].keys() | UNSUPPORTED.keys() == union(AGENT_SERVICE)
    assert not ROUTES[AGENT_SERVICE].keys() & UNSUPPORTED.keys()
    assert ROUTES[HEALTH_SERVICE].keys() == union(HEALTH_SERVICE)


@GENERATIONS
def test_every_route_can_be_decoded(generation: Generation) -> None:
    for service, handlers in ROUTES.items():
        served = handlers.keys() & MESSAGES[generation].SERVICES[service].keys()
        assert CODECS[generation].methods(service) == served


@GENERATIONS
def test_every_method_that_needs_a_sandbox_exists(generation: Generation) -> None:
    rules = {Generation.KATA1: kata1.RULES, Generation.KATA2: kata2.RULES}[generation]
    assert rules.generation is generation
    assert rules.needs_sandbox <= union(AGENT_SERVICE)
    assert rules.codes.keys() - {"*"} <= union(AGENT_SERVICE)


@pytest.fixture
def router() -> Router:
    return Router(Agent(AgentConfig(), Reaper()))


async def call(
    router: Router, generation: Generation, method: str, payload: bytes = b"", service: str = AGENT_SERVICE
) -> bytes:
    """One call, in a task of its own as the transports do it."""
    return await asyncio.create_task(router.call(generation, service, method, payload, {}))


async def refusal(
    router: Router, generation: Generation, method: str, payload: bytes = b"", service: str = AGENT_SERVICE
) -> tuple[StatusCode, str]:
    """Code and message that the peer of a failing call gets."""
    with pytest.raises(AgentError) as caught:
        await call(router, generation, method, payload, service)
    status = status_for(caught.value, generation)
    return status.code, status.message


@GENERATIONS
async def test_health_works_without_anything(router: Router, generation: Generation) -> None:
    answer = await call(router, generation, "Check", service=HEALTH_SERVICE)
    assert answer == MESSAGES[generation].HealthCheckResponse(status="SERVING").SerializeToString()


@GENERATIONS
@pytest.mark.parametrize("method", sorted(UNSUPPORTED))
async def test_what_is_not_there_says_so(router: Router, generation: Generation, method: str) -> None:
    code, message = await refusal(router, generation, method)
    assert code is StatusCode.UNIMPLEMENTED
    assert message.startswith(f"{method}: ")


@GENERATIONS
async def test_unknown_methods_and_services(router: Router, generation: Generation) -> None:
    assert (await refusal(router, generation, "Dance"))[0] is StatusCode.UNIMPLEMENTED
    code, message = await refusal(router, generation, "Check", service="grpc.health.v1.Health")
    assert message == '"grpc.health.v1.Health" service does not exist'
    unknown = {Generation.KATA1: StatusCode.UNIMPLEMENTED, Generation.KATA2: StatusCode.INVALID_ARGUMENT}
    assert code is unknown[generation]


@GENERATIONS
async def test_bytes_that_are_no_message(router: Router, generation: Generation) -> None:
    code, message = await refusal(router, generation, "StartContainer", b"\xff\xff\xff")
    assert (code, "StartContainerRequest" in message) == (StatusCode.INVALID_ARGUMENT, True)


async def test_a_method_of_the_other_generation(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even once this agent has a coroutine for it."""
    handlers = {**ROUTES[AGENT_SERVICE], "GetMetrics": ROUTES[AGENT_SERVICE]["ListRoutes"]}
    monkeypatch.setattr(routes, "ROUTES", {**ROUTES, AGENT_SERVICE: handlers})
    assert (await refusal(router, Generation.KATA1, "GetMetrics"))[0] is StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("method", sorted(kata1.RULES.needs_sandbox))
async def test_a_1x_host_needs_a_sandbox_first(router: Router, method: str) -> None:
    assert await refusal(router, Generation.KATA1, method) == (
        StatusCode.FAILED_PRECONDITION,
        "Sandbox not started",
    )


async def test_a_later_host_needs_none(router: Router) -> None:
    code, message = await refusal(router, Generation.KATA2, "WaitProcess")
    assert (code, message) == (StatusCode.INVALID_ARGUMENT, 'container "" not found')


async def test_a_failure_is_logged_once_with_its_request(
    router: Router, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: names.append(request_name.get())  # type: ignore[method-assign] # a spy
    logging.getLogger("agent.service").addHandler(handler)
    monkeypatch.setattr(logging.getLogger("agent.service"), "level", logging.INFO)
    try:
        await refusal(router, Generation.KATA2, "WaitProcess")
    finally:
        logging.getLogger("agent.service").removeHandler(handler)
    assert names == ["/grpc.AgentService/WaitProcess"]
    assert [record.message for record in caplog.records] == ["request failed"]
    assert caplog.records[0].__dict__["error"] == 'container "" not found'


async def test_a_request_is_logged_without_its_secrets(
    router: Router, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "agent.service")
    request = kata2_messages.CreateContainerRequest(container_id="c")
    request.OCI.Process.Env.append("PASSWORD=hunter2")
    request.OCI.Process.Args.append("run")
    await refusal(router, Generation.KATA2, "CreateContainer", request.SerializeToString())
    await refusal(
        router,
        Generation.KATA2,
        "WriteStdin",
        kata2_messages.WriteStreamRequest(container_id="c", data=b"hunter2").SerializeToString(),
    )
    text = "\n".join(str(record.__dict__) for record in caplog.records)
    assert "hunter2" not in text
    assert "PASSWORD" in text
    assert "<7 bytes>" in text


def test_descriptions_are_bounded() -> None:
    spec = {"process": {"env": [f"V{n}=x" for n in range(99)], "args": ["a" * 9999]}}
    told = str(describe(CreateContainer("c1", "c1", spec)))
    assert len(told) < 1000
    assert "9999 characters" in told
    assert describe(WriteStdin("c1", "", b"abc")) == {
        "container_id": "c1",
        "exec_id": "",
        "data": "<3 bytes>",
    }
    assert len(str(describe(list(range(10_000))))) < 200


def test_errors_of_the_router_are_ours() -> None:
    assert issubclass(Unsupported, AgentError)
    assert issubclass(InvalidRequest, AgentError)

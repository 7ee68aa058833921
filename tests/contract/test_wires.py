"""What both wires promise alike: the same checks, over ttrpc and over gRPC, on one listener."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import get_args

import pytest

from agent.errors import (
    AlreadyExists,
    CodedError,
    DeviceTimeout,
    Generation,
    InvalidRequest,
    KernelRefused,
    LaunchFailed,
    LimitReached,
    NotFound,
    PermissionDenied,
    StatusCode,
    Unavailable,
    Unsupported,
    WrongState,
)
from agent.transports.listener import Listener
from host.client import AgentCallError, AgentClient, Wire, connect
from tests.unit.transports.fake_dispatcher import FakeDispatcher, serving

GENERATIONS = {"ttrpc": Generation.KATA2, "grpc": Generation.KATA1}

# Each error, and its code over gRPC (1.x) and over ttrpc (2 to 4).
ERRORS = [
    (InvalidRequest("no container id"), 3, 3),
    (DeviceTimeout("no disk at 02/01 within 3 s"), 4, 13),
    (NotFound("container web does not exist"), 5, 5),
    (AlreadyExists("container web exists"), 6, 6),
    (PermissionDenied("blocked by policy"), 7, 7),
    (LimitReached("the table is full"), 8, 8),
    (WrongState("container web runs already"), 9, 9),
    (Unsupported("no such call"), 12, 12),
    (Unavailable("no tty"), 9, 14),
    (KernelRefused("mount /dev/vda failed"), 2, 13),
    (LaunchFailed("exit status 127: no such file", exit_code=127), 13, 13),
    (CodedError(StatusCode.UNKNOWN, "EOF"), 2, 2),
    (CodedError(StatusCode.CANCELLED, "gone"), 1, 1),
    (InvalidRequest("ünïcode\nand a line: 100 %"), 3, 3),
]


@pytest.fixture
async def dispatcher() -> FakeDispatcher:
    return FakeDispatcher()


@pytest.fixture
async def listener(dispatcher: FakeDispatcher, tmp_path: Path) -> AsyncIterator[Listener]:
    async with serving(dispatcher, tmp_path) as listener:
        yield listener


@pytest.fixture(params=get_args(Wire))
def wire(request: pytest.FixtureRequest) -> Wire:
    wire: Wire = request.param
    return wire


@pytest.fixture
async def client(listener: Listener, tmp_path: Path, wire: Wire) -> AsyncIterator[AgentClient]:
    async with await connect(f"unix://{tmp_path}/agent.sock", wire=wire, timeout_s=30) as client:
        yield client


async def test_a_call_has_its_generation(client: AgentClient, dispatcher: FakeDispatcher) -> None:
    messages = client.messages

    async def check(payload: bytes) -> bytes:
        assert messages.CheckRequest.FromString(payload).service == "x"
        answer: bytes = messages.HealthCheckResponse(status=1).SerializeToString()
        return answer

    dispatcher.handlers["Check"] = check
    answer = await client.call("Check", messages.CheckRequest(service="x"))
    assert answer.status == messages.HealthCheckResponse.SERVING
    (call,) = dispatcher.calls
    assert call[:3] == (GENERATIONS[client.wire], "grpc.Health", "Check")


@pytest.mark.parametrize(("error", "grpc_code", "ttrpc_code"), ERRORS, ids=lambda each: str(each)[:30])
async def test_errors_have_their_codes(
    client: AgentClient, dispatcher: FakeDispatcher, error: Exception, grpc_code: int, ttrpc_code: int
) -> None:
    async def fails(_: bytes) -> bytes:
        raise error

    dispatcher.handlers["StartContainer"] = fails
    with pytest.raises(AgentCallError) as caught:
        await client.call("StartContainer", client.messages.StartContainerRequest())
    assert caught.value.code == (grpc_code if client.wire == "grpc" else ttrpc_code)
    assert caught.value.message == str(error)


async def test_a_bug_is_internal_and_keeps_its_secrets(
    client: AgentClient, dispatcher: FakeDispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: bytes) -> bytes:
        raise KeyError("secret")

    dispatcher.handlers["StartContainer"] = broken
    with pytest.raises(AgentCallError, match="internal error: KeyError") as caught:
        await client.call("StartContainer", client.messages.StartContainerRequest())
    assert caught.value.code == StatusCode.INTERNAL
    assert "secret" not in str(caught.value)
    assert "KeyError: 'secret'" in caplog.text


async def test_an_unknown_method_is_unimplemented(client: AgentClient) -> None:
    with pytest.raises(AgentCallError) as caught:
        await client.call("StartContainer", client.messages.StartContainerRequest())
    assert caught.value.code == StatusCode.UNIMPLEMENTED


async def test_a_long_message_is_cut_and_arrives(client: AgentClient, dispatcher: FakeDispatcher) -> None:
    async def talks(_: bytes) -> bytes:
        raise NotFound("ß" * 100_000)

    dispatcher.handlers["StartContainer"] = talks
    with pytest.raises(AgentCallError, match="ßßß") as caught:
        await client.call("StartContainer", client.messages.StartContainerRequest())
    assert caught.value.code == StatusCode.NOT_FOUND


async def test_many_calls_at_once(client: AgentClient, dispatcher: FakeDispatcher) -> None:
    turn = asyncio.Event()

    async def read(payload: bytes) -> bytes:
        request = client.messages.ReadStreamRequest.FromString(payload)
        if request.len % 2:
            await turn.wait()
        answer: bytes = client.messages.ReadStreamResponse(data=str(request.len).encode()).SerializeToString()
        return answer

    async def call(number: int) -> bytes:
        request = client.messages.ReadStreamRequest(len=number)
        data: bytes = (await client.call("ReadStdout", request)).data
        return data

    dispatcher.handlers["ReadStdout"] = read
    odd = [asyncio.create_task(call(number)) for number in range(1, 201, 2)]
    even = await asyncio.gather(*(call(number) for number in range(0, 200, 2)))
    assert even == [str(number).encode() for number in range(0, 200, 2)]
    assert not any(task.done() for task in odd)
    turn.set()
    assert await asyncio.gather(*odd) == [str(number).encode() for number in range(1, 201, 2)]


async def test_a_deadline_ends_the_call_on_both_sides(
    client: AgentClient, dispatcher: FakeDispatcher
) -> None:
    dispatcher.handlers["WaitProcess"] = lambda payload: dispatcher.block()
    with pytest.raises(AgentCallError) as caught:
        await client.call("WaitProcess", client.messages.WaitProcessRequest(), timeout_s=0.05)
    assert caught.value.code == StatusCode.DEADLINE_EXCEEDED
    await dispatcher.until(lambda d: d.cancelled == 1)


async def test_a_client_that_goes_cancels_its_calls(client: AgentClient, dispatcher: FakeDispatcher) -> None:
    dispatcher.handlers["WaitProcess"] = lambda payload: dispatcher.block()
    request = client.messages.WaitProcessRequest()
    calls = [asyncio.create_task(client.call("WaitProcess", request, timeout_s=None)) for _ in range(3)]
    await dispatcher.until(lambda d: d.blocked == 3)
    await client.close()
    await dispatcher.until(lambda d: d.cancelled == 3)
    for call in calls:
        with pytest.raises(ConnectionError, match="has been closed"):
            await call
    with pytest.raises(ConnectionError):
        await client.call("WaitProcess", request)


async def test_an_agent_that_stops_answers_first(
    client: AgentClient, dispatcher: FakeDispatcher, listener: Listener
) -> None:
    dispatcher.handlers["WaitProcess"] = lambda payload: dispatcher.block()
    request = client.messages.WaitProcessRequest()
    call = asyncio.create_task(client.call("WaitProcess", request, timeout_s=None))
    await dispatcher.until(lambda d: d.blocked == 1)
    began = time.monotonic()
    await listener.stop(10)
    assert time.monotonic() - began < 5
    with pytest.raises((AgentCallError, ConnectionError), match="the agent is stopping"):
        await call
    assert dispatcher.cancelled == 1
    with pytest.raises(ConnectionError, match="closed the connection"):
        await client.call("WaitProcess", request, timeout_s=5)


async def test_messages_of_4_mib_pass_and_larger_ones_do_not(
    client: AgentClient, dispatcher: FakeDispatcher
) -> None:
    async def read(payload: bytes) -> bytes:
        request = client.messages.ReadStreamRequest.FromString(payload)
        answer: bytes = client.messages.ReadStreamResponse(data=bytes(request.len)).SerializeToString()
        return answer

    async def write(payload: bytes) -> bytes:
        size = len(client.messages.WriteStreamRequest.FromString(payload).data)
        answer: bytes = client.messages.WriteStreamResponse(len=size).SerializeToString()
        return answer

    dispatcher.handlers.update(ReadStdout=read, WriteStdin=write)
    size = (4 << 20) - 1024
    assert len((await client.call("ReadStdout", client.messages.ReadStreamRequest(len=size))).data) == size
    request = client.messages.WriteStreamRequest(data=os.urandom(size))
    assert (await client.call("WriteStdin", request)).len == size
    for method, request in (
        ("ReadStdout", client.messages.ReadStreamRequest(len=4 << 20)),
        ("WriteStdin", client.messages.WriteStreamRequest(data=bytes(4 << 20))),
    ):
        with pytest.raises(AgentCallError) as caught:
            await client.call(method, request)
        assert caught.value.code == StatusCode.RESOURCE_EXHAUSTED
    assert len((await client.call("ReadStdout", client.messages.ReadStreamRequest(len=1))).data) == 1


async def test_100_mb_arrive_whole(client: AgentClient, dispatcher: FakeDispatcher) -> None:
    block = os.urandom(1 << 20)
    answer: bytes = client.messages.ReadStreamResponse(data=block).SerializeToString()

    async def read(_: bytes) -> bytes:
        return answer

    dispatcher.handlers["ReadStdout"] = read
    for _ in range(100):
        request = client.messages.ReadStreamRequest(len=len(block))
        assert (await client.call("ReadStdout", request)).data == block


async def test_both_wires_are_served_at_once(
    listener: Listener, dispatcher: FakeDispatcher, tmp_path: Path
) -> None:
    async def empty(_: bytes) -> bytes:
        return b""

    dispatcher.handlers["DestroySandbox"] = empty
    address = f"unix://{tmp_path}/agent.sock"
    clients = [await connect(address, wire=wire, timeout_s=30) for wire in ("ttrpc", "grpc", "ttrpc", "grpc")]
    await asyncio.gather(
        *(each.call("DestroySandbox", each.messages.DestroySandboxRequest()) for each in clients * 5)
    )
    assert len([call for call in dispatcher.calls if call[0] is Generation.KATA1]) == 10
    assert len([call for call in dispatcher.calls if call[0] is Generation.KATA2]) == 10
    for each in clients:
        await each.close()

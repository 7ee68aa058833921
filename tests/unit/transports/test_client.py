"""The host's client: how it finds its agent, over what, and how it tells that one is not there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import get_args

import pytest

from agent.transports.listener import Listener
from host.addresses import HybridVsockAddress, UnixAddress, VsockAddress, parse_address
from host.client import AgentCallError, Wire, connect, request_from_json, response_to_json
from protos import kata2
from tests.unit.transports.fake_dispatcher import FakeDispatcher, serving

PORT = 1024

Greeting = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]


@pytest.fixture(params=get_args(Wire))
def wire(request: pytest.FixtureRequest) -> Wire:
    wire: Wire = request.param
    return wire


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:///run/a.sock", UnixAddress("/run/a.sock")),
        ("unix://@name", UnixAddress("name", abstract=True)),
        ("vsock://3:1024", VsockAddress(3, 1024)),
        ("hvsock:///run/vm/v.sock:1024", HybridVsockAddress("/run/vm/v.sock", 1024)),
    ],
)
def test_addresses(text: str, address: object) -> None:
    assert parse_address(text) == address
    assert str(address) == text


def test_a_bare_path_is_a_socket_file() -> None:
    assert parse_address("/run/a.sock") == UnixAddress("/run/a.sock")


@pytest.mark.parametrize("text", ["", "unix://", "@", "vsock://x:1", "hvsock:///no/port", "tcp://1.2.3.4:5"])
def test_bad_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="no address of an agent"):
        parse_address(text)


async def say_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """A monitor's usual greeting: all of it, and the guest's bytes may follow at once."""
    assert await reader.readline() == f"CONNECT {PORT}\n".encode()
    writer.write(b"OK 1073741824\n")
    return True


@contextlib.asynccontextmanager
async def monitor(path: Path, agent: Path, greet: Greeting = say_ok) -> AsyncIterator[None]:
    """A virtual machine monitor's socket: greets, then relays to the agent's socket."""
    tasks = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        if not await greet(reader, writer):
            writer.close()
            return
        inner_reader, inner_writer = await asyncio.open_unix_connection(agent)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(relay(reader, inner_writer), relay(inner_reader, writer))

    async with await asyncio.start_unix_server(serve, path):
        yield
    for task in tasks:
        assert task is not None
        await asyncio.wait_for(task, 5)


async def check_over(address: str, wire: Wire, dispatcher: FakeDispatcher, *, timeout_s: float = 30) -> None:
    """Connect and make a few calls; fails if one is not answered."""

    async def check(_: bytes) -> bytes:
        return kata2.HealthCheckResponse(status=1).SerializeToString()

    dispatcher.handlers["Check"] = check
    async with await connect(address, wire=wire, timeout_s=timeout_s) as client:
        requests = [client.call("Check", client.messages.CheckRequest()) for _ in range(20)]
        assert [answer.status for answer in await asyncio.gather(*requests)] == [1] * 20


class TestHybridVsock:
    async def test_both_wires_pass(
        self, listener: Listener, dispatcher: FakeDispatcher, socket_path: Path, tmp_path: Path, wire: Wire
    ) -> None:
        async with monitor(tmp_path / "v.sock", socket_path):
            await check_over(f"hvsock://{tmp_path}/v.sock:{PORT}", wire, dispatcher)

    async def test_the_answer_may_come_in_pieces(
        self, listener: Listener, dispatcher: FakeDispatcher, socket_path: Path, tmp_path: Path, wire: Wire
    ) -> None:
        async def stutter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
            await reader.readline()
            for byte in b"OK 7\n":
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.sleep(0)
            return True

        async with monitor(tmp_path / "v.sock", socket_path, stutter):
            await check_over(f"hvsock://{tmp_path}/v.sock:{PORT}", wire, dispatcher)

    async def test_a_guest_that_is_not_ready_is_tried_again(
        self, listener: Listener, dispatcher: FakeDispatcher, socket_path: Path, tmp_path: Path, wire: Wire
    ) -> None:
        attempts = 0

        async def refuse_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
            nonlocal attempts
            attempts += 1
            return attempts > 2 and await say_ok(reader, writer)

        async with monitor(tmp_path / "v.sock", socket_path, refuse_twice):
            await check_over(f"hvsock://{tmp_path}/v.sock:{PORT}", wire, dispatcher)
        assert attempts == 3

    async def test_an_attempt_that_is_swallowed_is_tried_again(
        self,
        listener: Listener,
        dispatcher: FakeDispatcher,
        socket_path: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("host.client._ATTEMPT_S", 0.1)
        attempts = 0

        async def swallow_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                await reader.read()  # until the client gives up
                return False
            return await say_ok(reader, writer)

        async with monitor(tmp_path / "v.sock", socket_path, swallow_one):
            await check_over(f"hvsock://{tmp_path}/v.sock:{PORT}", "ttrpc", dispatcher)
        assert attempts == 2

    @pytest.mark.parametrize("line", [b"", b"ERR no such port\n", b"x" * 1000])
    async def test_a_refusal_is_told(self, socket_path: Path, tmp_path: Path, line: bytes) -> None:
        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
            await reader.readline()
            writer.write(line)
            return False

        async with monitor(tmp_path / "v.sock", socket_path, refuse):
            with pytest.raises(ConnectionError, match=rf"no agent at hvsock://.*{PORT} within 0.2 s"):
                await connect(f"hvsock://{tmp_path}/v.sock:{PORT}", wire="ttrpc", timeout_s=0.2)


class TestFindingTheAgent:
    async def test_one_that_comes_late_is_waited_for(
        self, dispatcher: FakeDispatcher, tmp_path: Path, wire: Wire
    ) -> None:
        early = asyncio.create_task(check_over(f"unix://{tmp_path}/agent.sock", wire, dispatcher))
        await asyncio.sleep(0)
        async with serving(dispatcher, tmp_path):
            await early

    async def test_one_that_never_comes(self, tmp_path: Path, wire: Wire) -> None:
        began = time.monotonic()
        with pytest.raises(ConnectionError, match=r"no agent at unix://.*: .*No such file"):
            await connect(f"unix://{tmp_path}/none", wire=wire, timeout_s=0.2)
        assert time.monotonic() - began < 2

    async def test_what_waiting_does_not_cure_is_told_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(NotADirectoryError):
            await connect(f"unix://{tmp_path}/file/sock", wire="ttrpc", timeout_s=60)

    async def test_somebody_who_does_not_answer_in_http_2(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as mute:
            mute.bind(str(tmp_path / "mute"))
            mute.listen()
            with pytest.raises(ConnectionError, match="no agent has answered"):
                await connect(f"unix://{tmp_path}/mute", wire="grpc", timeout_s=0.5)
        assert not [name for name in os.listdir("/tmp") if name.startswith("pykata-grpc-")]


class TestLosingTheAgent:
    async def test_calls_that_wait_fail(self, tmp_path: Path, wire: Wire) -> None:
        dispatcher = FakeDispatcher()
        dispatcher.handlers["WaitProcess"] = lambda payload: dispatcher.block()
        connections: list[asyncio.StreamWriter] = []

        async def remember(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
            connections.append(writer)
            return await say_ok(reader, writer)

        async with (
            serving(dispatcher, tmp_path),
            monitor(tmp_path / "v.sock", tmp_path / "agent.sock", remember),
            await connect(f"hvsock://{tmp_path}/v.sock:{PORT}", wire=wire, timeout_s=30) as client,
        ):
            request = client.messages.WaitProcessRequest()
            calls = [
                asyncio.create_task(client.call("WaitProcess", request, timeout_s=None)) for _ in range(3)
            ]
            await dispatcher.until(lambda d: d.blocked == 3)
            connections[0].transport.abort()
            for call in calls:
                with pytest.raises(ConnectionError, match="closed the connection"):
                    await asyncio.wait_for(call, 10)
            with pytest.raises(ConnectionError, match="closed the connection"):
                await client.call("WaitProcess", request, timeout_s=5)

    async def test_somebody_who_does_not_speak_ttrpc(self, tmp_path: Path) -> None:
        async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example.org ESMTP\r\n")
            await reader.read()
            writer.close()

        async with (
            await asyncio.start_unix_server(shout, tmp_path / "mail"),
            await connect(f"unix://{tmp_path}/mail", wire="ttrpc", timeout_s=5) as client,
        ):
            with pytest.raises(ConnectionError, match="does not speak ttrpc"):
                await client.call("Check", client.messages.CheckRequest())


class TestCalls:
    async def test_a_method_of_the_other_wire(self, listener: Listener, socket_path: Path) -> None:
        async with await connect(f"unix://{socket_path}", wire="ttrpc", timeout_s=5) as client:
            with pytest.raises(ValueError, match="no call 'ListProcesses' over ttrpc"):
                await client.call("ListProcesses", client.messages.Empty())
            assert "GetMetrics" in client.methods

    async def test_a_request_of_another_method_or_wire(self, listener: Listener, socket_path: Path) -> None:
        async with await connect(f"unix://{socket_path}", wire="grpc", timeout_s=5) as client:
            for request in (client.messages.Empty(), kata2.CheckRequest()):
                with pytest.raises(TypeError, match=r"Check takes CheckRequest of protos\.kata1"):
                    await client.call("Check", request)

    async def test_a_late_answer_is_nobodys(
        self, listener: Listener, dispatcher: FakeDispatcher, socket_path: Path
    ) -> None:
        release = asyncio.Event()

        async def slow(_: bytes) -> bytes:
            await release.wait()
            return b""

        dispatcher.handlers["DestroySandbox"] = slow
        async with await connect(f"unix://{socket_path}", wire="ttrpc", timeout_s=5) as client:
            request = client.messages.DestroySandboxRequest()
            abandoned = asyncio.create_task(client.call("DestroySandbox", request, timeout_s=None))
            await dispatcher.until(lambda d: len(d.calls) == 1)
            abandoned.cancel()
            await asyncio.wait([abandoned])
            release.set()
            assert await client.call("DestroySandbox", request) == client.messages.Empty()

    async def test_the_agent_learns_the_deadline(
        self, listener: Listener, dispatcher: FakeDispatcher, socket_path: Path
    ) -> None:
        dispatcher.handlers["WaitProcess"] = lambda payload: dispatcher.block()
        async with await connect(f"unix://{socket_path}", wire="ttrpc", timeout_s=5) as client:
            with pytest.raises(AgentCallError, match=r"timeout|WaitProcess had no answer within 0\.05 s"):
                await client.call("WaitProcess", client.messages.WaitProcessRequest(), timeout_s=0.05)
            await dispatcher.until(lambda d: d.cancelled == 1)


class TestJson:
    async def test_there_and_back(self, listener: Listener, socket_path: Path, wire: Wire) -> None:
        text = '{"container_id": "web", "exec_id": "1", "data": "aGVsbG8="}'
        async with await connect(f"unix://{socket_path}", wire=wire, timeout_s=30) as client:
            request = request_from_json(client, "WriteStdin", text)
            assert request == client.messages.WriteStreamRequest(
                container_id="web", exec_id="1", data=b"hello"
            )
            assert json.loads(response_to_json(request)) == json.loads(text)
            assert request_from_json(client, "Check", "") == client.messages.CheckRequest()

    async def test_nested_messages_keep_their_names(self, listener: Listener, socket_path: Path) -> None:
        text = '{"OCI": {"Process": {"Args": ["sh"]}, "Hostname": "h"}, "storages": [{"driver": "9p"}]}'
        async with await connect(f"unix://{socket_path}", wire="ttrpc", timeout_s=5) as client:
            request = request_from_json(client, "CreateContainer", text)
            assert json.loads(response_to_json(request)) == json.loads(text)

    async def test_what_does_not_fit_is_named(self, listener: Listener, socket_path: Path) -> None:
        async with await connect(f"unix://{socket_path}", wire="ttrpc", timeout_s=5) as client:
            for text in ('{"nonsense": 1}', "[]", "{"):
                with pytest.raises(ValueError, match="no CheckRequest"):
                    request_from_json(client, "Check", text)
            with pytest.raises(ValueError, match="no call 'Chekc'"):
                request_from_json(client, "Chekc", "{}")

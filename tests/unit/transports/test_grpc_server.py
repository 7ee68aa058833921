"""What only the gRPC side has: its socket's place, its metadata, and the limit of its relay."""

from __future__ import annotations

import os
from pathlib import Path

import grpc
import grpc.aio
import pytest

from agent.errors import Generation
from agent.transports.listener import Listener
from host.client import connect
from tests.unit.transports.fake_dispatcher import FakeDispatcher, RawPeer, serving


async def test_metadata_and_any_path_reach_the_dispatcher(
    listener: Listener, dispatcher: FakeDispatcher, socket_path: Path
) -> None:
    async with grpc.aio.insecure_channel(f"unix:{socket_path}") as channel:
        metadata = (("traceparent", "00-ab"), ("key-bin", b"\0\1"))
        answer = await channel.unary_unary("/any.Service/Echo")(b"body", metadata=metadata, timeout=30)
    assert answer == b"body"
    ((generation, service, method, payload, seen),) = dispatcher.calls
    assert (generation, service, method, payload) == (Generation.KATA1, "any.Service", "Echo", b"body")
    assert seen["traceparent"] == "00-ab"
    assert "key-bin" not in seen


async def test_its_socket_is_the_agents_alone(listener: Listener, socket_path: Path, tmp_path: Path) -> None:
    async with await connect(f"unix://{socket_path}", wire="grpc", timeout_s=30):
        (inner,) = (tmp_path / "grpc").iterdir()
        assert inner.is_socket()
        assert inner.name == f"grpc-{os.getpid()}.sock"
        assert (tmp_path / "grpc").stat().st_mode & 0o777 == 0o700
    await listener.stop(5)
    assert not inner.exists()


async def test_too_many_connections_are_refused(dispatcher: FakeDispatcher, tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/agent.sock"
    async with serving(dispatcher, tmp_path, max_grpc_connections=2):
        first = await connect(address, wire="grpc", timeout_s=30)
        second = await connect(address, wire="grpc", timeout_s=30)
        with pytest.raises(ConnectionError):
            await connect(address, wire="grpc", timeout_s=1)
        ttrpc = await RawPeer.open(tmp_path / "agent.sock")
        assert (await ttrpc.call(1, "Echo", b"x")).payload == b"x"
        await ttrpc.close()
        await first.close()
        await second.close()


async def test_a_directory_that_cannot_be_made_harms_only_grpc(
    dispatcher: FakeDispatcher, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "grpc").write_text("in the way")
    address = f"unix://{tmp_path}/agent.sock"
    async with serving(dispatcher, tmp_path):
        with pytest.raises(ConnectionError):
            await connect(address, wire="grpc", timeout_s=1)
        assert "cannot serve a gRPC peer" in caplog.text
        (tmp_path / "grpc").unlink()
        await (await connect(address, wire="grpc", timeout_s=30)).close()
        peer = await RawPeer.open(tmp_path / "agent.sock")
        assert (await peer.call(1, "Echo")).code == 0
        await peer.close()

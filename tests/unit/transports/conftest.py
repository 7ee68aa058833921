"""A listener with a fake service behind it, on a socket in the test's directory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.transports.listener import Listener
from tests.unit.transports.fake_dispatcher import FakeDispatcher, RawPeer, serving


@pytest.fixture
async def dispatcher() -> FakeDispatcher:
    return FakeDispatcher()


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "agent.sock"


@pytest.fixture
async def listener(dispatcher: FakeDispatcher, tmp_path: Path) -> AsyncIterator[Listener]:
    async with serving(dispatcher, tmp_path) as listener:
        yield listener


@pytest.fixture
async def peer(listener: Listener, socket_path: Path) -> AsyncIterator[RawPeer]:
    peer = await RawPeer.open(socket_path)
    yield peer
    await peer.close()

"""The log as a stream: what late, slow and strange readers get, and that writing never waits."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agent import log_port, supervisor
from agent.config import AgentConfig
from agent.log import configure
from agent.log_port import LogPort, LogRing, fall_back


def filled(ring: LogRing, count: int, first: int = 0) -> LogRing:
    for number in range(first, first + count):
        ring.write(f"{number:07d}\n")
    return ring


def all_of(ring: LogRing) -> bytes:
    """Everything a reader gets that comes now."""
    text, position = b"", 0
    while True:
        chunk, position = ring.read(position)
        if not chunk:
            return text
        text += chunk


def test_a_short_log_is_kept_whole() -> None:
    assert all_of(filled(LogRing(), 20000)).splitlines() == [b"%07d" % n for n in range(20000)]


def test_a_long_log_keeps_its_start_and_its_end() -> None:
    lines = all_of(filled(LogRing(start_bytes=80, latest_bytes=160), 100)).splitlines()
    assert lines[:10] == [b"%07d" % n for n in range(10)]
    assert lines[11:] == [b"%07d" % n for n in range(80, 100)]
    assert json.loads(lines[10])["msg"].startswith("70 records were dropped")


def test_records_stay_in_order_when_one_is_large() -> None:
    ring = LogRing(start_bytes=100, latest_bytes=1000)
    for record in ("a" * 50, "b" * 90, "c" * 10):
        ring.write(record)
    assert all_of(ring) == b"a" * 50 + b"b" * 90 + b"c" * 10
    ring.write("d" * 5000)  # larger than all there is
    assert b"records were dropped" in all_of(ring)


def test_a_reader_that_fell_behind_is_told() -> None:
    ring = filled(LogRing(start_bytes=0, latest_bytes=80), 5)
    _, position = ring.read(0)
    filled(ring, 20, first=5)
    chunk, position = ring.read(position)
    assert json.loads(chunk.splitlines()[0])["msg"].startswith("10 records were dropped")
    assert (chunk.splitlines()[1], position) == (b"0000015", 25)
    assert ring.read(position) == (b"", 25)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[LogRing, str, LogPort]]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "log.sock"))
    listener.listen()
    listener.setblocking(False)
    ring = LogRing(start_bytes=1 << 16, latest_bytes=1 << 16)
    port = LogPort(ring)
    port.serve(listener)
    yield ring, str(tmp_path / "log.sock"), port
    await port.stop()


async def test_early_and_late_readers_get_the_same(served: tuple[LogRing, str, LogPort]) -> None:
    ring, path, port = served
    early, early_writer = await asyncio.open_unix_connection(path)
    filled(ring, 10)
    assert await early.readexactly(80) == all_of(ring)
    late, late_writer = await asyncio.open_unix_connection(path)
    assert await late.readexactly(80) == all_of(ring)
    threading.Thread(target=filled, args=(ring, 5), kwargs={"first": 10}).start()
    for reader in (early, late):
        assert (await reader.readexactly(40)).splitlines()[-1] == b"0000014"
    ring.write("last words\n")
    await port.stop()
    for reader in (early, late):
        assert await reader.read() == b"last words\n"
    early_writer.close()
    late_writer.close()


async def test_a_reader_that_does_not_read_holds_nobody_up(served: tuple[LogRing, str, LogPort]) -> None:
    ring, path, port = served
    with socket.socket(socket.AF_UNIX) as asleep:
        asleep.connect(path)
        filled(ring, 100_000)
        other, writer = await asyncio.open_unix_connection(path, limit=1 << 20)
        assert await other.readexactly(8) == b"0000000\n"
        assert (await other.readuntil(b"0099999\n")).count(b"dropped") == 1
        writer.close()
        began = asyncio.get_running_loop().time()
        await port.stop()
        assert asyncio.get_running_loop().time() - began < 5


async def test_a_reader_that_leaves_is_forgotten(served: tuple[LogRing, str, LogPort]) -> None:
    ring, path, port = served
    for _ in range(40):  # more than may read at once
        reader, writer = await asyncio.open_unix_connection(path)
        ring.write("x\n")
        assert (await reader.readexactly(2)) == b"x\n"
        writer.close()
        await writer.wait_closed()
        while port._readers:
            await asyncio.wait(port._readers)


def test_vsock_peers_other_than_the_host_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """CID 3 is a container's, which reaches every listener of its guest."""

    class Peer:
        family = socket.AF_VSOCK
        closed = False

        def close(self) -> None:
            self.closed = True

    class Listening:
        def accept(self) -> tuple[Peer, tuple[int, int]]:
            return peer, (3, 1234)

    peer = Peer()
    LogPort(LogRing())._accept(Listening())  # type: ignore[arg-type]  # what of a socket it uses
    assert peer.closed


def test_records_arrive_as_json() -> None:
    root = logging.getLogger()
    handlers = list(root.handlers)
    ring = LogRing()
    try:
        configure(AgentConfig(log_level="info"), stream=ring)
        logging.getLogger("agent.tests").info("hello", extra={"n": 1})
    finally:
        root.handlers[:] = handlers
    record = json.loads(all_of(ring))
    assert (record["msg"], record["n"], record["subsystem"]) == ("hello", 1, "tests")


def test_a_fallen_back_log_goes_on(tmp_path: Path) -> None:
    ring = filled(LogRing(), 3)
    with (tmp_path / "out").open("w") as stream:
        fall_back(ring, stream)
        ring.write("more\n")
    assert (tmp_path / "out").read_text() == "0000000\n0000001\n0000002\nmore\n"


def test_without_the_port_the_log_goes_to_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(port: int) -> socket.socket:
        raise OSError(errno.ENODEV, "No such device", f"vsock port {port}")

    monkeypatch.setattr(log_port, "listen_vsock", refuse)
    life = AsyncExitStack()
    supervisor._offer_log(1025, filled(LogRing(), 2), life)
    assert capsys.readouterr().out == "0000000\n0000001\n"
    assert not life._exit_callbacks  # type: ignore[attr-defined]  # nothing to stop

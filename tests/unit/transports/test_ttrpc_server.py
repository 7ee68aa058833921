"""The ttrpc server, over real sockets."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from agent.errors import Generation, NotFound
from agent.transports.listener import Listener
from agent.transports.ttrpc_frames import MAX_PAYLOAD_BYTES, Response
from agent.transports.ttrpc_server import StreamIds
from tests.unit.transports.fake_dispatcher import FakeDispatcher, RawPeer, serving

INVALID, DEADLINE, EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, CANCELLED = 3, 4, 8, 12, 13, 14, 1


def oversize_request(stream_id: int, size: int) -> bytes:
    return size.to_bytes(4) + stream_id.to_bytes(4) + b"\x01\x00" + bytes(size)


async def test_a_call_reaches_the_dispatcher(peer: RawPeer, dispatcher: FakeDispatcher) -> None:
    assert await peer.call(1, "Echo", b"hello") == Response(payload=b"hello")
    assert dispatcher.calls == [(Generation.KATA2, "test.Service", "Echo", b"hello", {})]


async def test_answers_come_in_any_order(peer: RawPeer, dispatcher: FakeDispatcher) -> None:
    release = asyncio.Event()

    async def slow(_: bytes) -> bytes:
        await release.wait()
        return b"slow"

    dispatcher.handlers["Slow"] = slow
    peer.send(1, "Slow")
    assert (await peer.call(3, "Echo", b"quick")).payload == b"quick"
    release.set()
    assert await peer.answer() == (1, Response(payload=b"slow"))


async def test_a_thousand_blocked_calls_delay_nobody(peer: RawPeer, dispatcher: FakeDispatcher) -> None:
    for stream_id in range(1, 2001, 2):
        peer.send(stream_id, "Block")
    await dispatcher.until(lambda d: d.blocked == 1000)
    assert (await peer.call(2001, "Echo", b"x")).payload == b"x"


async def test_errors_become_statuses(peer: RawPeer, dispatcher: FakeDispatcher) -> None:
    async def missing(_: bytes) -> bytes:
        raise NotFound("container web does not exist")

    dispatcher.handlers["Missing"] = missing
    assert await peer.call(1, "Missing") == Response(5, "container web does not exist")
    assert (await peer.call(3, "Nonsense")).code == UNIMPLEMENTED


async def test_a_bug_in_one_call_is_its_own(
    peer: RawPeer, dispatcher: FakeDispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: bytes) -> bytes:
        raise ZeroDivisionError("secret")

    dispatcher.handlers["Broken"] = broken
    response = await peer.call(1, "Broken")
    assert response.code == INTERNAL
    assert "secret" not in response.message
    assert "ZeroDivisionError: secret" in caplog.text
    assert (await peer.call(3, "Echo", b"x")).payload == b"x"


async def test_a_call_that_waited_for_something_cancelled_is_answered(
    peer: RawPeer, dispatcher: FakeDispatcher
) -> None:
    async def awaits_a_cancelled_future(_: bytes) -> bytes:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        future.cancel()
        return await future

    dispatcher.handlers["Gives"] = awaits_a_cancelled_future
    assert (await peer.call(1, "Gives")).code == CANCELLED


async def test_a_message_that_is_no_text_is_answered(peer: RawPeer, dispatcher: FakeDispatcher) -> None:
    async def bad_path(_: bytes) -> bytes:
        raise NotFound("no \udcff" + "x" * 100_000)

    dispatcher.handlers["BadPath"] = bad_path
    response = await peer.call(1, "BadPath")
    assert response.code == 5
    assert response.message.startswith("no \\udcffx")
    assert len(response.message) < 8192


class TestDeadlines:
    async def test_a_negative_one_has_passed(self, peer: RawPeer, dispatcher: FakeDispatcher) -> None:
        peer.send(1, "Echo", timeout_ns=-1)
        assert await peer.answer() == (1, Response(DEADLINE, "timeout"))
        assert dispatcher.calls == []

    async def test_it_cancels_the_call(self, peer: RawPeer, dispatcher: FakeDispatcher) -> None:
        peer.send(1, "Block", timeout_ns=50_000_000)
        assert await peer.answer() == (1, Response(DEADLINE, "timeout"))
        await dispatcher.until(lambda d: d.cancelled == 1)

    async def test_its_answer_does_not_wait_for_the_call_to_unwind(
        self, peer: RawPeer, dispatcher: FakeDispatcher
    ) -> None:
        release = asyncio.Event()

        async def stubborn(_: bytes) -> bytes:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await release.wait()
            return b""

        dispatcher.handlers["Stubborn"] = stubborn
        peer.send(1, "Stubborn", timeout_ns=10_000_000)
        assert (await peer.answer())[1].code == DEADLINE
        release.set()
        assert (await peer.call(3, "Echo")).code == 0

    async def test_a_call_in_time_is_answered_once(self, peer: RawPeer) -> None:
        peer.send(1, "Echo", b"x", timeout_ns=60_000_000_000)
        assert await peer.answer() == (1, Response(payload=b"x"))
        assert (await peer.call(3, "Echo", b"y")).payload == b"y"


class TestLimits:
    @pytest.mark.parametrize("size", [MAX_PAYLOAD_BYTES + 1, 20 << 20])
    async def test_an_oversize_request_costs_only_itself(
        self, peer: RawPeer, dispatcher: FakeDispatcher, size: int
    ) -> None:
        peer.writer.write(oversize_request(1, size))
        stream_id, response = await peer.answer()
        assert (stream_id, response.code) == (1, EXHAUSTED)
        assert str(size) in response.message
        assert (await peer.call(3, "Echo", b"x")).payload == b"x"
        assert len(dispatcher.calls) == 1

    async def test_an_oversize_answer_becomes_an_error(
        self, peer: RawPeer, dispatcher: FakeDispatcher
    ) -> None:
        async def huge(_: bytes) -> bytes:
            return bytes(MAX_PAYLOAD_BYTES)

        dispatcher.handlers["Huge"] = huge
        assert (await peer.call(1, "Huge")).code == EXHAUSTED
        assert (await peer.call(3, "Echo", b"x")).payload == b"x"

    async def test_the_largest_messages_pass(self, peer: RawPeer) -> None:
        body = bytes(range(256)) * ((MAX_PAYLOAD_BYTES - 256) // 256)
        assert (await peer.call(1, "Echo", body)).payload == body

    async def test_a_peer_that_does_not_read_is_not_read_from(
        self, peer: RawPeer, dispatcher: FakeDispatcher
    ) -> None:
        body = bytes(1 << 20)
        count = 64
        sending = asyncio.create_task(self.send_all(peer, body, count))
        # The server's own buffer holds 4 MiB; with more to send it must stop reading.
        await dispatcher.until(lambda d: len(d.calls) >= 4)
        for _ in range(1000):
            await asyncio.sleep(0)  # whatever the server still has to do, it may do now
        assert len(dispatcher.calls) < count / 2
        for _ in range(count):
            _, response = await peer.answer()
            assert len(response.payload) == len(body)
        await sending

    async def send_all(self, peer: RawPeer, body: bytes, count: int) -> None:
        for number in range(count):
            peer.send(2 * number + 1, "Echo", body)
            await peer.writer.drain()


class TestStreamIds:
    async def test_an_even_one_is_refused(self, peer: RawPeer, dispatcher: FakeDispatcher) -> None:
        response = await peer.call(2, "Echo")
        assert response.code == INVALID
        assert "even" in response.message
        assert dispatcher.calls == []

    async def test_one_that_waits_is_refused(self, peer: RawPeer, dispatcher: FakeDispatcher) -> None:
        peer.send(1, "Block")
        assert (await peer.call(1, "Echo")).code == INVALID
        assert dispatcher.cancelled == 0

    async def test_one_that_was_answered_is_refused(self, peer: RawPeer) -> None:
        assert (await peer.call(1, "Echo")).code == 0
        assert (await peer.call(1, "Echo")).code == INVALID
        assert (await peer.call(3, "Echo")).code == 0

    async def test_threads_of_a_client_may_send_out_of_turn(self, peer: RawPeer) -> None:
        assert [(await peer.call(each, "Echo")).code for each in (1, 7, 3, 5, 9)] == [0] * 5
        assert (await peer.call(3, "Echo")).code == INVALID

    def test_a_leap_costs_no_memory(self) -> None:
        ids = StreamIds()
        for stream_id in (1, 2**31 + 1, 2**32 - 1):
            assert ids.admit(stream_id) == ""
        assert ids.admit(2**32 - 3) == ""
        assert "before" in ids.admit(2**32 - 3)
        assert "before" in ids.admit(3)  # so far behind that it is not kept apart from a used one

    def test_a_long_life_costs_no_memory(self) -> None:
        ids = StreamIds()
        assert all(ids.admit(stream_id) == "" for stream_id in range(1, 100_000, 4))
        assert len(ids._passed_over) <= 2048 + 1


class TestBadBytes:
    async def test_an_unknown_frame_type_is_ignored(self, peer: RawPeer, dispatcher: FakeDispatcher) -> None:
        for kind in (b"\0", b"\2", b"\3", b"\4", b"\xff"):
            peer.writer.write((3).to_bytes(4) + (1).to_bytes(4) + kind + b"\0abc")
        assert (await peer.call(1, "Echo", b"x")).payload == b"x"
        assert len(dispatcher.calls) == 1

    async def test_an_undecodable_request_is_refused(self, peer: RawPeer) -> None:
        peer.writer.write((2).to_bytes(4) + (1).to_bytes(4) + b"\x01\x00" + b"\x0a\x7f")
        stream_id, response = await peer.answer()
        assert (stream_id, response.code) == (1, INVALID)
        assert (await peer.call(3, "Echo")).code == 0

    async def test_nonsense_ends_its_connection_only(
        self, peer: RawPeer, socket_path: Path, dispatcher: FakeDispatcher
    ) -> None:
        other = await RawPeer.open(socket_path)
        peer.send(1, "Block")
        await dispatcher.until(lambda d: d.blocked == 1)
        peer.writer.write(b"this is not a frame")
        assert await peer.at_end()
        await dispatcher.until(lambda d: d.cancelled == 1)
        assert (await other.call(1, "Echo")).code == 0
        await other.close()

    async def test_an_end_in_a_frame_is_harmless(
        self, peer: RawPeer, socket_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        peer.writer.write((100).to_bytes(4) + (1).to_bytes(4) + b"\x01\x00" + b"half")
        peer.writer.write_eof()
        assert await peer.at_end()
        assert "middle of a frame" in caplog.text
        other = await RawPeer.open(socket_path)
        assert (await other.call(1, "Echo")).code == 0
        await other.close()


async def test_a_peer_that_goes_takes_its_calls_along(
    listener: Listener, socket_path: Path, dispatcher: FakeDispatcher
) -> None:
    gone, staying = await RawPeer.open(socket_path), await RawPeer.open(socket_path)
    for stream_id in range(1, 21, 2):
        gone.send(stream_id, "Block")
    staying.send(1, "Block")
    await dispatcher.until(lambda d: d.blocked == 11)
    await gone.close()
    await dispatcher.until(lambda d: d.cancelled == 10)
    assert (await staying.call(3, "Echo")).code == 0
    assert dispatcher.cancelled == 10
    await staying.close()


class TestStop:
    async def test_blocked_calls_are_answered(
        self, listener: Listener, peer: RawPeer, dispatcher: FakeDispatcher
    ) -> None:
        peer.send(1, "Block")
        await dispatcher.until(lambda d: d.blocked == 1)
        began = time.monotonic()
        await listener.stop(5)
        assert time.monotonic() - began < 2
        assert await peer.answer() == (1, Response(UNAVAILABLE, "the agent is stopping"))
        assert await peer.at_end()
        assert dispatcher.cancelled == 1

    async def test_the_call_that_asks_for_it_is_answered(
        self, dispatcher: FakeDispatcher, tmp_path: Path
    ) -> None:
        stop = asyncio.Event()

        async def destroy(_: bytes) -> bytes:
            stop.set()
            for _step in range(10):  # it has some left to take
                await asyncio.sleep(0)
            return b"done"

        dispatcher.handlers["Destroy"] = destroy
        async with serving(dispatcher, tmp_path) as listener:
            peer = await RawPeer.open(tmp_path / "agent.sock")
            peer.send(1, "Destroy")
            await stop.wait()
            await listener.stop(5)
            assert await peer.answer() == (1, Response(payload=b"done"))
            await peer.close()

    async def test_large_answers_are_flushed(
        self, listener: Listener, peer: RawPeer, dispatcher: FakeDispatcher
    ) -> None:
        body = bytes(3 << 20)
        peer.send(1, "Echo", body)
        await peer.writer.drain()
        await dispatcher.until(lambda d: len(d.calls) == 1)
        stopping = asyncio.create_task(listener.stop(5))
        _, response = await peer.answer()
        assert response.payload == body
        await stopping

    async def test_a_peer_that_does_not_read_cannot_delay_it(
        self, listener: Listener, peer: RawPeer, dispatcher: FakeDispatcher
    ) -> None:
        peer.send(1, "Echo", bytes(3 << 20))
        await peer.writer.drain()
        await dispatcher.until(lambda d: len(d.calls) == 1)
        began = time.monotonic()
        await listener.stop(0.3)
        assert time.monotonic() - began < 2

    async def test_its_socket_file_is_removed(self, listener: Listener, socket_path: Path) -> None:
        assert socket_path.is_socket()
        assert socket_path.stat().st_mode & 0o777 == 0o600
        await listener.stop(1)
        assert not socket_path.exists()

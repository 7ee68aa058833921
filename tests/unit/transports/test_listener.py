"""One port for both wires: who is let in, who is told apart, and who cannot do harm."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import InvalidRequest, KernelRefused
from agent.transports.listen_address import UnixAddress, VsockAddress, parse_listen_address
from agent.transports.listener import Listener
from tests.unit.transports.fake_dispatcher import FakeDispatcher, RawPeer, serving


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("vsock://-1:1024", VsockAddress(-1, 1024)),
        ("vsock://3:1", VsockAddress(3, 1)),
        ("unix:///run/agent.sock", UnixAddress("/run/agent.sock")),
        ("unix://@/tmp/agent.sock", UnixAddress("/tmp/agent.sock", abstract=True)),
    ],
)
def test_addresses(text: str, address: VsockAddress | UnixAddress) -> None:
    assert parse_listen_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    ["", "vsock://", "vsock://1024", "vsock://-2:1", "unix://", "unix://@", "tcp://1.2.3.4:5", "/run/x"],
)
def test_bad_addresses(text: str) -> None:
    with pytest.raises(InvalidRequest, match="no address to listen on"):
        parse_listen_address(text)


class TestUnixSockets:
    async def test_abstract(self, dispatcher: FakeDispatcher, tmp_path: Path) -> None:
        name = f"pykata-test{tmp_path}"
        listener = Listener(f"unix://@{name}", dispatcher)
        await listener.start()
        peer = RawPeer(*await asyncio.open_unix_connection(f"\0{name}"))
        assert (await peer.call(1, "Echo", b"x")).payload == b"x"
        await peer.close()
        await listener.stop(1)

    async def test_a_stale_file_is_replaced(self, dispatcher: FakeDispatcher, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tmp_path / "agent.sock"))
        async with serving(dispatcher, tmp_path):
            peer = await RawPeer.open(tmp_path / "agent.sock")
            assert (await peer.call(1, "Echo")).code == 0
            await peer.close()

    async def test_a_living_one_is_not(
        self, listener: Listener, peer: RawPeer, dispatcher: FakeDispatcher, tmp_path: Path
    ) -> None:
        with pytest.raises(KernelRefused, match=r"listening on unix://.*EADDRINUSE"):
            await Listener(f"unix://{tmp_path}/agent.sock", dispatcher).start()
        assert (await peer.call(1, "Echo")).code == 0

    async def test_a_file_of_another_kind_is_kept(self, dispatcher: FakeDispatcher, tmp_path: Path) -> None:
        (tmp_path / "agent.sock").write_text("precious")
        with pytest.raises(KernelRefused, match="EADDRINUSE"):
            await Listener(f"unix://{tmp_path}/agent.sock", dispatcher).start()
        assert (tmp_path / "agent.sock").read_text() == "precious"


class FakeSocket:
    """A listening socket whose accept() does as scripted: raise, or return connection and address."""

    def __init__(self, *script: OSError | tuple[socket.socket, object]) -> None:
        self._script = list(script)

    def accept(self) -> tuple[socket.socket, object]:
        step = self._script.pop(0) if self._script else BlockingIOError()
        if isinstance(step, OSError):
            raise step
        return step

    def fileno(self) -> int:
        return -1


class VsockLike(socket.socket):
    """A unix socket that says it is a vsock."""

    @property
    def family(self) -> int:  # type: ignore[override] # the real one is a property too
        return socket.AF_VSOCK


def connected(kind: Callable[..., socket.socket] = socket.socket) -> tuple[socket.socket, socket.socket]:
    """Our end and the end that the listener accepts."""
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    return ours, kind(fileno=theirs.detach())


class TestAccepting:
    async def test_a_peer_that_left_already_is_no_matter(
        self, listener: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ours, theirs = connected()
        script = FakeSocket(ConnectionResetError(), ConnectionAbortedError(), (theirs, ""))
        with monkeypatch.context() as patch, ours:
            patch.setattr(listener, "_socket", script)
            listener._accept()
            peer = RawPeer(*await asyncio.open_unix_connection(sock=ours))
            assert (await peer.call(1, "Echo", b"x")).payload == b"x"
            await peer.close()

    @pytest.mark.parametrize("cid", [0, 1, 3, 0xFFFFFFFF])
    async def test_only_the_host_may_come_over_vsock(
        self, listener: Listener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, cid: int
    ) -> None:
        ours, theirs = connected(VsockLike)
        with monkeypatch.context() as patch, ours:
            patch.setattr(listener, "_socket", FakeSocket((theirs, (cid, 5000))))
            listener._accept()
            assert ours.recv(1) == b""
        assert f"CID {cid}" in caplog.text

    async def test_the_host_is_let_in(self, listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
        ours, theirs = connected(VsockLike)
        with monkeypatch.context() as patch, ours:
            patch.setattr(listener, "_socket", FakeSocket((theirs, (2, 5000))))
            listener._accept()
            peer = RawPeer(*await asyncio.open_unix_connection(sock=ours))
            assert (await peer.call(1, "Echo", b"x")).payload == b"x"
            await peer.close()

    async def test_want_of_descriptors_is_waited_out(
        self,
        listener: Listener,
        socket_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr("agent.transports.listener._ACCEPT_RETRY_S", 0.01)
        real_socket = listener._socket
        calls = 0
        tried = asyncio.Event()

        class Exhausted(FakeSocket):
            def accept(self) -> tuple[socket.socket, object]:
                nonlocal calls
                calls += 1
                tried.set()
                raise OSError(24, "Too many open files")

            def fileno(self) -> int:
                return real_socket.fileno()

        monkeypatch.setattr(listener, "_socket", Exhausted())
        peer = await RawPeer.open(socket_path)
        peer.send(1, "Echo", b"x")
        await asyncio.wait_for(tried.wait(), 5)
        monkeypatch.setattr(listener, "_socket", real_socket)
        assert (await peer.answer())[1].payload == b"x"
        assert calls < 5
        assert "Too many open files" in caplog.text
        await peer.close()


class TestHostilePeers:
    async def test_200_silent_connections_harm_nobody(self, peer: RawPeer, socket_path: Path) -> None:
        assert (await peer.call(1, "Echo")).code == 0
        silent = [await asyncio.open_unix_connection(socket_path) for _ in range(200)]
        late = await RawPeer.open(socket_path)
        assert (await late.call(1, "Echo", b"late")).payload == b"late"
        assert (await peer.call(3, "Echo", b"early")).payload == b"early"
        # The oldest have made room; the newest are still welcome.
        async with asyncio.timeout(5):
            assert await silent[0][0].read() == b""
        newest = RawPeer(*silent[-1])
        assert (await newest.call(1, "Echo", b"newest")).payload == b"newest"
        await late.close()
        for pair in silent:
            await RawPeer(*pair).close()

    async def test_200_that_speak_and_200_that_leave(self, peer: RawPeer, socket_path: Path) -> None:
        peers = []
        for _ in range(200):
            peers.append(await RawPeer.open(socket_path))
            peers[-1].send(1, "Echo", b"x")
        assert [(await each.answer())[1].payload for each in peers] == [b"x"] * 200
        for each in peers:
            await each.close()
        for _ in range(200):
            await (await RawPeer.open(socket_path)).close()
        assert (await peer.call(1, "Echo", b"x")).payload == b"x"

    @pytest.mark.parametrize("garbage", [b"\xff" * 100, b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\1", b"\n"])
    async def test_garbage_harms_nobody(self, peer: RawPeer, socket_path: Path, garbage: bytes) -> None:
        _, writer = await asyncio.open_unix_connection(socket_path)
        writer.write(garbage)
        writer.write_eof()
        assert (await peer.call(1, "Echo", b"x")).payload == b"x"
        writer.close()
        assert (await peer.call(3, "Echo", b"x")).payload == b"x"


def test_grpc_is_loaded_by_the_first_grpc_peer_only(tmp_path: Path) -> None:
    script = f"""
import asyncio, sys
from pathlib import Path
from tests.unit.transports.fake_dispatcher import FakeDispatcher, RawPeer, serving

HEAVY = ("grpc", "google.protobuf", "pyroute2", "psutil", "pyudev")

async def main():
    directory = Path({str(tmp_path)!r})
    async with serving(FakeDispatcher(), directory):
        peer = await RawPeer.open(directory / "agent.sock")
        assert (await peer.call(1, "Echo", b"x")).payload == b"x"
        await peer.close()
        loaded = [name for name in HEAVY if name in sys.modules]
        assert not loaded, loaded
        reader, writer = await asyncio.open_unix_connection(directory / "agent.sock")
        writer.write(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        settings = await asyncio.wait_for(reader.readexactly(9), 30)
        assert settings[3] == 4, settings
        writer.close()
        assert "grpc" in sys.modules
    print("grpc came late")

asyncio.run(main())
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "grpc came late\n"), result.stderr

"""The command line as a client: streams, signals, terminals and exit statuses."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
import termios
from collections.abc import AsyncIterator

import pytest

from host.monitor_protocol import (
    INPUT_PIECE,
    Detach,
    Execute,
    Exited,
    Failed,
    Frame,
    FrameKind,
    InputTaken,
    Progress,
    Resize,
    Signal,
    Started,
)
from host.run_options import RunOptions, WindowSize
from host.state import SandboxStore
from tests.unit.cli.fake_monitor import FakeMonitor, Peer, Script, start

OPTIONS = RunOptions("/srv/root", ("sh",))


async def run(
    store: SandboxStore, script: Script, *arguments: str, typed: bytes = b""
) -> tuple[int, bytes, bytes]:
    """Play `script` to one `pykata` command; its exit status, output and errors."""
    async with FakeMonitor(script).serving(store, OPTIONS):
        process = await start(*arguments)
        output, errors = await asyncio.wait_for(process.communicate(typed), 30)
    assert process.returncode is not None
    return process.returncode, output, errors


async def test_streams_stay_apart_and_the_status_is_the_commands(store: SandboxStore) -> None:
    async def script(peer: Peer) -> None:
        request = await peer.take()
        assert request == Execute(("ls", "-l"), env=("A=b",), workdir="/tmp", user="1000:7")
        peer.say(Started())
        await peer.output(b"out")
        await peer.output(b"err", FrameKind.STDERR)
        peer.say(Exited(37))

    words = ["exec", "-e", "A=b", "-w", "/tmp", "-u", "1000:7", "box", "--", "ls", "-l"]
    assert await run(store, script, *words) == (37, b"out", b"err")


async def test_much_output_arrives_whole(store: SandboxStore) -> None:
    piece = bytes(range(256)) * 4096

    async def script(peer: Peer) -> None:
        await peer.take()
        peer.say(Started())
        for _ in range(8):
            await peer.output(piece)
        peer.say(Exited(0))

    assert await run(store, script, "exec", "box", "cat") == (0, piece * 8, b"")


async def test_input_comes_one_acknowledged_piece_at_a_time(store: SandboxStore) -> None:
    typed = os.urandom(5 * INPUT_PIECE + 17)

    async def script(peer: Peer) -> None:
        assert isinstance(await peer.take(), Execute)
        peer.say(Started())
        taken = b""
        while True:
            frame = await peer.take()
            assert isinstance(frame, Frame)
            assert frame.kind is FrameKind.STDIN
            taken += frame.payload
            if not frame.payload:
                break
            # Nothing further may come before the acknowledgement.
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(peer.reader.readexactly(1), 0.05)
            peer.say(InputTaken())
        await peer.output(taken)
        peer.say(Exited(0))

    status, output, errors = await run(store, script, "exec", "-i", "box", "cat", typed=typed)
    assert (status, output, errors) == (0, typed, b"")


async def test_input_that_nobody_wants_any_more_is_not_read(store: SandboxStore) -> None:
    async def script(peer: Peer) -> None:
        await peer.take()
        peer.say(Started())
        await peer.take()
        peer.say(InputTaken(closed=True))
        peer.say(Exited(3))

    assert (await run(store, script, "exec", "-i", "box", "true", typed=b"x" * INPUT_PIECE * 3))[0] == 3


async def test_without_i_no_input_is_sent(store: SandboxStore) -> None:
    async def script(peer: Peer) -> None:
        await peer.take()
        peer.say(Started())
        peer.say(Exited(0))
        assert await peer.gone()

    assert await run(store, script, "exec", "box", "true", typed=b"unread") == (0, b"", b"")


@pytest.mark.parametrize("status", [125, 126, 127])
async def test_a_failure_is_one_sentence_and_its_status(store: SandboxStore, status: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.take()
        peer.say(Failed("no such file", status, "Traceback of the monitor"))

    assert await run(store, script, "exec", "box", "nope") == (status, b"", b"pykata: no such file\n")


async def test_debug_shows_the_traceback(store: SandboxStore) -> None:
    async def script(peer: Peer) -> None:
        await peer.take()
        peer.say(Failed("no such file", 127, "Traceback of the monitor"))

    _, _, errors = await run(store, script, "--debug", "exec", "box", "nope")
    assert b"Traceback of the monitor\npykata: no such file" in errors


async def test_a_killed_monitor_is_told(store: SandboxStore) -> None:
    async def script(peer: Peer) -> None:
        await peer.take()
        peer.say(Started())

    status, _, errors = await run(store, script, "exec", "box", "sleep", "9")
    assert status == 125
    assert b"the monitor of the sandbox was killed" in errors


async def test_steps_are_plain_lines_where_there_is_no_terminal(store: SandboxStore) -> None:
    async def script(peer: Peer) -> None:
        await peer.take()
        peer.say(Progress("Booting the VM"))
        peer.say(Started())
        peer.say(Exited(0))

    assert await run(store, script, "exec", "box", "true") == (0, b"", b"pykata: Booting the VM\n")


async def test_the_first_ctrl_c_is_passed_on_and_the_second_kills(store: SandboxStore) -> None:
    started = asyncio.Event()
    seen: list[object] = []

    async def script(peer: Peer) -> None:
        await peer.take()
        peer.say(Started())
        await peer.output(b"ready")
        started.set()
        seen.append(await peer.take())
        process.send_signal(signal.SIGINT)
        seen.append(await peer.take())
        peer.say(Exited(137))

    async with FakeMonitor(script).serving(store, OPTIONS):
        process = await start("exec", "box", "sleep", "9")
        assert process.stdout
        assert await process.stdout.readexactly(5) == b"ready"
        process.send_signal(signal.SIGINT)
        _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert seen == [Signal(signal.SIGINT), Signal(signal.SIGKILL)]
    assert (process.returncode, errors) == (137, b"")


async def test_ctrl_c_before_the_start_gives_up(store: SandboxStore) -> None:
    async def script(peer: Peer) -> None:
        await peer.take()
        peer.say(Progress("Booting the VM"))
        assert await peer.gone()

    async with FakeMonitor(script).serving(store, OPTIONS):
        process = await start("exec", "box", "true")
        assert process.stderr
        assert await process.stderr.readline() == b"pykata: Booting the VM\n"
        process.send_signal(signal.SIGINT)
        _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, errors) == (130, b"pykata: interrupted\n")


async def without_end(peer: Peer) -> None:
    """Write until it fails."""
    while True:
        await peer.output(b"y\n" * 4096)


async def test_an_output_that_nobody_reads_ends_the_command(store: SandboxStore) -> None:
    async def script(peer: Peer) -> None:
        await peer.take()
        peer.say(Started())
        with pytest.raises(ConnectionError):
            await without_end(peer)

    async with FakeMonitor(script).serving(store, OPTIONS):
        reading, writing = os.pipe()
        process = await start("exec", "box", "yes", stdout=writing)
        os.close(writing)
        os.close(reading)
        await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 128 + signal.SIGPIPE


class Terminal:
    """A pseudo terminal whose other end a command line has for its own."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        self.resize(24, 80)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)


@pytest.fixture
async def terminal() -> AsyncIterator[Terminal]:
    made = Terminal()
    yield made
    os.close(made.master)
    os.close(made.slave)


async def test_a_terminal_is_raw_while_the_command_runs_and_resizes(
    store: SandboxStore, terminal: Terminal
) -> None:
    seen: list[object] = []

    async def script(peer: Peer) -> None:
        request = await peer.take()
        assert isinstance(request, Execute)
        assert (request.tty, request.window) == (True, WindowSize(24, 80))
        peer.say(Started())
        assert await peer.take() == Resize(WindowSize(24, 80))
        seen.append(terminal.is_raw())
        os.write(terminal.master, b"\x03")  # Ctrl-C is a key like any other now
        seen.append(await peer.take())
        peer.say(InputTaken())
        terminal.resize(50, 132)
        process.send_signal(signal.SIGWINCH)  # as the kernel does to a foreground process group
        seen.append(await peer.take())
        peer.say(Exited(5))

    async with FakeMonitor(script).serving(store, OPTIONS):
        process = await start("exec", "-it", "box", "sh", stdin=terminal.slave)
        await asyncio.wait_for(process.communicate(), 30)
    assert seen == [True, Frame(FrameKind.STDIN, b"\x03"), Resize(WindowSize(50, 132))]
    assert process.returncode == 5
    assert not terminal.is_raw()


async def test_what_is_typed_ahead_is_kept(store: SandboxStore, terminal: Terminal) -> None:
    seen: list[object] = []

    async def script(peer: Peer) -> None:
        await peer.take()
        os.write(terminal.master, b"early\n")
        peer.say(Started())
        seen.extend([await peer.take(), await peer.take()])
        peer.say(Exited(0))

    async with FakeMonitor(script).serving(store, OPTIONS):
        process = await start("exec", "-it", "box", "sh", stdin=terminal.slave)
        await asyncio.wait_for(process.communicate(), 30)
    assert seen[1:] == [Frame(FrameKind.STDIN, b"early\n")]


async def test_the_detach_keys_leave_the_command_alone(store: SandboxStore, terminal: Terminal) -> None:
    seen: list[object] = []

    async def script(peer: Peer) -> None:
        await peer.take()
        peer.say(Started())
        seen.append(await peer.take())
        os.write(terminal.master, b"ab\x10")
        seen.append(await peer.take())
        peer.say(InputTaken())
        os.write(terminal.master, b"\x11")
        seen.append(await peer.take())
        assert await peer.gone()

    async with FakeMonitor(script).serving(store, OPTIONS):
        process = await start("exec", "-it", "box", "sh", stdin=terminal.slave)
        await asyncio.wait_for(process.communicate(), 30)
    assert seen[1:] == [Frame(FrameKind.STDIN, b"ab"), Detach()]
    assert process.returncode == 0
    assert not terminal.is_raw()


async def test_a_terminal_is_asked_for_where_there_is_none(store: SandboxStore) -> None:
    async def script(peer: Peer) -> None:
        raise AssertionError("nothing should be asked of the monitor")

    status, _, errors = await run(store, script, "exec", "-it", "box", "sh")
    assert (status, errors) == (125, b"pykata: standard input is not a terminal: leave out -t\n")

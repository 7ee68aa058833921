"""The monitor's dealings with its clients, around a run that the test plays itself."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from host.errors import VmFailed
from host.monitor import Monitor
from host.monitor_client import Connection, MonitorGone, RequestFailed, ask
from host.monitor_protocol import (
    Attach,
    Detach,
    Done,
    Execute,
    Exited,
    FollowLog,
    Frame,
    FrameKind,
    InputTaken,
    Kill,
    Progress,
    Signal,
    Started,
    Stop,
    Wait,
)
from host.output_log import read_log
from host.process_io import OutputSink
from host.state import Phase, SandboxStore
from tests.unit.cli.fake_run import OPTIONS, FakeRun, Life, Running, until

Start = Callable[..., Running]


@pytest.fixture
async def start(store: SandboxStore, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    running: list[Running] = []
    monkeypatch.setattr("host.monitor.SandboxRun", FakeRun)

    def begin(life: Life = FakeRun.ordinary, **changes: object) -> Running:
        FakeRun.life = life
        sandbox, owner = store.create(replace(OPTIONS, **changes))  # type: ignore[arg-type]  # fields by name
        ours, theirs = socket.socketpair()
        monitor = Monitor(store, sandbox)
        task = asyncio.create_task(monitor.serve(theirs))
        task.add_done_callback(lambda _: os.close(owner))
        running.append(Running(store, sandbox, monitor, task, ours))
        return running[-1]

    yield begin
    for one in running:
        one.monitor.abandon()
        for connection in one.connections:
            await connection.close()
        await one.ended()


async def test_the_first_client_sees_everything_from_the_first_step(start: Start) -> None:
    running = start()
    connection = await running.first(Attach(lifeline=True))
    seen = await until(connection, Started)
    assert seen == [Progress("Booting"), Started()]
    assert await connection.receive() == Frame(FrameKind.STDOUT, b"hello")
    running.container.init.ended.set()
    assert await connection.receive() == Exited(0)
    with pytest.raises(MonitorGone):
        await connection.receive()
    await running.ended()
    record = running.sandbox.read()
    assert (record.phase, record.exit_status) == (Phase.EXITED, 0)
    assert record.started_at <= record.finished_at
    assert [one.data for one in read_log(running.sandbox.output_log)] == [b"hello"]
    assert not running.sandbox.socket.exists()


async def test_nothing_runs_before_the_first_client_has_asked(start: Start) -> None:
    running = start()
    connection = await running.first(None)
    await connection.close()
    await running.ended()
    assert not running.monitor.life.undone  # type: ignore[attr-defined]  # a FakeRun
    assert running.sandbox.read().phase is Phase.FAILED


async def test_a_lifeline_that_breaks_ends_the_sandbox(start: Start) -> None:
    running = start()
    connection = await running.first(Attach(lifeline=True))
    await until(connection, Started)
    await connection.close()
    await running.ended()
    assert running.monitor.life.undone  # type: ignore[attr-defined]  # a FakeRun
    assert running.sandbox.read().phase is Phase.FAILED


async def test_a_client_that_detaches_leaves_the_sandbox_running(start: Start) -> None:
    running = start()
    connection = await running.first(Attach(lifeline=True))
    await until(connection, Started)
    await connection.send(Detach())
    await until(connection, Done)
    await connection.close()
    assert running.sandbox.read().phase is Phase.RUNNING
    assert await ask(running.sandbox, Stop(grace_s=5)) == Done()
    await running.ended()
    assert running.sandbox.read().exit_status == 128 + signal.SIGTERM


async def test_a_command_that_ignores_sigterm_is_killed(start: Start) -> None:
    running = start()
    await until(await running.first(Attach(lifeline=True)), Started)
    init = running.container.init
    init.stubborn = True
    await ask(running.sandbox, Stop(grace_s=0.05))
    assert init.signals == [signal.SIGTERM, signal.SIGKILL]
    await running.ended()


async def test_rm_has_removed_everything_before_the_client_is_told(start: Start) -> None:
    running = start(remove=True)
    connection = await running.first(Attach(lifeline=True))
    await until(connection, Started)
    running.container.init.ended.set()
    await until(connection, Exited)
    assert not running.store.run_dir.exists()
    await running.ended()


async def test_input_reaches_the_command_and_is_acknowledged(start: Start) -> None:
    running = start()
    connection = await running.first(Attach(lifeline=True))
    await until(connection, Started)
    init = running.container.init
    await connection.send_input(b"typed")
    assert (await until(connection, InputTaken))[-1] == InputTaken(closed=False)
    await connection.send_input(b"")
    assert (await until(connection, InputTaken))[-1] == InputTaken(closed=True)
    assert bytes(init.typed) == b"typed<end>"


async def test_a_signal_passes_input_that_nobody_reads(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = start()
    connection = await running.first(Attach(lifeline=True))
    await until(connection, Started)
    stuck = asyncio.Event()

    async def never_read(data: bytes) -> bool:
        stuck.set()
        await asyncio.get_running_loop().create_future()
        return True

    monkeypatch.setattr(running.container.init, "write_input", never_read)
    await connection.send_input(b"unread")
    await asyncio.wait_for(stuck.wait(), 5)
    await connection.send(Signal(signal.SIGINT))
    assert (await until(connection, Exited))[-1] == Exited(128 + signal.SIGINT)


async def test_exec_streams_its_own_output_and_status(start: Start) -> None:
    running = start()
    await until(await running.first(Attach(lifeline=True)), Started)
    added = running.container.added
    connection = await running.join(Execute(("ls",)))
    assert await until(connection, Started) == [Started()]
    assert await connection.receive() == Frame(FrameKind.STDOUT, b"added")
    added.ended.set()
    assert await connection.receive() == Exited(0)


async def test_a_missing_command_is_127_and_the_runtimes_own_sentence(start: Start) -> None:
    running = start()
    await until(await running.first(Attach(lifeline=True)), Started)
    with pytest.raises(RequestFailed, match=r"^executable not found$") as caught:
        await ask(running.sandbox, Execute(("missing",)))
    assert caught.value.status == 127


async def test_a_detached_exec_answers_at_once_and_is_still_waited_for(start: Start) -> None:
    running = start()
    await until(await running.first(Attach(lifeline=True)), Started)
    assert await ask(running.sandbox, Execute(("sleep",), detach=True)) == Done()
    assert running.container.left == [running.container.added]


async def test_an_exec_whose_client_vanishes_is_killed(start: Start) -> None:
    running = start()
    await until(await running.first(Attach(lifeline=True)), Started)
    container = running.container
    connection = await running.join(Execute(("sleep",)))
    await until(connection, Started)
    await connection.close()
    await asyncio.wait_for(container.added.ended.wait(), 10)
    assert container.added.signals == [signal.SIGKILL]
    assert running.sandbox.read().phase is Phase.RUNNING


async def test_followers_and_waiters_get_all_and_the_end(start: Start) -> None:
    running = start()
    first = await running.first(Attach(lifeline=True))
    await until(first, Started)
    follower, waiter = await running.join(FollowLog()), await running.join(Wait())
    assert await follower.receive() == Frame(FrameKind.STDOUT, b"hello")
    await ask(running.sandbox, Kill(signal.SIGHUP))
    assert (await until(follower, Exited))[-1] == Exited(129)
    assert await until(waiter, Exited) == [Exited(129)]


async def test_a_slow_client_slows_the_run_and_loses_nothing(start: Start) -> None:
    piece = bytes(256) * 4096
    written = 0

    async def talkative(run: FakeRun, sink: OutputSink) -> int:
        nonlocal written
        run.observer.container_started()
        for _ in range(20):
            await sink.write(FrameKind.STDOUT, piece)
            written += 1
        return 0

    running = start(talkative)
    ours = running.socket
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader, writer = await asyncio.open_connection(sock=ours, limit=1024)
    connection = Connection(reader, writer)
    running.connections.append(connection)
    await connection.send(Attach(lifeline=True))
    # The reader is full after a few KiB: the run must come to a halt long before its end.
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(running.task), 0.5)
    assert written < 5
    seen = await until(connection, Exited)
    assert sum(len(one.payload) for one in seen if isinstance(one, Frame)) == 20 * len(piece)


async def test_a_failure_is_told_and_recorded(start: Start) -> None:
    async def doomed(run: FakeRun, sink: OutputSink) -> int:
        raise VmFailed("the virtual machine ended unexpectedly", "it said nothing")

    running = start(doomed)
    connection = await running.first(Attach(lifeline=True))
    with pytest.raises(RequestFailed, match="ended unexpectedly") as caught:
        await until(connection, Exited)
    assert caught.value.status == 125
    assert "VmFailed" in caught.value.trace
    await running.ended()
    record = running.sandbox.read()
    assert (record.phase, record.exit_status) == (Phase.FAILED, 125)
    assert "ended unexpectedly" in record.error


async def test_a_bug_is_told_too(start: Start) -> None:
    async def broken(run: FakeRun, sink: OutputSink) -> int:
        raise ZeroDivisionError("oops")

    running = start(broken)
    connection = await running.first(Attach(lifeline=True))
    with pytest.raises(RequestFailed, match="the monitor failed: ZeroDivisionError: oops"):
        await until(connection, Exited)


async def test_a_client_that_talks_nonsense_harms_nobody(start: Start) -> None:
    running = start()
    await until(await running.first(Attach(lifeline=True)), Started)
    for nonsense in (b"", b"\x00" * 9, b"\xff" * 64, b"GET / HTTP/1.0\r\n\r\n"):
        reader, writer = await asyncio.open_unix_connection(str(running.sandbox.socket))
        writer.write(nonsense)
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 10)
        writer.close()
    connection = await running.join(Started())  # type: ignore[arg-type]  # a message, but no request
    with pytest.raises(RequestFailed, match="Started is not a request"):
        await connection.receive()
    assert running.sandbox.read().phase is Phase.RUNNING

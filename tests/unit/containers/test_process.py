"""A process and its streams, with an ordinary child in the place of a container's."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.containers.crun import Stdio
from agent.containers.process import Launcher, Process
from agent.errors import InvalidRequest, LaunchFailed, Unavailable
from agent.processes.reaper import Reaper
from agent.processes.spawn import Completed, run


def fake_crun(pid_file: Path, script: str) -> Callable[[Stdio], Awaitable[Completed]]:
    """A launch as crun makes it: the child is left behind with our streams, its pid in a file."""

    async def call(stdio: Stdio) -> Completed:
        # Not by a shell in the background: that would give it /dev/null to read.
        child = subprocess.Popen(  # noqa: ASYNC220 - it only forks
            ["/bin/sh", "-c", script], stdin=stdio.stdin, stdout=stdio.stdout, stderr=stdio.stderr
        )
        child.returncode = 0  # the reaper collects it
        pid_file.write_text(str(child.pid))
        return Completed(0, b"", b"")

    return call


async def launch(reaper: Reaper, directory: Path, script: str) -> Process:
    pid_file = directory / "pid"
    launcher = Launcher(reaper, str(directory / "consoles"), 5.0)
    call = fake_crun(pid_file, script)
    process = await launcher.launch("e", call, pid_file=str(pid_file), terminal=False, pipe_size=0)
    assert not pid_file.exists()
    return process


async def test_exit_code_for_every_waiter_now_and_later(reaper: Reaper, tmp_path: Path) -> None:
    process = await launch(reaper, tmp_path, "read line; exit 7")
    waiting = [asyncio.create_task(process.wait()) for _ in range(10)]
    waiting[0].cancel()
    await process.stdin.write(b"go\n")
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [7] * 9
    process.close()
    assert await process.wait() == 7


async def test_output_is_there_when_the_exit_is_known(reaper: Reaper, tmp_path: Path) -> None:
    process = await launch(reaper, tmp_path, "echo out; echo err >&2")
    assert await process.wait() == 0
    assert not process.is_done_with
    assert process.stdout.descriptor is None
    assert [await process.stdout.read(99), await process.stdout.read(99)] == [b"out\n", b""]
    assert [await process.stderr.read(99), await process.stderr.read(99)] == [b"err\n", b""]
    assert process.is_done_with


async def test_signals(reaper: Reaper, tmp_path: Path) -> None:
    process = await launch(reaper, tmp_path, "exec sleep 60")
    with pytest.raises(InvalidRequest, match="signal 200: Invalid argument"):
        process.send_signal(200)
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 143
    process.send_signal(signal.SIGTERM)
    with pytest.raises(Unavailable, match="no tty"):
        process.resize(1, 1)
    process.close()


@pytest.mark.parametrize("terminal", [False, True])
async def test_a_failed_launch_leaves_no_descriptor(reaper: Reaper, tmp_path: Path, terminal: bool) -> None:
    before = set(os.listdir("/proc/self/fd"))
    launcher = Launcher(reaper, str(tmp_path / "consoles"), 0.1)

    async def complain(stdio: Stdio) -> Completed:
        if stdio.stderr is not None:
            os.write(stdio.stderr, b"no\n")
        return Completed(1, b"", b"no\n")

    async def forget_the_pid(stdio: Stdio) -> Completed:
        return Completed(0, b"", b"")

    async def crash(stdio: Stdio) -> Completed:
        raise asyncio.CancelledError

    for call, error in (
        (complain, LaunchFailed),
        (forget_the_pid, LaunchFailed),
        (crash, asyncio.CancelledError),
    ):
        with pytest.raises(error):
            await launcher.launch("e", call, pid_file=f"{tmp_path}/pid", terminal=terminal, pipe_size=0)
    assert set(os.listdir("/proc/self/fd")) == before


async def test_a_process_whose_terminal_never_comes_is_killed(reaper: Reaper, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    launcher = Launcher(reaper, str(tmp_path / "consoles"), 0.1)
    pids: list[int] = []

    async def call(stdio: Stdio) -> Completed:
        done = await fake_crun(pid_file, "exec sleep 60")(Stdio())
        pids.append(int(pid_file.read_text()))
        return done

    with pytest.raises(LaunchFailed, match="no terminal arrived"):
        await launcher.launch("e", call, pid_file=str(pid_file), terminal=True, pipe_size=0)
    await run(reaper, ["/bin/sh", "-c", f"while [ -e /proc/{pids[0]} ]; do :; done"], timeout_s=5)

"""Running commands: output, input, environment, deadline, cancellation."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from agent.errors import DeadlineExceeded, LaunchFailed
from agent.processes.reaper import Reaper
from agent.processes.spawn import run


async def sh(reaper: Reaper, script: str, **options: object) -> tuple[int, bytes, bytes]:
    done = await run(reaper, ["/bin/sh", "-c", script], **{"timeout_s": 10.0, **options})  # type: ignore[arg-type] # pass-through
    return done.returncode, done.stdout, done.stderr


async def test_output_and_exit_code(reaper: Reaper) -> None:
    assert await sh(reaper, "echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")


async def test_input(reaper: Reaper) -> None:
    data = bytes(range(256)) * 4096
    done = await run(reaper, ["/bin/cat"], stdin=data, timeout_s=10)
    assert done.stdout == data


async def test_no_input_is_end_of_file(reaper: Reaper) -> None:
    assert await sh(reaper, "cat; echo end") == (0, b"end\n", b"")


async def test_own_descriptors_for_output(reaper: Reaper, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb", buffering=0) as out:
        assert await sh(reaper, "echo mine", stdout=out.fileno()) == (0, b"", b"")
    assert (tmp_path / "out").read_bytes() == b"mine\n"


async def test_the_environment_does_not_leak(reaper: Reaper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    code, out, _ = await sh(reaper, "exec env")
    names = {line.partition(b"=")[0] for line in out.splitlines()}
    assert code == 0
    assert names - {b"PWD", b"_", b"SHLVL", b"OLDPWD"} == {b"PATH", b"LANG"}
    assert (await sh(reaper, "exec /usr/bin/env", env={"A": "b"}))[1].splitlines()[0] == b"A=b"


async def test_working_directory(reaper: Reaper, tmp_path: Path) -> None:
    assert (await sh(reaper, "pwd", cwd=str(tmp_path)))[1] == f"{tmp_path}\n".encode()


async def test_only_the_descriptors_that_were_passed(reaper: Reaper, tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as passed, (tmp_path / "b").open("w") as kept:
        os.set_inheritable(kept.fileno(), True)
        listing = "for fd in /proc/self/fd/*; do echo ${fd##*/}; done"
        _, out, _ = await sh(reaper, listing, pass_fds=(passed.fileno(),))
        seen = {int(fd) for fd in out.split()}
        assert {0, 1, 2, passed.fileno()} <= seen
        assert kept.fileno() not in seen


async def test_a_broken_pipe_ends_the_child(reaper: Reaper) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert (await sh(reaper, "exec cat /dev/zero", stdout=writing))[0] == 141
    finally:
        os.close(writing)


async def test_a_daemon_that_keeps_the_output_open_is_not_waited_for(reaper: Reaper, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    async with asyncio.timeout(5):
        assert await sh(reaper, f"(cat {fifo}) & echo done") == (0, b"done\n", b"")
    fifo.write_bytes(b"")  # lets the daemon go


@pytest.mark.parametrize(("program", "code"), [("/nonexistent", 127), ("/etc/passwd", 126), ("/etc", 126)])
async def test_a_program_that_cannot_be_run(reaper: Reaper, program: str, code: int) -> None:
    with pytest.raises(LaunchFailed, match=f"cannot run {program}") as caught:
        await run(reaper, [program], timeout_s=1)
    assert caught.value.exit_code == code


async def test_deadline(reaper: Reaper, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(DeadlineExceeded, match=r"/bin/sh did not finish within 0\.2 s"):
        await sh(reaper, f"sleep 60 & echo $! > {pid_file}; wait", timeout_s=0.2)
    left_behind = int(pid_file.read_text())
    assert (await sh(reaper, f"while [ -e /proc/{left_behind} ]; do :; done"))[0] == 0


async def test_cancellation(reaper: Reaper, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    task = asyncio.ensure_future(sh(reaper, f"echo $$ > {fifo}; exec sleep 60"))
    pid = int(await asyncio.to_thread(fifo.read_text))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not Path(f"/proc/{pid}").exists()
    assert not reaper._exits


async def test_no_descriptor_is_left(reaper: Reaper) -> None:
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        await sh(reaper, "exit 0", stdin=b"x")
    assert set(os.listdir("/proc/self/fd")) == before

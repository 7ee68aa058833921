"""Children: their end is seen, their last words are kept, and they die with their parent."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from host.errors import VmFailed
from host.vm.children import Child, tail
from host.vm.programs import PROJECT_ROOT


async def test_exit_status_and_last_words(tmp_path: Path) -> None:
    child = Child.start("worker", ["/bin/sh", "-c", "echo one; echo two >&2; exit 7"], log=tmp_path / "log")
    assert await child.wait() == 7
    assert not child.running
    assert child.log_tail(1) == "two"
    failure = child.failure("stopped early")
    assert isinstance(failure, VmFailed)
    assert str(failure) == "worker stopped early: one\ntwo"


async def test_process_id_is_the_programs_own(tmp_path: Path) -> None:
    child = Child.start("worker", ["/bin/sh", "-c", "echo $$"], log=tmp_path / "log")
    await child.wait()
    assert child.log_tail() == str(child.pid)


async def test_stop_asks_first(tmp_path: Path) -> None:
    child = Child.start("worker", ["/bin/sleep", "60"], log=tmp_path / "log")
    assert await child.stop() == -signal.SIGTERM
    assert await child.stop() == -signal.SIGTERM


async def test_stop_kills_what_does_not_listen(tmp_path: Path) -> None:
    script = "trap '' TERM; echo > READY; exec sleep 60"
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    command = ["/bin/sh", "-c", script.replace("READY", str(ready))]
    child = Child.start("worker", command, log=tmp_path / "log")
    await asyncio.to_thread(ready.read_bytes)
    assert await child.stop(grace_s=0.05) == -signal.SIGKILL


async def test_a_cancelled_wait_loses_nothing(tmp_path: Path) -> None:
    child = Child.start("worker", ["/bin/sleep", "60"], log=tmp_path / "log")
    waiting = asyncio.create_task(child.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    child.kill()
    assert await child.wait() == -signal.SIGKILL


async def test_inherits_only_what_it_is_given(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stream:
        child = Child.start(
            "worker",
            ["/bin/sh", "-c", f"echo given > /proc/self/fd/{writer}"],
            log=tmp_path / "log",
            pass_fds=[writer],
        )
        os.close(writer)
        assert stream.read() == b"given\n"
    assert await child.wait() == 0


_PARENT = """
import asyncio, sys
from pathlib import Path
from host.vm.children import Child

async def main():
    child = Child.start("worker", ["/bin/sleep", "60"], log=Path(sys.argv[1]))
    print(child.pid, flush=True)
    await child.wait()

asyncio.run(main())
"""


def test_dies_with_its_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PARENT, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=PROJECT_ROOT) as parent:
        assert parent.stdout is not None
        pidfd = os.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.kill()
            # A pidfd is readable when the process has ended, whoever its parent is (pidfd_open(2)).
            readable, _, _ = select.select([pidfd], [], [], 10)
            assert readable, "the child outlived its parent"
        finally:
            os.close(pidfd)


def test_tail_of_no_file(tmp_path: Path) -> None:
    assert tail(tmp_path / "none", 3) == ""


def test_tail_skips_empty_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"a\n\n b \r\n\xff\n\n")
    assert tail(log, 2) == "b\n\ufffd"

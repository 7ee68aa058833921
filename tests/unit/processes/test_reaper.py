"""The reaper: every child collected at once, no wanted status lost."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import pytest

from agent.processes.reaper import Launch, Reaper
from agent.processes.spawn import spawn

# 32 and 33 belong to glibc's threads (nptl(7)): nobody can change what they were at the start.
GLIBC_SIGNALS = 1 << 31 | 1 << 32


def start(launch: Launch, script: str) -> int:
    """Start a shell script with nothing to read and nobody to talk to."""
    with Path(os.devnull).open("r+b", buffering=0) as null:
        return spawn(
            launch, ["/bin/sh", "-c", script], stdin=null.fileno(), stdout=null.fileno(), stderr=null.fileno()
        )


async def orphan(reaper: Reaper, script: str, tmp_path: Path) -> int:
    """Start `script` as crun starts a container: its parent leaves a pid file and exits."""
    pid_file = tmp_path / "pid"
    with reaper.launch() as launch:
        parent = start(launch, f"({script}) & echo $! > {pid_file}")
        assert await reaper.wait(parent) == 0
    return int(pid_file.read_text())


async def until_collected(reaper: Reaper, pid: int) -> None:
    """Wait, without claiming it, until the child `pid` has been collected."""
    with reaper.launch() as launch:
        watcher = start(launch, f"while [ -e /proc/{pid} ]; do :; done")
    assert await reaper.wait(watcher) == 0


def children() -> set[int]:
    """The pids of this process's children, zombies among them."""
    tasks = Path("/proc/self/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 37", 37), ("exit 255", 255), ("kill -9 $$", 137), ("kill -TERM $$", 143)],
)
async def test_exit_code(reaper: Reaper, script: str, code: int) -> None:
    with reaper.launch() as launch:
        pid = start(launch, script)
    assert await reaper.wait(pid) == code
    assert not reaper.is_running(pid)


async def test_an_orphan_that_exits_before_it_is_claimed_keeps_its_status(
    reaper: Reaper, tmp_path: Path
) -> None:
    pid_file, gate = tmp_path / "pid", tmp_path / "gate"
    os.mkfifo(gate)
    with reaper.launch() as launch:
        # The shell itself would collect a child that exits before it has become another program.
        parent = start(
            launch, f"(read _ < {gate}; exit 5) & echo $! > {pid_file}; exec tee {gate} < /dev/null"
        )
        assert await reaper.wait(parent) == 0
        pid = int(pid_file.read_text())
        await until_collected(reaper, pid)
        launch.claim(pid)
        assert await reaper.wait(pid) == 5


async def test_an_unclaimed_child_is_collected_all_the_same(reaper: Reaper, tmp_path: Path) -> None:
    pid = await orphan(reaper, "exec sleep 0.05", tmp_path)
    assert pid in children()
    await until_collected(reaper, pid)
    assert pid not in children()


async def test_statuses_are_kept_no_longer_than_a_launch_in_flight_may_claim_them(reaper: Reaper) -> None:
    with reaper.launch() as older:
        strangers = [start(older, f"exit {code}") for code in range(3)]
        for pid in strangers:
            reaper.disown(pid)
        with reaper.launch() as launch:
            assert await reaper.wait(start(launch, "exec sleep 0.2")) == 0
        for code, pid in enumerate(strangers):
            older.claim(pid)
            assert await reaper.wait(pid) == code
        reaper._record(4_194_303, 1)
        assert reaper._unclaimed
    assert not reaper._unclaimed


async def test_a_later_launch_does_not_keep_what_an_earlier_one_could_claim(reaper: Reaper) -> None:
    with reaper.launch():
        reaper._record(1_000_001, 1)
        later = reaper.launch()
        later.__enter__()
        reaper._record(1_000_002, 2)
    assert list(reaper._unclaimed) == [1_000_002]
    later.__exit__(None, None, None)
    assert not reaper._unclaimed


async def test_a_thousand_children_that_exit_at_once(
    reaper: Reaper, capfd: pytest.CaptureFixture[str]
) -> None:
    with reaper.launch() as launch:
        pids = [start(launch, f"exit {n % 256}") for n in range(1000)]
        codes = await asyncio.gather(*map(reaper.wait, pids))
    assert codes == [n % 256 for n in range(1000)]
    assert not children() & set(pids)
    assert not reaper._exits
    assert capfd.readouterr().err == ""


async def test_a_cancelled_wait_can_be_repeated(reaper: Reaper) -> None:
    with reaper.launch() as launch:
        pid = start(launch, "exec sleep 0.1")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reaper.wait(pid), 0.01)
    assert await reaper.wait(pid) == 0


async def test_several_waiters_all_hear_it(reaper: Reaper) -> None:
    with reaper.launch() as launch:
        pid = start(launch, "sleep 0.05; exit 9")
    assert await asyncio.gather(*(reaper.wait(pid) for _ in range(10))) == [9] * 10


async def test_waiting_for_a_stranger_is_an_error(reaper: Reaper) -> None:
    with pytest.raises(KeyError):
        await reaper.wait(1)


async def test_a_signal_reaches_only_a_process_that_has_not_been_collected(reaper: Reaper) -> None:
    with reaper.launch() as launch:
        pid = start(launch, "exec sleep 60")
    assert reaper.send_signal(pid, signal.SIGINT)
    assert await reaper.wait(pid) == 128 + signal.SIGINT
    assert not reaper.send_signal(pid, signal.SIGKILL)
    assert not reaper.send_signal(1, 0)


async def test_children_start_with_nothing_blocked_and_nothing_ignored(tmp_path: Path) -> None:
    status = tmp_path / "status"
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    before = signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    reaper = Reaper()
    reaper.start()
    try:
        with reaper.launch() as launch:
            pid = start(launch, f"exec cat /proc/self/status > {status}")
        assert await reaper.wait(pid) == 0
        os.kill(os.getpid(), signal.SIGQUIT)  # still without effect here
    finally:
        reaper.stop()
        signal.signal(signal.SIGQUIT, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    masks = dict(line.split(":\t") for line in status.read_text().splitlines() if line.startswith("Sig"))
    assert int(masks["SigBlk"], 16) & ~GLIBC_SIGNALS == 0
    assert int(masks["SigIgn"], 16) & ~GLIBC_SIGNALS == 0


async def test_stop_cancels_those_who_wait_and_gives_the_signal_back(tmp_path: Path) -> None:
    reaper = Reaper()
    reaper.start()
    with reaper.launch() as launch:
        pid = start(launch, "exec sleep 60")
    waiting = asyncio.ensure_future(reaper.wait(pid))
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    reaper.stop()
    reaper.stop()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
    assert (await asyncio.to_thread(os.waitpid, pid, 0))[0] == pid


async def test_popen_does_not_complain_of_a_child_it_never_waited_for(reaper: Reaper) -> None:
    with reaper.launch() as launch:
        pid = start(launch, "exit 3")
    subprocess._cleanup()  # type: ignore[attr-defined] # what the next Popen of anybody would do
    assert await reaper.wait(pid) == 3

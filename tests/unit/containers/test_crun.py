"""crun's command lines and answers, against a script that records and answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.containers.crun import Crun, Stdio, launch_failure
from agent.errors import DeadlineExceeded, KernelRefused, LaunchFailed
from agent.processes.reaper import Reaper

PREFIX = ["--root", "/run/state", "--cgroup-manager", "cgroupfs"]


class Recorder:
    """A stand-in for crun."""

    def __init__(self, directory: Path, reaper: Reaper) -> None:
        self.program = directory / "crun"
        self.log = directory / "log"
        self.answer("exit 0")
        self.crun = Crun(str(self.program), "/run/state", reaper)

    def answer(self, script: str) -> None:
        """Run `script` once the arguments have been recorded."""
        self.program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {self.log}\n{script}\n')
        self.program.chmod(0o755)

    def arguments(self) -> list[str]:
        recorded = self.log.read_text().splitlines()
        assert recorded[:4] == PREFIX
        return recorded[4:]


@pytest.fixture
def recorder(tmp_path: Path, reaper: Reaper) -> Recorder:
    return Recorder(tmp_path, reaper)


@pytest.mark.parametrize("no_pivot", [False, True])
async def test_create(recorder: Recorder, no_pivot: bool) -> None:
    recorder.answer("echo complaint >&2; cat /proc/self/oom_score_adj; exit 1")
    done = await recorder.crun.create(
        "cid", "/b", Stdio(), pid_file="/b/pid", no_pivot=no_pivot, oom_score_adjust=321, timeout_s=5
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, b"321\n", b"complaint\n")
    pivot = ["--no-pivot"] if no_pivot else []
    assert recorder.arguments() == ["create", "--bundle", "/b", "--pid-file", "/b/pid", *pivot, "cid"]
    assert int(Path("/proc/self/oom_score_adj").read_text()) != 321


async def test_exec_with_a_terminal(recorder: Recorder) -> None:
    await recorder.crun.exec(
        "cid", "/b/p.json", Stdio(console="/c/sock"), pid_file="/b/pid", oom_score_adjust=0, timeout_s=5
    )
    assert recorder.arguments() == [
        "--log",
        "/proc/self/fd/2",
        "exec",
        "--detach",
        "--process",
        "/b/p.json",
        "--pid-file",
        "/b/pid",
        "--console-socket",
        "/c/sock",
        "cid",
    ]


async def test_short_commands(recorder: Recorder) -> None:
    crun = recorder.crun
    for call, expected in (
        (crun.start("cid", timeout_s=5), ["start", "cid"]),
        (crun.kill_all("cid", 15, timeout_s=5), ["kill", "--all", "cid", "15"]),
        (crun.delete("cid", timeout_s=5), ["delete", "--force", "cid"]),
        (crun.pause("cid", timeout_s=5), ["pause", "cid"]),
        (crun.resume("cid", timeout_s=5), ["resume", "cid"]),
    ):
        await call
        assert recorder.arguments() == expected


async def test_state(recorder: Recorder) -> None:
    recorder.answer("""echo '{"status": "running"}'""")
    assert await recorder.crun.state("cid", timeout_s=5) == {"status": "running"}


async def test_failures(recorder: Recorder) -> None:
    recorder.answer("echo no such container >&2; exit 1")
    with pytest.raises(KernelRefused, match="crun pause failed: no such container"):
        await recorder.crun.pause("cid", timeout_s=5)
    with pytest.raises(LaunchFailed, match="could not launch the process: no such container"):
        await recorder.crun.start("cid", timeout_s=5)
    recorder.answer("exec sleep 60")
    with pytest.raises(DeadlineExceeded):
        await recorder.crun.delete("cid", timeout_s=0.1)


@pytest.mark.parametrize(
    ("said", "exit_code", "message"),
    [
        (
            b"executable file `x` not found in $PATH: No such file or directory\n",
            127,
            "exit status 127: executable file `x` not found in $PATH: No such file or directory",
        ),
        (b"open executable: Permission denied\n", 126, "exit status 126: open executable: Permission denied"),
        (b"open executable: Operation not permitted", 126, "exit status 126: .*"),
        (b"open executable: No such file or directory", 127, "exit status 127: .*"),
        (b"exec: Exec format error", 126, "exit status 126: exec: Exec format error"),
        (b"first\n\n second \nfirst\n", 1, ".* could not launch the process: first; second"),
        (b"", 1, ".* could not launch the process: it gave no reason"),
        (b"\xff", 1, ".* could not launch the process: \ufffd"),
        (
            b"cgroups in hybrid mode not supported, drop all controllers from cgroup v2\n",
            1,
            ".*cgroups in hybrid mode not supported.*",
        ),
    ],
)
def test_what_crun_says_of_a_failed_launch(said: bytes, exit_code: int, message: str) -> None:
    failure = launch_failure(said)
    assert failure.exit_code == exit_code
    with pytest.raises(LaunchFailed, match=f"^{message.replace('$', '[$]')}$"):
        raise failure

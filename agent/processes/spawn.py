"""Starting child processes, and running a command to its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from agent.errors import DeadlineExceeded, LaunchFailed
from agent.processes.reaper import Launch, Reaper

# The agent's own environment stays with the agent; PATH is that of Debian's login shells for root.
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}

_OOM_SCORE_ADJUST = Path("/proc/self/oom_score_adj")

# No command that the agent runs says more; what lies beyond is left unread.
_OUTPUT_LIMIT_BYTES = 16 << 20

# How long a killed command may take to be gone, before it is left to the reaper.
_KILL_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended. `returncode` is its exit code, or 128 + the signal that ended it.

    `stdout` and `stderr` are empty where the caller had given a descriptor of its own.
    """

    returncode: int
    stdout: bytes
    stderr: bytes


def spawn(
    launch: Launch,
    argv: Sequence[str],
    *,
    stdin: int,
    stdout: int,
    stderr: int,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    pass_fds: Collection[int] = (),
    oom_score_adjust: int | None = None,
) -> int:
    """Start `argv` in a session of its own and claim it; its pid.

    The child gets the three descriptors, `pass_fds` and nothing else; default signals; `env`, or a
    plain PATH; `oom_score_adjust` (proc_pid_oom_score_adj(5)), or the agent's own.
    Raises LaunchFailed: 127 if the program does not exist, 126 if it cannot be run.
    """
    try:
        with _oom_score_adjusted(oom_score_adjust):
            child = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=_ENVIRONMENT if env is None else env,
                cwd=cwd,
                pass_fds=pass_fds,
                start_new_session=True,
            )
    except OSError as error:
        exit_code = 127 if isinstance(error, FileNotFoundError) else 126
        raise LaunchFailed(f"cannot run {argv[0]}: {error.strerror}", exit_code=exit_code) from error
    # The reaper collects it. A Popen that believes its child gone never waits for it itself.
    child.returncode = 0
    launch.claim(child.pid)
    return child.pid


async def run(
    reaper: Reaper,
    argv: Sequence[str],
    *,
    stdin: bytes | int = b"",
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    pass_fds: Collection[int] = (),
    stdout: int | None = None,
    stderr: int | None = None,
    oom_score_adjust: int | None = None,
) -> Completed:
    """Run `argv` to its end and return what it said.

    `stdin` is what the command reads, or a descriptor; `stdout` and `stderr` are descriptors, or None
    to have the output returned. Output goes through memory files, not pipes: nothing to pump, and
    only the command's own exit is waited for, whatever it leaves behind with its output open.
    After `timeout_s` seconds, or when the caller is cancelled, the command's process group is killed.
    Raises LaunchFailed as `spawn` does, and DeadlineExceeded.
    """
    with ExitStack() as files:
        child_stdin = stdin if isinstance(stdin, int) else _memory_file(files, stdin)
        child_stdout = _memory_file(files) if stdout is None else stdout
        child_stderr = _memory_file(files) if stderr is None else stderr
        with reaper.launch() as launch:
            pid = spawn(
                launch,
                argv,
                stdin=child_stdin,
                stdout=child_stdout,
                stderr=child_stderr,
                env=env,
                cwd=cwd,
                pass_fds=pass_fds,
                oom_score_adjust=oom_score_adjust,
            )
        return Completed(
            await _finished(reaper, pid, argv[0], timeout_s),
            _content(child_stdout) if stdout is None else b"",
            _content(child_stderr) if stderr is None else b"",
        )


@contextmanager
def _oom_score_adjusted(value: int | None) -> Iterator[None]:
    """Let children born in the `with` block inherit `value`; the agent has it, too, for that moment.

    Written afterwards, a quick child's own children would have got the agent's. A few bytes of procfs,
    on the loop. Raises OSError (EACCES: a lower value needs CAP_SYS_RESOURCE).
    """
    if value is None or value == (own := int(_OOM_SCORE_ADJUST.read_text())):
        yield
        return
    _OOM_SCORE_ADJUST.write_text(str(value))
    try:
        yield
    finally:
        _OOM_SCORE_ADJUST.write_text(str(own))


async def _finished(reaper: Reaper, pid: int, name: str, timeout_s: float) -> int:
    """The exit code of the command, which is killed if nobody waits for it any longer."""
    try:
        async with asyncio.timeout(timeout_s):
            return await reaper.wait(pid)
    except TimeoutError:
        await _end(reaper, pid)
        raise DeadlineExceeded(f"{name} did not finish within {timeout_s:g} s") from None
    except asyncio.CancelledError:
        await _end(reaper, pid)
        raise


async def _end(reaper: Reaper, pid: int) -> None:
    """Kill the command and what it has started, and see it gone if that does not take long."""
    reaper.send_signal(pid, signal.SIGKILL, group=True)
    try:
        with suppress(TimeoutError, KeyError):
            async with asyncio.timeout(_KILL_GRACE_S):
                await reaper.wait(pid)
    finally:
        reaper.disown(pid)


def _memory_file(files: ExitStack, content: bytes = b"") -> int:
    descriptor = os.memfd_create("stdio", os.MFD_CLOEXEC)
    files.callback(os.close, descriptor)
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
    if content:
        os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _content(descriptor: int) -> bytes:
    return os.pread(descriptor, min(os.fstat(descriptor).st_size, _OUTPUT_LIMIT_BYTES), 0)

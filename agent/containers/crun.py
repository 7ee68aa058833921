"""crun, the OCI runtime: the only place that builds its command lines and reads its answers.

Facts about its answers: own measurement, crun 1.8.1. A container's process inherits crun's own
standard streams, so what crun has to say of a failed `create` or `exec` arrives on those.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from agent.errors import DeadlineExceeded, KernelRefused, LaunchFailed
from agent.linux.blocking import run_blocking
from agent.linux.mount import umount
from agent.linux.mountinfo import read_mountinfo
from agent.processes.reaper import Reaper
from agent.processes.spawn import Completed, run

# crun's sentences for a command that cannot be run. `create` exits with 1 and `exec` with 255 for
# these as for everything else.
_NOT_FOUND = re.compile(r"executable file .* not found|open executable: No such file")
_HYBRID = re.compile(r"cgroups in hybrid mode not supported")
_HYBRID_HINT = (
    "this machine mounts cgroup v2 on /sys/fs/cgroup/unified beside the v1 hierarchies (hybrid mode); "
    "run the agent in a mount namespace without that mount, or with one kind of hierarchy alone"
)
_NOT_EXECUTABLE = re.compile(r"open executable: |[Ee]xec format error")

# Before it does anything else, crun replaces itself by a copy that a container cannot write to
# (CVE-2019-5736). For a moment its program is mounted on a file of this name.
_SEALED_COPY = re.compile(r"/tmp/crun\.[A-Za-z0-9]{6}")


@dataclass(frozen=True, slots=True)
class Stdio:
    """What a container's process gets as standard streams: three descriptors, or a new terminal.

    `console` is the path of the socket to which crun sends the terminal's master.
    """

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None
    console: str | None = None


@dataclass(frozen=True, slots=True)
class Crun:
    """How crun is called: the program, and the directory in which it keeps its state."""

    program: str
    root: str
    reaper: Reaper

    async def create(
        self,
        container_id: str,
        bundle: str,
        stdio: Stdio,
        *,
        pid_file: str,
        no_pivot: bool,
        oom_score_adjust: int,
        timeout_s: float,
    ) -> Completed:
        """Make the container up to the point where its command is to run; its pid is in `pid_file`.

        crun leaves a process's oom_score_adj at its own where the document says 0, and for `exec`
        whatever it says: so crun itself gets `oom_score_adjust`. What went wrong, if anything, is in
        the answer. Raises DeadlineExceeded, LaunchFailed.
        """
        options = ["--bundle", bundle, "--pid-file", pid_file]
        if no_pivot:  # the root of an initramfs cannot be pivoted away from (pivot_root(2))
            options.append("--no-pivot")
        return await self._launch(
            "create", options, container_id, stdio, timeout_s=timeout_s, oom_score_adjust=oom_score_adjust
        )

    async def exec(
        self,
        container_id: str,
        process_file: str,
        stdio: Stdio,
        *,
        pid_file: str,
        oom_score_adjust: int,
        timeout_s: float,
    ) -> Completed:
        """Start the process described by `process_file` in the container, as `create` does."""
        options = ["--detach", "--process", process_file, "--pid-file", pid_file]
        return await self._launch(
            "exec", options, container_id, stdio, timeout_s=timeout_s, oom_score_adjust=oom_score_adjust
        )

    async def start(self, container_id: str, *, timeout_s: float) -> None:
        """Let the created container's command run. Raises LaunchFailed, DeadlineExceeded."""
        done = await self._run("start", container_id, timeout_s=timeout_s)
        if done.returncode != 0:
            raise launch_failure(done.stderr)

    async def kill_all(self, container_id: str, signum: int, *, timeout_s: float) -> None:
        """Send a signal to every process of the container's cgroup.

        crun freezes the cgroup meanwhile, and a paused one is thawed afterwards. Raises KernelRefused.
        """
        await self._checked("kill", "--all", container_id, str(signum), timeout_s=timeout_s)

    async def delete(self, container_id: str, *, timeout_s: float) -> None:
        """Kill what still runs in the container and forget it; it need not exist.

        Raises KernelRefused, DeadlineExceeded.
        """
        await self._checked("delete", "--force", container_id, timeout_s=timeout_s)

    async def pause(self, container_id: str, *, timeout_s: float) -> None:
        """Freeze the container's processes. Raises KernelRefused."""
        await self._checked("pause", container_id, timeout_s=timeout_s)

    async def resume(self, container_id: str, *, timeout_s: float) -> None:
        """Thaw the container's processes. Raises KernelRefused."""
        await self._checked("resume", container_id, timeout_s=timeout_s)

    async def state(self, container_id: str, *, timeout_s: float) -> dict[str, Any]:
        """crun's own view of the container, for people who look for a fault. Raises KernelRefused."""
        done = await self._checked("state", container_id, timeout_s=timeout_s)
        state: dict[str, Any] = json.loads(done.stdout)
        return state

    async def _launch(
        self,
        command: str,
        options: list[str],
        container_id: str,
        stdio: Stdio,
        *,
        timeout_s: float,
        oom_score_adjust: int,
    ) -> Completed:
        prefix = self._prefix()
        if stdio.console is not None:
            options = [*options, "--console-socket", stdio.console]
            # Else what goes wrong after crun has taken the terminal is written to the terminal alone.
            prefix += ["--log", "/proc/self/fd/2"]
        async with _cleared_up():
            return await run(
                self.reaper,
                [*prefix, command, *options, container_id],
                stdin=b"" if stdio.stdin is None else stdio.stdin,
                stdout=stdio.stdout,
                stderr=stdio.stderr,
                timeout_s=timeout_s,
                oom_score_adjust=oom_score_adjust,
            )

    async def _checked(self, *arguments: str, timeout_s: float) -> Completed:
        done = await self._run(*arguments, timeout_s=timeout_s)
        if done.returncode != 0:
            raise KernelRefused(f"{self.program} {arguments[0]} failed: {_sentence(done.stderr)}")
        return done

    async def _run(self, *arguments: str, timeout_s: float) -> Completed:
        async with _cleared_up():
            return await run(self.reaper, [*self._prefix(), *arguments], timeout_s=timeout_s)

    def _prefix(self) -> list[str]:
        return [self.program, "--root", self.root, "--cgroup-manager", "cgroupfs"]


@asynccontextmanager
async def _cleared_up() -> AsyncIterator[None]:
    """Remove what a crun that was killed at its deadline may have left mounted."""
    try:
        yield
    except DeadlineExceeded:
        await run_blocking(_remove_sealed_copies)
        raise


def _remove_sealed_copies() -> None:
    """Undo the mounts of sealed copies; a crun at work that loses its own makes the copy in memory."""
    for entry in read_mountinfo():
        if _SEALED_COPY.fullmatch(entry.mount_point):
            try:
                umount(entry.mount_point)
                os.unlink(entry.mount_point)
            except OSError:  # the crun that it belongs to was quicker
                continue


def launch_failure(said: bytes) -> LaunchFailed:
    """The error for a launch that failed while crun said `said`, with the exit code a shell would give.

    A message for 127 or 126 begins with `exit status N: `: the wire has no field for it.
    """
    sentence = _sentence(said)
    if _NOT_FOUND.search(sentence):
        return LaunchFailed(f"exit status 127: {sentence}", exit_code=127)
    if _NOT_EXECUTABLE.search(sentence):
        return LaunchFailed(f"exit status 126: {sentence}", exit_code=126)
    hint = _HYBRID_HINT if _HYBRID.search(sentence) else ""
    return LaunchFailed(f"the container runtime could not launch the process: {sentence}", hint=hint)


def _sentence(said: bytes) -> str:
    """crun's words on one line, for an error's message."""
    lines = said.decode("utf-8", errors="replace").splitlines()
    # With a log on its standard error, crun may say the same twice.
    return "; ".join(dict.fromkeys(line.strip() for line in lines if line.strip())) or "it gave no reason"

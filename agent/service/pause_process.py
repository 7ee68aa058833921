"""The pause process: it does nothing, and is the first process of a pid namespace.

Its namespace outlives any single container, so all containers of the sandbox can share it. It ignores
SIGCHLD, so the kernel itself collects the orphans that become its children (waitpid(2), NOTES).
"""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

from agent.errors import KernelRefused
from agent.linux.blocking import run_blocking
from agent.processes.reaper import Launch, Reaper
from agent.processes.spawn import spawn

# What `trap ''` ignores stays ignored over exec. The line on stdout says that the namespace lives.
# 68 years, since not every sleep(1) knows `infinity`; the short options are busybox's and util-linux's.
_SCRIPT = "trap '' CHLD HUP INT TERM; echo ready; exec sleep 2147483647 >/dev/null"
_ARGV = ("/usr/bin/unshare", "-p", "-f", "/bin/sh", "-c", _SCRIPT)


async def start_pause_process(reaper: Reaper, undo: AsyncExitStack) -> str:
    """Start it; a path that names its pid namespace for as long as it runs.

    Raises LaunchFailed (there is no unshare(1)), KernelRefused.
    """
    with reaper.launch() as launch:
        parent, ready = _spawn(launch)
    undo.push_async_callback(_end, reaper, parent)
    try:
        # The shell writes or, if there is none, its end of the pipe is closed: either ends the read.
        if not await run_blocking(os.read, ready, 1):
            raise KernelRefused("no pid namespace for the sandbox: unshare(1) failed")
    finally:
        os.close(ready)
    # Kept open: a pid may come to mean another process, an open namespace may not.
    namespace = os.open(f"/proc/{parent}/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
    undo.callback(os.close, namespace)
    return f"/proc/{os.getpid()}/fd/{namespace}"


def _spawn(launch: Launch) -> tuple[int, int]:
    """Start unshare(1); its pid, and the pipe on which the pause process says that it runs."""
    ready, writer = os.pipe2(os.O_CLOEXEC)
    try:
        with open(os.devnull, "r+b", buffering=0) as null:
            pid = spawn(launch, _ARGV, stdin=null.fileno(), stdout=writer, stderr=null.fileno())
    except BaseException:
        os.close(ready)
        raise
    finally:
        os.close(writer)
    return pid, ready


async def _end(reaper: Reaper, parent: int) -> None:
    """End unshare(1), which only waits, and then the pause process, and with it all of the namespace.

    In this order: once its parent has gone the pause process is ours to collect, not before.
    """
    try:
        children = [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except OSError:
        children = []  # unshare(1) has gone by itself
    with reaper.launch() as launch:
        for child in children:
            launch.claim(child)
    for pid in (parent, *children):
        reaper.send_signal(pid, signal.SIGKILL)
        await reaper.wait(pid)

"""The pause process: it does nothing, and is the first process of a pid namespace.

Its namespace outlives any single container, so all containers of the sandbox can share it. It ignores
SIGCHLD, so the kernel itself collects the orphans that become its children (waitpid(2), NOTES).
"""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack

from agent.errors import KernelRefused
from agent.linux.blocking import run_blocking
from agent.processes.reaper import Reaper
from agent.processes.spawn import spawn

# What `trap ''` ignores stays ignored over exec. The line on stdout says that the namespace lives.
# 68 years, since not every sleep(1) knows `infinity`; the short options are busybox's and util-linux's.
_SCRIPT = "trap '' CHLD HUP INT TERM; echo ready; exec sleep 2147483647 >/dev/null"
_ARGV = ("/usr/bin/unshare", "-p", "-f", "/bin/sh", "-c", _SCRIPT)


async def start_pause_process(reaper: Reaper, undo: AsyncExitStack) -> str:
    """Start it; a path that names its pid namespace for as long as it runs.

    Raises LaunchFailed (there is no unshare(1)), KernelRefused.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        with open(os.devnull, "r+b", buffering=0) as null, reaper.launch() as launch:
            pid = spawn(launch, _ARGV, stdin=null.fileno(), stdout=writer, stderr=null.fileno())
        undo.push_async_callback(_end, reaper, pid)
    finally:
        os.close(writer)
        # The shell writes or, if there is none, its end of the pipe is closed: either ends the read.
        ready = await run_blocking(_read_and_close, reader)
    if not ready:
        raise KernelRefused("no pid namespace for the sandbox: unshare(1) failed")
    # Kept open: a pid may come to mean another process, an open namespace may not.
    namespace = os.open(f"/proc/{pid}/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
    undo.callback(os.close, namespace)
    return f"/proc/{os.getpid()}/fd/{namespace}"


async def _end(reaper: Reaper, pid: int) -> None:
    """Kill unshare(1) and the pause process, its only group, and with that all of the namespace."""
    reaper.send_signal(pid, signal.SIGKILL, group=True)
    await reaper.wait(pid)


def _read_and_close(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1)
    finally:
        os.close(descriptor)

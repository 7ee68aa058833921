"""The guest's packet filter, through the tools of iptables. Source: iptables-save(8), iptables-restore(8)."""

from __future__ import annotations

import os
from collections.abc import Sequence

from agent.errors import KernelRefused, Unsupported
from agent.processes.reaper import Reaper
from agent.processes.spawn import run

_DIRECTORIES = ("/usr/sbin", "/sbin")
# How long iptables-restore waits for another iptables to be done; legacy kernels have one lock for all.
_LOCK_WAIT_S = 5
_TIMEOUT_S = 30.0  # assumed: tens of thousands of rules are restored in a few seconds


async def save(reaper: Reaper, *, ipv6: bool, directories: Sequence[str] = _DIRECTORIES) -> bytes:
    """All rules of one family. Raises Unsupported (no iptables), KernelRefused, DeadlineExceeded."""
    return await _run(reaper, [_tool("save", ipv6, directories)])


async def restore(
    reaper: Reaper, rules: bytes, *, ipv6: bool, directories: Sequence[str] = _DIRECTORIES
) -> bytes:
    """Set the tables named in `rules`, each as a whole or not at all; what the tool said.

    Raises Unsupported (no iptables), KernelRefused, DeadlineExceeded.
    """
    argv = [_tool("restore", ipv6, directories), "--wait", str(_LOCK_WAIT_S)]
    return await _run(reaper, argv, rules)


def _tool(verb: str, ipv6: bool, directories: Sequence[str]) -> str:
    """The first that is there of the family's own; the wrong one would change the other family."""
    name = f"{'ip6tables' if ipv6 else 'iptables'}-{verb}"
    for directory in directories:
        if os.access(path := f"{directory}/{name}", os.X_OK):
            return path
    raise Unsupported(f"there is no {name} in {' or '.join(directories)}", hint="the guest needs iptables")


async def _run(reaper: Reaper, argv: Sequence[str], stdin: bytes = b"") -> bytes:
    done = await run(reaper, argv, stdin=stdin, timeout_s=_TIMEOUT_S)
    if done.returncode != 0:
        said = " ".join(done.stderr.decode(errors="replace").split())
        raise KernelRefused(f"{argv[0]} failed with {done.returncode}: {said}")
    return done.stdout

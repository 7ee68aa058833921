"""An agent as a process of its own, on a unix socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_DEADLINE_S = 30
_LISTENING = '"msg": "listening"'


@contextmanager
def running_agent(server_addr: str, *, options: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    """An agent that listens on `server_addr`; killed at the end if it has not ended by itself."""
    agent = subprocess.Popen(
        [sys.executable, *options, "-m", "agent"],
        env={**os.environ, "KATA_AGENT_SERVER_ADDR": server_addr},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert agent.stdout is not None
    try:
        said = ""
        for line in agent.stdout:
            said += line
            if _LISTENING in line:
                break
        else:
            raise AssertionError(f"the agent ended before it listened:\n{said}")
        yield agent
    finally:
        if agent.poll() is None:
            agent.send_signal(signal.SIGKILL)
        agent.stdout.close()
        agent.wait(_DEADLINE_S)


def connects(path: Path) -> bool:
    """Whether somebody accepts connections at `path`."""
    with socket.socket(socket.AF_UNIX) as peer:
        try:
            peer.connect(str(path))
        except OSError:
            return False
    return True


def output_of(*arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """What `kata-agent` with `arguments` says and how it ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        env={**os.environ, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
    )

"""The agent as a process of its own, and a host that drives it over either wire."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from host.client import AgentClient, connect
from tests.scripted_host import ScriptedHost

Wire = Literal["ttrpc", "grpc"]
BOTH_WIRES = pytest.mark.parametrize("wire", ["ttrpc", "grpc"])

# Above the containers' own: other runs on this machine have others.
CGROUP = f"/pykata-agent-{os.getpid()}"


@dataclass
class AgentProcess:
    """An agent that serves a unix socket."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def children(self) -> set[int]:
        """The pids of the agent's children, zombies among them."""
        found: set[int] = set()
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            with suppress(FileNotFoundError):  # a thread that has ended meanwhile
                found.update(map(int, (task / "children").read_text().split()))
        return found

    async def ended(self, timeout_s: float = 10.0) -> int:
        """Wait for the agent to end by itself; its exit status."""
        return await asyncio.to_thread(self.process.wait, timeout_s)


@contextmanager
def agent_process(
    directory: Path, *, config: str = "", prefix: Sequence[str] = (), log_level: str = "info"
) -> Iterator[AgentProcess]:
    """An agent that keeps its socket and log in `directory`; ended by SIGTERM, in order.

    `config` is the text of a TOML file.
    """
    arguments = []
    if config:
        (directory / "agent.toml").write_text(config)
        arguments = ["--config", str(directory / "agent.toml")]
    address, log = f"unix://{directory}/agent.sock", directory / "agent.log"
    environment = {"KATA_AGENT_SERVER_ADDR": address, "KATA_AGENT_LOG_LEVEL": log_level}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "agent", *arguments],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        yield AgentProcess(address, process, log)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


class Host(ScriptedHost):
    """A host of an agent that is a process on this machine."""

    def __init__(self, agent: AgentProcess, client: AgentClient, rootfs: Path) -> None:
        super().__init__(client, rootfs, cgroup_parent=CGROUP)
        self.agent = agent

    async def finish(self) -> None:
        """Destroy the sandbox; to the agent of a later host that is the end of its own life."""
        await self.call("DestroySandbox")
        if not self.is_old:
            assert await self.agent.ended() == 0


@asynccontextmanager
async def host_of(agent: AgentProcess, wire: Wire, rootfs: Path) -> AsyncIterator[Host]:
    """A host connected to `agent`."""
    async with await connect(agent.address, wire=wire, timeout_s=20) as client:
        host = Host(agent, client, rootfs)
        await host.call("Check")  # the first 1.x peer has the agent make its gRPC server's socket
        yield host


# Directories that the agent makes when they are first needed, and keeps.
_KEPT = {
    "/run/kata-containers",
    "/run/kata-agent",
    "/run/kata-agent/crun",
    "/run/kata-agent/consoles",
    "/run/sandbox-ns",
}


def guest_state(*, ignored: Path) -> dict[str, set[str]]:
    """What a failed request may not change: mounts, files below /run, cgroups.

    Everything below `ignored`, the test's own directory, is left out.
    """
    files = {
        os.path.join(directory, name)
        for directory, directories, names in os.walk("/run")
        for name in (*directories, *names)
        if ignored not in Path(directory, name).parents
    }
    return {
        "mounts": {line.split(" - ")[0].split(" ", 2)[2] for line in mount_table()},
        "files": files - _KEPT,
        "cgroups": {path for path, _, _ in os.walk("/sys/fs/cgroup") if CGROUP in path},
    }


def mount_table() -> list[str]:
    """The lines of mountinfo."""
    return Path("/proc/self/mountinfo").read_text().splitlines()

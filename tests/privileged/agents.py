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
from typing import Any, Literal

import pytest

from host.client import AgentCallError, AgentClient, connect

Wire = Literal["ttrpc", "grpc"]
BOTH_WIRES = pytest.mark.parametrize("wire", ["ttrpc", "grpc"])

# Above the containers' own: other runs on this machine have others.
CGROUP = f"/pykata-agent-{os.getpid()}"

_END_OF_STREAM_1X = (2, "EOF")


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


class Host:
    """What a host does with an agent, in the words of its wire."""

    def __init__(self, agent: AgentProcess, client: AgentClient, rootfs: Path) -> None:
        self.agent = agent
        self.client = client
        self.rootfs = rootfs
        self.messages: Any = client.messages

    @property
    def is_old(self) -> bool:
        """Whether this is a Kata 1.x host."""
        return self.client.wire == "grpc"

    async def call(self, method: str, /, timeout_s: float | None = 60.0, **fields: Any) -> Any:
        """Call `method` with a request of these fields."""
        request = self.client.request_class(method)(**fields)
        return await self.client.call(method, request, timeout_s=timeout_s)

    async def refused(self, method: str, /, **fields: Any) -> tuple[int, str]:
        """Call a method that must fail; code and message."""
        with pytest.raises(AgentCallError) as caught:
            await self.call(method, **fields)
        return caught.value.code, caught.value.message

    def spec(self, *command: str, container_id: str, **process: Any) -> Any:
        """The OCI spec of a container that runs `command`."""
        namespaces = [{"Type": kind} for kind in ("mount", "ipc", "uts")]
        mounts = [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]},
        ]
        return self.messages.Spec(
            Version="1.0.2",
            Root={"Path": str(self.rootfs)},
            Process=self.process(*command, **process),
            Mounts=mounts,
            Linux={"Namespaces": namespaces, "CgroupsPath": f"{CGROUP}/{container_id}"},
        )

    def process(self, *command: str, **fields: Any) -> Any:
        """A `Process` that runs `command`."""
        return self.messages.Process(Args=command, Cwd="/", Env=["PATH=/bin"], **fields)

    async def create(self, container_id: str, *command: str, spec: Any = None, **fields: Any) -> None:
        """Create a container; `fields` are those of the request."""
        document = spec or self.spec(*command, container_id=container_id)
        names = {"container_id": container_id, "exec_id": container_id}
        await self.call("CreateContainer", **{**names, "OCI": document, **fields})

    async def run(self, container_id: str, *command: str, **fields: Any) -> None:
        """Create and start."""
        await self.create(container_id, *command, **fields)
        await self.call("StartContainer", container_id=container_id)

    async def wait(self, container_id: str, exec_id: str = "") -> int:
        """The exit status of a process."""
        answer = await self.call(
            "WaitProcess", None, container_id=container_id, exec_id=exec_id or container_id
        )
        return int(answer.status)

    async def read(
        self, container_id: str, exec_id: str = "", *, stream: str = "ReadStdout", length: int = 1 << 20
    ) -> bytes:
        """One read; b"" at the end of the stream."""
        names = {"container_id": container_id, "exec_id": exec_id or container_id}
        try:
            answer = await self.call(stream, None, **names, len=length)
        except AgentCallError as error:
            if self.is_old and (error.code, error.message) == _END_OF_STREAM_1X:
                return b""
            raise
        return bytes(answer.data)

    async def chunks(self, container_id: str, exec_id: str = "", **options: Any) -> AsyncIterator[bytes]:
        """What a process writes, to the end of the stream."""
        while data := await self.read(container_id, exec_id, **options):
            yield data

    async def output(self, container_id: str, exec_id: str = "", **options: Any) -> bytes:
        """All that a process writes, to the end of the stream."""
        return b"".join([chunk async for chunk in self.chunks(container_id, exec_id, **options)])

    async def remove(self, container_id: str) -> None:
        """Remove a container."""
        await self.call("RemoveContainer", container_id=container_id)

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

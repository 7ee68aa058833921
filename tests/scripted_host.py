"""A host that does with an agent what a test says, over either wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from host.client import AgentCallError, AgentClient

_END_OF_STREAM_1X = (2, "EOF")


class ScriptedHost:
    """What a host does with an agent, in the words of its wire."""

    def __init__(self, client: AgentClient, rootfs: Path, *, cgroup_parent: str = "") -> None:
        """`rootfs` is the containers' root where the agent is; `cgroup_parent` is above their own cgroups."""
        self.client = client
        self.rootfs = rootfs
        self.cgroup_parent = cgroup_parent
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
            Linux={"Namespaces": namespaces, "CgroupsPath": f"{self.cgroup_parent}/{container_id}"},
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

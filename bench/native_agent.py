"""An agent as a process of this machine, in a mount namespace of its own, for measurements."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import Message

from host.agent_messages import fill_message
from host.client import AgentClient, connect
from host.container_config import ContainerConfig, SharedRootfs
from host.oci_spec import constrain_spec, default_spec

AGENT = Path(sys.executable).parent / "kata-agent"

# crun refuses hybrid cgroups, and what the agent makes below /run is not to outlive it.
_PRIVATE_MOUNTS = """
umount /sys/fs/cgroup/unified 2>/dev/null
mount -t tmpfs tmpfs /run && exec "$@"
"""


@dataclass(frozen=True, slots=True)
class NativeAgent:
    """A running agent: its process id, its socket, and a root filesystem for its containers."""

    pid: int
    address: str
    rootfs: Path

    async def connect(self) -> AgentClient:
        """Connect over ttrpc. Raises ConnectionError."""
        return await connect(self.address, wire="ttrpc", timeout_s=10)


@contextlib.asynccontextmanager
async def native_agent(*, wrapper: tuple[str, ...] = ()) -> AsyncIterator[NativeAgent]:
    """Start an agent on a unix socket, and end it. `wrapper` goes before its command line."""
    directory = Path(tempfile.mkdtemp(prefix="pykata-bench-"))
    address = f"unix://{directory}/agent.sock"
    rootfs = busybox_rootfs(directory / "rootfs")
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _PRIVATE_MOUNTS, "sh"]
    environment = {
        "PATH": os.environ["PATH"],
        "KATA_AGENT_SERVER_ADDR": address,
        "KATA_AGENT_LOG_LEVEL": "error",
    }
    process = await asyncio.create_subprocess_exec(*command, *wrapper, str(AGENT), env=environment)
    try:
        yield NativeAgent(process.pid, address, rootfs)
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()
        shutil.rmtree(directory)


def busybox_rootfs(directory: Path) -> Path:
    """A root filesystem of one static program. busybox(1)."""
    programs = directory / "bin"
    programs.mkdir(parents=True)
    shutil.copy("/bin/busybox", programs / "busybox")
    for name in ("sh", "true", "sleep", "cat", "dd", "head"):
        (programs / name).symlink_to("busybox")
    for mount_point in ("proc", "sys", "dev", "etc", "tmp"):
        (directory / mount_point).mkdir()
    return directory


async def create_sandbox(client: AgentClient) -> None:
    """An empty sandbox."""
    await client.call(
        "CreateSandbox", client.messages.CreateSandboxRequest(sandbox_id="bench", hostname="bench")
    )


def container_request(client: AgentClient, rootfs: Path, *args: str) -> Message:
    """A CreateContainer request for `args` in `rootfs`, with a fresh id."""
    container_id = f"bench-{uuid.uuid4().hex[:12]}"
    config = ContainerConfig(container_id=container_id, rootfs=SharedRootfs(rootfs), args=args)
    document = constrain_spec(default_spec(config))
    document["root"] = {"path": str(rootfs), "readonly": True}
    request = client.messages.CreateContainerRequest(container_id=container_id, exec_id=container_id)
    fill_message(request.OCI, document)
    return request  # type: ignore[no-any-return]  # the two generations' classes have no common type


def process_request(client: AgentClient, container_id: str, exec_id: str, *args: str) -> Message:
    """An ExecProcess request."""
    process = {
        "args": list(args),
        "cwd": "/",
        "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0},
        "capabilities": {},
    }
    request = client.messages.ExecProcessRequest(container_id=container_id, exec_id=exec_id)
    fill_message(request.process, process)
    return request  # type: ignore[no-any-return]  # as above

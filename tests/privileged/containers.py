"""Real containers for the tests of this floor: a runtime of a test's own, and what it may not leave."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.containers.container import Container, ContainerPlan, ContainerStatus, RuntimePaths
from agent.containers.oci_spec import OciProcess, OciSpec
from agent.containers.process import Process
from agent.containers.streams import OutputStream
from agent.processes.reaper import Reaper

_numbers = itertools.count(1)

# How the ids, and so the cgroups, of these tests' containers begin.
CONTAINER_PREFIX = f"pykata-test-{os.getpid()}-"

NAMESPACES = ("pid", "mount", "ipc", "uts")


def oci_process(*command: str, **fields: Any) -> OciProcess:
    """A `process` object that runs `command` as root."""
    return {
        "args": list(command),
        "cwd": "/",
        "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0},
        "terminal": False,
        **fields,
    }


def oci_spec(rootfs: Path, process: OciProcess, **linux: Any) -> OciSpec:
    """The document of a container on `rootfs`, with the mounts that every container has."""
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(rootfs), "readonly": False},
        "process": process,
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": []},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]},
        ],
        "linux": {"namespaces": [{"type": kind} for kind in NAMESPACES], **linux},
    }


async def everything(stream: OutputStream, limit: int = 65536) -> bytes:
    """All of the stream, to its end."""
    chunks = []
    while chunk := await stream.read(limit):
        chunks.append(chunk)
    return b"".join(chunks)


@dataclass
class Runtime:
    """Makes containers below a directory of one test."""

    paths: RuntimePaths
    rootfs: Path
    reaper: Reaper
    teardown: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def create(self, *command: str, **options: Any) -> Container:
        """Create a container that is removed with the test. Options: of `plan`."""
        return await Container.create(
            self.plan(*command, **options), paths=self.paths, reaper=self.reaper, stack=self.teardown
        )

    async def run(self, *command: str, **options: Any) -> Container:
        """Create and start."""
        container = await self.create(*command, **options)
        await container.start()
        return container

    async def output_of(self, process: Process) -> tuple[int, bytes, bytes]:
        """Exit code, stdout and stderr of a process that ends by itself."""
        code = await process.wait()
        return code, await everything(process.stdout), await everything(process.stderr)

    def plan(
        self,
        *command: str,
        container_id: str = "",
        pipe_size: int = 0,
        spec: OciSpec | None = None,
        linux: dict[str, Any] | None = None,
        launch_timeout_s: float = 10.0,
        **process: Any,
    ) -> ContainerPlan:
        """The plan of a container with an id of its own."""
        container_id = container_id or f"{CONTAINER_PREFIX}{next(_numbers)}"
        document = spec or oci_spec(self.rootfs, oci_process(*command, **process), **(linux or {}))
        return ContainerPlan(
            container_id=container_id,
            init_exec_id="init-of-" + container_id,
            spec=document,
            no_pivot=False,
            pipe_size=pipe_size,
            launch_timeout_s=launch_timeout_s,
        )


@asynccontextmanager
async def running_runtime(directory: Path, rootfs: Path) -> AsyncIterator[Runtime]:
    """A runtime with a running reaper; at the end all of its containers are removed."""
    paths = RuntimePaths(
        bundles=f"{directory}/bundles", crun_root=f"{directory}/crun", consoles=f"{directory}/consoles"
    )
    reaper = Reaper()
    reaper.start()
    runtime = Runtime(paths, rootfs, reaper)
    try:
        await runtime.teardown.aclose()
        async with runtime.teardown:
            yield runtime
    finally:
        reaper.stop()


def status_of(container: Container) -> ContainerStatus:
    """The state now; a plain attribute would be taken to stay what it was once asserted to be."""
    return container.status


def children() -> set[int]:
    """The pids of this process's children, zombies among them."""
    tasks = Path("/proc/self/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


async def until_gone(pids: set[int], timeout_s: float = 10.0) -> None:
    """Wait for processes to exit: what crun had begun when it was killed notices it a moment later."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        exited = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, exited.set)
        try:
            await asyncio.wait_for(exited.wait(), timeout_s)
        finally:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)


def machine_state(*, ignored_below: Path) -> dict[str, set[str]]:
    """What a container may not leave behind: mounts, cgroups, children, descriptors, bundles."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    ours = f"/{CONTAINER_PREFIX}"  # the cgroup tree is the whole machine's
    cgroups = {path for path, _, _ in os.walk("/sys/fs/cgroup") if ours in path}
    descriptors = {f"{fd}:{_target(fd)}" for fd in os.listdir("/proc/self/fd")}
    bundles = {path for path, _, _ in os.walk(ignored_below / "bundles")} - {str(ignored_below / "bundles")}
    return {
        "mounts": set(mounts),
        "cgroups": cgroups,
        "children": set(map(str, children())),
        "descriptors": {fd for fd in descriptors if not fd.endswith("<gone>")},
        "bundles": bundles,
        "consoles": set(os.listdir(consoles)) if (consoles := ignored_below / "consoles").exists() else set(),
        "crun": set(os.listdir(state)) if (state := ignored_below / "crun").exists() else set(),
    }


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return "<gone>"

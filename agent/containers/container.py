"""A container: its states, its processes, and how it is made and undone."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import enum
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from agent.containers.bundle import Bundle
from agent.containers.cgroup import Cgroup
from agent.containers.cgroup_files import CgroupFiles
from agent.containers.crun import Crun
from agent.containers.execs import Execs
from agent.containers.executable import check_command
from agent.containers.limits import update_limits
from agent.containers.oci_spec import (
    OciProcess,
    OciSpec,
    cgroup_path,
    complete_process,
    deny_devices_by_default,
    merge_resources,
    validate_process,
    validate_spec,
)
from agent.containers.oom import OomWatch, watch_oom
from agent.containers.process import Launcher, Process
from agent.errors import AgentError, AlreadyExists, KernelRefused, NotFound, WrongState
from agent.linux.blocking import run_blocking
from agent.processes.completion import run_to_completion
from agent.processes.reaper import Reaper

# crun and the kernel need longer on a loaded host to take a container apart than to make it: nobody
# waits for the answer, and giving up would leak (assumed).
_REMOVAL_TIMEOUT_S = 60.0


class ContainerStatus(enum.Enum):
    """The states of a container, under the OCI runtime specification's names."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """What a container is to be. `pipe_size` is in bytes, 0 for the kernel's choice."""

    container_id: str
    init_exec_id: str
    spec: OciSpec
    no_pivot: bool
    pipe_size: int
    launch_timeout_s: float


@dataclass(frozen=True, slots=True)
class RuntimePaths:
    """Where containers live in the guest."""

    bundles: str = "/run/kata-containers"
    crun_root: str = "/run/kata-agent/crun"
    consoles: str = "/run/kata-agent/consoles"
    crun: str = "/usr/bin/crun"
    cgroups: str = "/sys/fs/cgroup"


class Container:
    """A container that crun has made."""

    def __init__(self, plan: ContainerPlan, *, paths: RuntimePaths, reaper: Reaper) -> None:
        """To be called by `create` only."""
        self.id = plan.container_id
        self._plan = plan
        self._bundle = Bundle(f"{paths.bundles}/{self.id}")
        self.spec = _prepared(plan, self._bundle.rootfs)
        self._cgroup = Cgroup(self.spec["linux"]["cgroupsPath"], paths.cgroups)
        self.cgroup_files = CgroupFiles(self.spec["linux"]["cgroupsPath"], paths.cgroups)
        self._oom_watch: OomWatch | None = None
        self._crun = Crun(paths.crun, paths.crun_root, reaper)
        self._launcher = Launcher(reaper, paths.consoles, plan.launch_timeout_s)
        self._init: Process | None = None
        self._execs = Execs()
        self._state = ContainerStatus.CREATED
        self._start_requested = False
        self._crun_was_asked = False
        self._exec_number = 0
        self._removal: asyncio.Task[None] | None = None

    @classmethod
    async def create(
        cls, plan: ContainerPlan, *, paths: RuntimePaths, reaper: Reaper, stack: AsyncExitStack
    ) -> Container:
        """Make the container up to the point where its command could run.

        `plan.spec` is not changed. Before anything is left behind, `stack` gets its undo, which is
        `remove`; the caller unwinds it after a failure. Cancelled, it stops between two steps.
        Raises AlreadyExists, KernelRefused, LaunchFailed, DeadlineExceeded.
        """
        container = cls(plan, paths=paths, reaper=reaper)
        bundle = container._bundle
        await run_blocking(bundle.reserve, undo=lambda _: bundle.remove())
        stack.push_async_callback(container.remove)
        await run_blocking(container._cgroup.reserve)
        await run_blocking(bundle.fill, plan.spec["root"]["path"], container.spec)
        await container._check_command(container.spec["process"])
        await run_to_completion(container._launch_init())
        return container

    @property
    def init(self) -> Process:
        """The container's first process, which runs its command."""
        assert self._init is not None, "create() has not finished"
        return self._init

    @property
    def status(self) -> ContainerStatus:
        """The container's state; it has stopped once its first process has exited."""
        if self.init.exited.is_set():
            return ContainerStatus.STOPPED
        return self._state

    async def start(self) -> None:
        """Let the container's command run. Raises WrongState unless created, LaunchFailed."""
        if self._start_requested or self.status is not ContainerStatus.CREATED:
            raise WrongState(f"container {self.id} is {self.status.value}, it should be created")
        self._start_requested = True
        try:
            await run_to_completion(self._crun.start(self.id, timeout_s=self._plan.launch_timeout_s))
        except AgentError:
            if self.init.exited.is_set():
                raise WrongState(f"container {self.id} has exited before it was started") from None
            self._start_requested = False
            raise
        self._state = ContainerStatus.RUNNING

    async def execute(self, exec_id: str, process: OciProcess, pipe_size: int) -> Process:
        """Run one more process in the container.

        Raises WrongState if the container is stopped or paused; AlreadyExists if a process with this
        id is still of interest; InvalidRequest, LaunchFailed, DeadlineExceeded.
        """
        self._require_running("exec in")
        completed = complete_process(process, self.spec["process"])
        validate_process(completed)
        if self._is_init(exec_id):
            raise AlreadyExists(f"exec_id '{exec_id}' already exists")
        with self._execs.reserved(exec_id):
            try:
                await self._check_command(completed)
                return await run_to_completion(self._launch_exec(exec_id, completed, pipe_size))
            except asyncio.CancelledError:
                self._execs.discard(exec_id)
                raise
            except AgentError:
                self._require_running("exec in")
                raise

    def process(self, exec_id: str) -> Process:
        """The process with this id; init answers to the container's id and to its own exec id.

        Raises NotFound.
        """
        process = self.init if self._is_init(exec_id) else self._execs.get(exec_id)
        if process is None:
            raise NotFound(f"process {exec_id} not found in container {self.id}")
        return process

    async def signal(self, signum: int, *, exec_id: str | None) -> None:
        """Send a signal to one process, or with None to all that the container has.

        One to a process, or container, that has exited is dropped. A paused container stays paused,
        but for SIGKILL, which could not end it otherwise. Raises NotFound, InvalidRequest,
        KernelRefused.
        """
        was_paused = self.status is ContainerStatus.PAUSED
        if exec_id is not None:
            self.process(exec_id).send_signal(signum)
            if was_paused and signum == signal.SIGKILL:
                await self.resume()
        elif self.status is ContainerStatus.STOPPED:
            # In a pid namespace that it shares, what it has started may have outlived its first process.
            await run_blocking(self.cgroup_files.signal_all, signum)
        else:
            await self._signal_all(signum)
            if was_paused:
                self._state = self._state_when_thawed()
                if signum != signal.SIGKILL:
                    await self.pause()

    async def pause(self) -> None:
        """Freeze all processes. Raises WrongState unless created or running, KernelRefused."""
        if self.status not in (ContainerStatus.CREATED, ContainerStatus.RUNNING):
            raise WrongState(f"container {self.id} is {self.status.value}, it cannot be paused")
        await run_to_completion(self._freeze())

    async def resume(self) -> None:
        """Thaw all processes. Raises WrongState unless paused, KernelRefused."""
        if self.status is not ContainerStatus.PAUSED:
            raise WrongState(f"container {self.id} is {self.status.value}, it is not paused")
        await run_to_completion(self._thaw())

    async def update(self, resources: Mapping[str, Any], *, cpus_may_come: bool = False) -> None:
        """Set the limits that `resources` (the OCI document's linux.resources) names, all or none.

        `spec` has them afterwards. `cpus_may_come` as for `update_limits`. Raises WrongState,
        InvalidRequest, Unsupported, KernelRefused.
        """
        if self.status is ContainerStatus.STOPPED:
            raise WrongState(f"cannot update stopped container {self.id}")
        await run_blocking(partial(update_limits, self.cgroup_files, resources, cpus_may_come=cpus_may_come))
        merge_resources(self.spec, resources)

    def watch_oom(self, report: Callable[[str], None]) -> None:
        """Call `report` with the container's id whenever the kernel kills in it for want of memory.

        Until the container is removed. A second call changes nothing. Raises KernelRefused.
        """
        if self._oom_watch is None and self._removal is None:
            self._oom_watch = watch_oom(self.cgroup_files, partial(report, self.id))

    async def remove(self) -> None:
        """Kill what runs and undo all that `create` did; the container's processes keep their exit codes.

        Safe to call again and by several at once: they join one removal, which runs to its end whoever
        is cancelled; after a failure the next call tries again. Raises KernelRefused, DeadlineExceeded.
        """
        if self._removal is None or (self._removal.done() and self._removal.exception() is not None):
            self._removal = asyncio.create_task(self._take_apart(), name=f"removal of {self.id}")
        await asyncio.shield(self._removal)

    async def _take_apart(self) -> None:
        if self._oom_watch is not None:
            self._oom_watch.close()
        if self._init is not None:
            if self.status is ContainerStatus.PAUSED:
                await self._thaw()
            # In a pid namespace of its own the rest dies with init. Not before init is gone: a
            # zombie that nobody has collected would keep the namespace, and crun says 0 all the same.
            await self._end_process(self._init)
            await self._execs.settled()
            for process in self._execs:
                await self._end_process(process)
        if self._crun_was_asked:
            await self._crun.delete(self.id, timeout_s=_REMOVAL_TIMEOUT_S)
        await run_blocking(self._remove_leftovers)

    @staticmethod
    async def _end_process(process: Process) -> None:
        process.send_signal(signal.SIGKILL)
        await process.exited.wait()
        process.close()

    def _remove_leftovers(self) -> None:
        try:
            self._cgroup.remove_leftovers()
        except OSError as error:
            raise KernelRefused.from_oserror("removing the cgroup", error) from error
        self._bundle.remove()

    async def _freeze(self) -> None:
        try:
            await self._crun.pause(self.id, timeout_s=self._plan.launch_timeout_s)
        except AgentError:
            with contextlib.suppress(AgentError):  # half frozen it could not even be killed
                await self._thaw()
            raise
        self._state = ContainerStatus.PAUSED

    async def _thaw(self) -> None:
        await self._crun.resume(self.id, timeout_s=self._plan.launch_timeout_s)
        self._state = self._state_when_thawed()

    async def _launch_init(self) -> None:
        pid_file = f"{self._bundle.path}/init.pid"
        self._crun_was_asked = True
        self._init = await self._launcher.launch(
            self._plan.init_exec_id,
            lambda stdio: self._crun.create(
                self.id,
                self._bundle.path,
                stdio,
                pid_file=pid_file,
                no_pivot=self._plan.no_pivot,
                oom_score_adjust=self.spec["process"]["oomScoreAdj"],
                timeout_s=self._plan.launch_timeout_s,
            ),
            pid_file=pid_file,
            terminal=bool(self.spec["process"].get("terminal")),
            pipe_size=self._plan.pipe_size,
        )

    async def _launch_exec(self, exec_id: str, process: OciProcess, pipe_size: int) -> Process:
        self._exec_number += 1  # an exec id may be as long as a file name can be
        name = f"exec-{self._exec_number}"
        pid_file = f"{self._bundle.path}/{name}.pid"
        process_file = await run_blocking(self._bundle.write, f"{name}.json", process)
        try:
            launched = await self._launcher.launch(
                exec_id,
                lambda stdio: self._crun.exec(
                    self.id,
                    process_file,
                    stdio,
                    pid_file=pid_file,
                    oom_score_adjust=process["oomScoreAdj"],
                    timeout_s=self._plan.launch_timeout_s,
                ),
                pid_file=pid_file,
                terminal=bool(process.get("terminal")),
                pipe_size=pipe_size,
            )
        finally:
            os.unlink(process_file)  # on tmpfs
        self._execs.add(launched)
        return launched

    async def _check_command(self, process: OciProcess) -> None:
        mounts = [mount["destination"] for mount in self.spec.get("mounts") or ()]
        await run_blocking(check_command, self._bundle.rootfs, process, mounts)

    async def _signal_all(self, signum: int) -> None:
        try:
            await run_to_completion(
                self._crun.kill_all(self.id, signum, timeout_s=self._plan.launch_timeout_s)
            )
        except KernelRefused:
            if self.status is not ContainerStatus.STOPPED:
                raise

    def _is_init(self, exec_id: str) -> bool:
        return exec_id in (self.id, self._plan.init_exec_id)

    def _state_when_thawed(self) -> ContainerStatus:
        return ContainerStatus.RUNNING if self._start_requested else ContainerStatus.CREATED

    def _require_running(self, what: str) -> None:
        """Raise WrongState if no process can be run in the container."""
        if self._removal is not None or self.status is ContainerStatus.STOPPED:
            raise WrongState(f"Cannot {what} stopped container {self.id}")
        if self.status is ContainerStatus.PAUSED:
            raise WrongState(f"Cannot {what} paused container {self.id}")


def _prepared(plan: ContainerPlan, rootfs: str) -> OciSpec:
    """The document as crun is to see it. Raises InvalidRequest."""
    validate_spec(plan.spec)
    spec = copy.deepcopy(plan.spec)
    spec["root"]["path"] = rootfs
    spec["linux"]["cgroupsPath"] = cgroup_path(spec, plan.container_id)
    # Else it would inherit the agent's own, which protects the agent from being killed for memory.
    spec["process"].setdefault("oomScoreAdj", 0)
    deny_devices_by_default(spec)
    return spec

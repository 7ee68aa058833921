"""The whole life of a sandbox with its one container, in the order of Kata's hosts.

Every step that leaves something behind has its way back pushed at once, so that whatever ends the
run, the command's exit, an error, Ctrl-C or the VM's death, undoes exactly what was done, newest
first. The VM goes before the share and the disks it uses.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, Protocol, TypeVar

from host import network
from host.client import AgentCallError, AgentClient, connect
from host.container_config import BlockRootfs
from host.container_plan import (
    CONSOLE_PORT,
    ROOT_DISK,
    block_driver_of,
    cold_disks,
    container_config,
    hostname_of,
    name_files,
    vm_config,
)
from host.create_container import CreatedContainer, create_container
from host.create_container import Sandbox as ContainerSandbox
from host.create_sandbox import create_sandbox_request
from host.errors import HostError
from host.oci_spec import default_spec
from host.process_identity import ProcessIdentity
from host.process_io import OutputSink
from host.rootfs import PreparedRootfs, prepare_rootfs, release_rootfs
from host.run_options import Network, RunOptions, Wire
from host.running_container import RunningContainer
from host.share import SharedPath, remove_shared_path, setup_shared_path
from host.state import Sandbox
from host.vm.disks import BlockDriver, Disk, PluggedDisk
from host.vm.kvm import best_accelerator
from host.vm.qemu import Vm

logger = logging.getLogger("host.sandbox_run")

P = ParamSpec("P")
T = TypeVar("T")

# From power-on to the agent's first answer: about 12 s under emulation on two idle cores (measured).
BOOT_TIMEOUT_S = 180.0
# Kata's deadline for a call is 60 s; before the plug is pulled nobody waits that long.
FAREWELL_TIMEOUT_S = 10.0
# Between two attempts to reach an agent. Its gRPC half takes 1.5 s to load under emulation, several
# times that on a busy machine (measured).
SILENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class VmDetails:
    """What others need to know of a VM that has been started."""

    processes: tuple[ProcessIdentity, ...]
    agent_address: str
    console_address: str  # empty without a debug console
    accelerator: str


class Observer(Protocol):
    """Whoever wants to know how far a run has come."""

    def step(self, text: str) -> None:
        """A step begins that may take a while."""

    def vm_started(self, details: VmDetails) -> None:
        """The VM's processes exist."""

    def container_started(self) -> None:
        """The command runs."""


class SandboxRun:
    """One sandbox. `run` is its life; `container` is for those who deal with it meanwhile."""

    def __init__(self, sandbox: Sandbox, options: RunOptions, observer: Observer) -> None:
        self.container: RunningContainer | None = None
        self._sandbox = sandbox
        self._options = options
        self._observer = observer
        self._created: CreatedContainer | None = None

    async def run(self, sink: OutputSink) -> int:
        """Make everything, run the command with its output going to `sink`, and take everything down.

        Returns the command's exit status. Raises HostError or AgentCallError; nothing is left then,
        nor after a cancellation.
        """
        async with AsyncExitStack() as undo:
            rootfs = await self._prepare_rootfs(undo)
            # Raises for a user or directory that cannot be, before a VM boots for it.
            default_spec(container_config(self._sandbox, self._options, rootfs))
            share = setup_shared_path(self._sandbox.path)
            undo.callback(remove_shared_path, self._sandbox.path)
            undo.push_async_callback(self._release_container)
            vm = await self._start_vm(rootfs, share, undo)
            return await vm.while_running(self._run_in(vm, rootfs, share, sink))

    async def _prepare_rootfs(self, undo: AsyncExitStack) -> PreparedRootfs:
        self._observer.step("Preparing the root filesystem")
        names = self._sandbox.path / "etc"
        names.mkdir(exist_ok=True)
        for name, text in name_files(self._sandbox, self._options).items():
            (names / name).write_text(text)
        place = self._sandbox.path / "rootfs"
        undo.callback(release_rootfs, place)
        driver = self._options.rootfs_driver.value
        return await _whole_in_thread(prepare_rootfs, self._options.rootfs, place, driver)

    async def _start_vm(self, rootfs: PreparedRootfs, share: SharedPath, undo: AsyncExitStack) -> Vm:
        vm = Vm(vm_config(self._sandbox, self._options, rootfs, share))
        accelerator = await asyncio.to_thread(best_accelerator)
        slowly = ", emulated since KVM does not work here" if accelerator == "tcg" else ""
        self._observer.step(f"Booting the VM{slowly}")
        undo.push_async_callback(vm.stop)
        await vm.start()
        self._observer.vm_started(
            VmDetails(
                processes=tuple(_identities(vm)),
                agent_address=vm.agent_address,
                console_address=vm.address(CONSOLE_PORT) if self._options.debug_console else "",
                accelerator=accelerator,
            )
        )
        return vm

    async def _run_in(self, vm: Vm, rootfs: PreparedRootfs, share: SharedPath, sink: OutputSink) -> int:
        """Everything that needs the agent."""
        options = self._options
        async with AsyncExitStack() as undo:
            client = await reach_agent(vm, options.wire)
            undo.push_async_callback(client.close)
            agent = _Agent(vm, client)
            self._observer.step("Creating the container")
            await self._make_sandbox(agent, undo)
            await self._make_container(agent, rootfs, share, undo)
            container = RunningContainer(client, container_config(self._sandbox, options, rootfs))
            undo.push_async_callback(container.forget)
            if options.window:
                await container.init.resize(options.window)
            request = client.messages.StartContainerRequest(container_id=self._sandbox.id)
            await agent.call("StartContainer", request)
            if not options.interactive and not options.tty:
                await container.init.close_input()
            self.container = container
            self._observer.container_started()
            try:
                return await container.init.run(sink)
            finally:
                self.container = None

    async def _make_sandbox(self, agent: _Agent, undo: AsyncExitStack) -> None:
        options, messages = self._options, agent.client.messages
        if options.network is Network.USER:
            await agent.call("UpdateInterface", network.update_interface_request(messages))
            await agent.call("UpdateRoutes", network.update_routes_request(messages))
        undo.push_async_callback(agent.farewell, "DestroySandbox", messages.DestroySandboxRequest())
        request = create_sandbox_request(
            messages,
            self._sandbox.id,
            shared_fs=options.shared_fs.value,
            hostname=hostname_of(self._sandbox, options),
            dns=network.resolv_conf(options.network.value).splitlines(),
            share_pid_namespace=True,
        )
        await agent.call("CreateSandbox", request)

    async def _make_container(
        self, agent: _Agent, rootfs: PreparedRootfs, share: SharedPath, undo: AsyncExitStack
    ) -> None:
        driver = self._options.rootfs_driver
        if cold_disks(driver, rootfs) and isinstance(rootfs.rootfs, BlockRootfs):
            plugged = agent.vm.cold_disk(ROOT_DISK)
            rootfs = replace(rootfs, rootfs=replace(rootfs.rootfs, plugged=plugged))
        place = ContainerSandbox(
            self._sandbox.id, share, _LivingBus(agent.vm), block_driver=block_driver_of(driver)
        )
        config = container_config(self._sandbox, self._options, rootfs)
        self._created = await create_container(agent.client, place, config)
        request = agent.client.messages.RemoveContainerRequest(container_id=self._sandbox.id)
        undo.push_async_callback(agent.farewell, "RemoveContainer", request)

    async def _release_container(self) -> None:
        if self._created:
            await self._created.release()


async def reach_agent(vm: Vm, wire: Wire) -> AgentClient:
    """A connection on which the agent of a booting VM has answered.

    The vsock daemon may take a connection while the guest has nobody to accept it, and then never
    carries a byte (seen once in some twenty boots), so one that stays silent is given up for another.
    Raises HostError when the time for a boot is over.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + BOOT_TIMEOUT_S
    while True:
        try:
            async with asyncio.timeout_at(min(end, loop.time() + SILENCE_S)):
                client = await connect(vm.agent_address, wire=wire.value, timeout_s=BOOT_TIMEOUT_S)
                try:
                    await client.call("Check", client.messages.CheckRequest(), timeout_s=BOOT_TIMEOUT_S)
                except BaseException:
                    await client.close()
                    raise
                return client
        except (TimeoutError, ConnectionError) as error:
            logger.info("no answer from the agent yet: %s", error or f"silence for {SILENCE_S:g} s")
            if loop.time() >= end:
                raise HostError(
                    f"the agent has not answered within {BOOT_TIMEOUT_S:g} s of the start of its VM",
                    f"the guest's console says:\n{vm.console_tail()}",
                ) from error


@dataclass(frozen=True, slots=True)
class _Agent:
    """The agent of one VM."""

    vm: Vm
    client: AgentClient

    async def call(self, method: str, request: Any, *, timeout_s: float = 60.0) -> Any:  # noqa: ANN401 - messages of either generation
        return await self.client.call(method, request, timeout_s=timeout_s)

    async def farewell(self, method: str, request: Any) -> None:  # noqa: ANN401 - as above
        """A call before the plug is pulled: worth a try, but nothing depends on its success."""
        if not self.vm.running:
            return
        try:
            await self.call(method, request, timeout_s=FAREWELL_TIMEOUT_S)
        except (AgentCallError, OSError) as error:
            logger.warning("%s failed: %s", method, error)


class _LivingBus:
    """The VM's bus; from a VM that has gone, nothing needs to be unplugged."""

    def __init__(self, vm: Vm) -> None:
        self._vm = vm

    async def plug_block(self, disk: Disk, driver: BlockDriver) -> PluggedDisk:
        return await self._vm.plug_block(disk, driver)

    async def unplug(self, disk_id: str) -> None:
        if self._vm.running:
            await self._vm.unplug(disk_id)


def _identities(vm: Vm) -> list[ProcessIdentity]:
    found = []
    for pid in vm.pids().values():
        with contextlib.suppress(ProcessLookupError):  # it has just died, which others will notice
            found.append(ProcessIdentity.of(pid))
    return found


async def _whole_in_thread(function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Run a blocking function in a thread, always to its end: half of it could not be undone."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *args, **options))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise

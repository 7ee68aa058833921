"""A virtual machine's life: started, driven over QMP, ended, and nothing left of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

from qemu.qmp import ConnectError, QMPClient, QMPError

from host.errors import DeadlineExceeded, InvalidInput, VmFailed
from host.vm.children import Child, tail
from host.vm.config import AGENT_PORT, VmConfig
from host.vm.disks import BlockDriver, Disk, DriverWord, PluggedDisk, virtio_disk_name
from host.vm.guest_driver import wait_for_vsock_driver
from host.vm.hotplug import BlockHotPlug
from host.vm.kvm import best_accelerator
from host.vm.programs import find_program
from host.vm.qemu_command import HostOffer, qemu_command
from host.vm.tsc import tsc_khz
from host.vm.virtiofsd import start_virtiofsd
from host.vm.vsock import KernelVsock, VsockChannel, open_vsock

T = TypeVar("T")

_CONSOLE_TAIL_LINES = 8
_CONSOLE_SEARCH_LINES = 100
_START_TIMEOUT_S = 30.0
_GUEST_TIMEOUT_S = 120.0  # to its vsock driver: 3 s under TCG, many times that on a busy host
_DEATH_NOTICE_S = 1.0  # between a lost connection and the notice of QEMU's exit


class Vm:
    """One machine. `start` once, `stop` as often as you like; everything in between needs it running.

    All processes are children of the caller's and die with it. Use it in one event loop.
    """

    def __init__(self, config: VmConfig) -> None:
        self.config = config
        self._stack = AsyncExitStack()
        self._qmp = QMPClient(config.name)
        self._children: list[Child] = []
        self._qemu: Child | None = None
        self._vsock: VsockChannel | None = None
        self._hotplug: BlockHotPlug | None = None

    @property
    def console_log(self) -> Path:
        """The file with the guest's console output."""
        return self.config.console_log

    @property
    def agent_address(self) -> str:
        """Where the agent answers, as host.client takes it. Raises VmFailed before `start`."""
        return self.address(AGENT_PORT)

    def address(self, port: int) -> str:
        """Where a vsock port of the guest answers. Raises VmFailed before `start`."""
        if self._vsock is None:
            raise self._not_running()
        return self._vsock.address(port)

    def pids(self) -> dict[str, int]:
        """The processes that make up this machine, by name, for whoever must clean up after a crash."""
        daemons = self._vsock.pids() if self._vsock else {}
        return daemons | {child.name: child.pid for child in self._children}

    @property
    def running(self) -> bool:
        """Whether QEMU has been started and has not exited."""
        return self._qemu is not None and self._qemu.running

    async def start(self) -> None:
        """Power the machine on; returns when the guest's kernel has its vsock device up.

        The agent begins to listen a little later. Raises ToolMissing, VmFailed (with QEMU's own
        words, or the guest's last ones), DeadlineExceeded. After an error nothing is left but the logs.
        """
        self.config.image.check()
        self.config.run_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        for log in (self.config.console_log, self.config.qemu_log):
            log.unlink(missing_ok=True)
        try:
            async with _deadline(_START_TIMEOUT_S, "QEMU", self.config.qemu_log):
                await self._start()
            async with _deadline(_GUEST_TIMEOUT_S, "the guest", self.config.console_log):
                await self.while_running(wait_for_vsock_driver(self._qmp))
        except BaseException:
            await self._close()
            raise

    async def _start(self) -> None:
        config = self.config
        # These may block for a second, the first time on a host.
        accelerator = await asyncio.to_thread(best_accelerator)
        frequency = await asyncio.to_thread(tsc_khz) if accelerator == "tcg" else None
        if config.shared_fs == "virtio-fs" and config.share_dir is not None:
            log = config.run_dir / "virtiofsd.log"
            self._own(start_virtiofsd(config.share_dir, config.virtiofsd_socket, log))
            self._stack.callback(config.virtiofsd_socket.unlink, missing_ok=True)
        self._vsock = await open_vsock(config.run_dir)
        self._stack.push_async_callback(self._vsock.close)
        # QEMU inherits a socket that listens already, so there is nothing to wait for.
        config.qmp_socket.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(config.qmp_socket))
            self._stack.callback(config.qmp_socket.unlink, missing_ok=True)
            config.qmp_socket.chmod(0o600)
            listener.listen(1)
            device = self._vsock.device
            offer = HostOffer(
                qemu=find_program("qemu-system-x86_64"),
                accelerator=accelerator,
                vsock=device,
                qmp_fd=listener.fileno(),
                tsc_khz=frequency,
            )
            fds = [listener.fileno(), *([device.fd] if isinstance(device, KernelVsock) else [])]
            self._qemu = Child.start("qemu", qemu_command(config, offer), log=config.qemu_log, pass_fds=fds)
        self._own(self._qemu)
        await self._connect_qmp(self._qemu)
        self._hotplug = BlockHotPlug(self._qmp, scsi=config.scsi)

    def _own(self, child: Child) -> None:
        self._children.append(child)
        self._stack.push_async_callback(child.stop)

    async def _connect_qmp(self, qemu: Child) -> None:
        """Wait for QEMU's greeting; a QEMU that refuses its arguments closes the socket instead."""
        try:
            await self._qmp.connect(str(self.config.qmp_socket))
        except ConnectError as error:
            qemu.kill()
            await qemu.wait()
            raise qemu.failure("could not start the machine") from error
        self._stack.push_async_callback(self._disconnect_qmp)

    async def _disconnect_qmp(self) -> None:
        # QEMU may have closed the connection first; nothing is lost by that.
        with suppress(QMPError, EOFError, OSError):
            await self._qmp.disconnect()

    async def plug_block(self, disk: Disk, driver: BlockDriver) -> PluggedDisk:
        """Plug a disk into a q35 machine; the result names it as a storage request does.

        Raises InvalidInput (wrong machine, id in use), HostError (QEMU's refusal), VmFailed.
        """
        if self.config.machine == "microvm":
            raise InvalidInput("microvm takes no disk while it runs", "give the disk at power-on")
        return await self.while_running(self._plugs().plug(disk, driver))

    async def unplug(self, disk_id: str) -> None:
        """Pull a plugged disk out; a disk not there is left alone. Raises DeadlineExceeded, VmFailed."""
        await self.while_running(self._plugs().unplug(disk_id))

    def _plugs(self) -> BlockHotPlug:
        if self._hotplug is None or not self.running:
            raise self._not_running()
        return self._hotplug

    def cold_disk(self, disk_id: str) -> PluggedDisk:
        """A disk that was there at power-on, as a storage request names it: by its device node.

        Raises InvalidInput if the machine has no such disk.
        """
        for index, disk in enumerate(self.config.cold_disks, self.config.first_cold_disk_index):
            if disk.id == disk_id:
                driver: DriverWord = "mmioblk" if self.config.machine == "microvm" else "blk"
                return PluggedDisk(disk_id, driver, f"/dev/{virtio_disk_name(index)}")
        raise InvalidInput(f"machine {self.config.name} was started without a disk {disk_id}")

    async def while_running(self, work: Coroutine[object, object, T]) -> T:
        """Run `work`, but no longer than the machine lives.

        Raises what `work` raises, or VmFailed with the last console lines if the machine ends first.
        """
        qemu = self._qemu
        if qemu is None:
            work.close()
            raise self._not_running()
        task = asyncio.ensure_future(work)
        exit_watch = asyncio.ensure_future(qemu.wait())
        try:
            await asyncio.wait({task, exit_watch}, return_when=asyncio.FIRST_COMPLETED)
            if task.done() and isinstance(task.exception(), (QMPError, OSError, EOFError)):
                # A lost connection is often the first sign of a dead machine; say that instead.
                await asyncio.wait({exit_watch}, timeout=_DEATH_NOTICE_S)
            elif task.done():
                return task.result()
            if exit_watch.done():
                raise self.death()
            return task.result()
        finally:
            for pending in (task, exit_watch):
                pending.cancel()
            await asyncio.gather(task, exit_watch, return_exceptions=True)

    def death(self) -> VmFailed:
        """An error that says the machine ended, with the last of what console and QEMU said."""
        words = self.console_tail() or (self._qemu.log_tail() if self._qemu else "")
        return VmFailed(
            f"the virtual machine {self.config.name} ended unexpectedly",
            f"its last words were:\n{words}" if words else "it said nothing",
        )

    def console_tail(self, lines: int = _CONSOLE_TAIL_LINES) -> str:
        """The last lines on the guest's console; of a kernel panic, those that lead up to it.

        What follows a panic is the kernel's own call trace, which explains nothing about the guest.
        """
        text = tail(self.console_log, _CONSOLE_SEARCH_LINES).splitlines()
        panics = [number for number, line in enumerate(text) if "Kernel panic" in line]
        return "\n".join(text[: panics[0] + 1 if panics else None][-lines:])

    def _not_running(self) -> VmFailed:
        return VmFailed(f"the virtual machine {self.config.name} is not running", "start it first")

    async def wait_exit(self) -> int:
        """Wait until the machine has ended by itself; 0 is a guest that powered off.

        Raises VmFailed before `start`.
        """
        if self._qemu is None:
            raise self._not_running()
        return await self._qemu.wait()

    async def stop(self, *, grace_s: float = 5.0) -> None:
        """End the machine at once, as by pulling the plug, and remove its sockets and processes.

        QEMU is asked first and killed after `grace_s` seconds. A guest that should shut down in
        order is told so through its agent before. Safe to call twice, and without `start`.
        """
        if self.running:
            with suppress(TimeoutError, QMPError, EOFError, OSError):
                async with asyncio.timeout(grace_s):
                    await self._qmp.execute("quit")
                    await self.wait_exit()
        await self._close()

    async def _close(self) -> None:
        """Undo `start` in reverse. It runs to its end even if the caller is cancelled meanwhile."""
        if self._qemu is not None:
            self._qemu.kill()
        stack, self._stack = self._stack, AsyncExitStack()
        await asyncio.shield(stack.aclose())


@asynccontextmanager
async def _deadline(seconds: float, who: str, log: Path) -> AsyncIterator[None]:
    """Raise DeadlineExceeded if the block takes longer; `log` is where to look for the reason."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise DeadlineExceeded(f"{who} did not come up within {seconds:.0f} s", f"see {log}") from error

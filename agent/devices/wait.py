"""Waiting for a device: subscribe, look, provoke, look again, wait; with a deadline, without polling.

Subscribing first closes the gap in which a device could arrive unseen between look and wait. Nothing
is remembered between waits and no lock is held: a wait owns its subscription and its own removal, so
any number of them may wait for the same address at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.devices.address import (
    CcwAddress,
    DeviceAddress,
    DeviceNode,
    MmioAddress,
    PciPath,
    PmemAddress,
    ScsiAddress,
)
from agent.devices.capacity import Disk, wait_for_capacity
from agent.devices.matching import Matcher, block_matcher, interface_matcher
from agent.devices.memory import Memory
from agent.devices.processors import Processors
from agent.devices.sysfs import KernelDevice, Sysfs, is_block_node
from agent.devices.uevents import KernelUevents, Uevent, UeventBus
from agent.errors import AgentError, DeviceTimeout, InvalidRequest
from agent.linux.blocking import run_blocking

_log = logging.getLogger("agent.devices")

# How many of the events that came instead a deadline's error quotes.
_QUOTED_EVENTS = 5

_KINDS: dict[type[DeviceAddress], str] = {
    PciPath: "PCI path",
    CcwAddress: "ccw bus id",
    ScsiAddress: "SCSI address",
    MmioAddress: "node",
    PmemAddress: "node",
}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A device that is waited for."""

    subsystem: str
    what: str
    """Its address in words, for the error."""
    matches: Matcher
    is_usable: Callable[[KernelDevice], bool]
    provoke: Callable[[], None] | None
    """What makes the kernel look for it; blocks."""


@dataclass(slots=True)
class _Meanwhile:
    """What came while a wait went on, for its error."""

    count: int = 0
    latest: deque[str] = field(default_factory=lambda: deque(maxlen=_QUOTED_EVENTS))

    def note(self, event: Uevent) -> None:
        self.count += 1
        self.latest.append(str(event))

    def __str__(self) -> str:
        if not self.count:
            return "no uevent came meanwhile"
        return f"{self.count} other uevents came meanwhile, the last: {', '.join(self.latest)}"


class Devices:
    """The guest's hardware (agent.storage.handler.GuestDevices)."""

    def __init__(
        self,
        *,
        sysfs_root: str = "/sys",
        dev_root: str = "/dev",
        hotplug_timeout_s: float = 3.0,
        bus: UeventBus | None = None,
        is_node: Callable[[str], bool] = is_block_node,
    ) -> None:
        self._sysfs = Sysfs(sysfs_root)
        self._dev_root = dev_root
        self._hotplug_timeout_s = hotplug_timeout_s
        self._bus = bus or KernelUevents()
        self._is_node = is_node
        self.processors = Processors(self._sysfs, self._bus)
        self.memory = Memory(self._sysfs)
        self._running = contextlib.ExitStack()
        self._onlining: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen to the kernel, and put memory to use as it is plugged in.

        Optional for waits, which start the bus themselves. Raises Unsupported, KernelRefused.
        """
        await self._bus.start()
        self._running.close()
        self._running.enter_context(self._bus.subscribe(self._online_memory))

    async def stop(self) -> None:
        """Stop listening, after memory that is being put to use."""
        self._running.close()
        self._bus.stop()
        await asyncio.gather(*self._onlining)

    async def block_node(self, address: DeviceAddress) -> str:
        """The node of the disk at `address`, waiting for it if it is not there yet.

        A DeviceNode is not waited for: it names a disk the guest was booted with.
        Raises DeviceTimeout; InvalidRequest for a DeviceNode that is no block device.
        """
        if type(address) is DeviceNode:
            return self._node_that_is_there(address)
        wanted = _Wanted(
            "block",
            f"disk at {_KINDS[type(address)]} {address}",
            block_matcher(address, self._sysfs),
            lambda device: self._is_node(self._node(device.name)),
            self._provocation(address),
        )
        return self._node((await self._find(wanted)).name)

    async def net_interface(self, path: PciPath) -> str:
        """The name of the network interface of the PCI device at `path`. Raises DeviceTimeout."""
        wanted = _Wanted(
            "net",
            f"network interface at PCI path {path}",
            interface_matcher(path, self._sysfs),
            lambda device: True,
            self._sysfs.rescan_pci,
        )
        return (await self._find(wanted)).name

    async def grown_disk(self, number: tuple[int, int], size_bytes: int) -> Disk:
        """The disk with the device `number`, once it has `size_bytes`; see wait_for_capacity."""
        return await wait_for_capacity(
            number,
            size_bytes,
            sysfs=self._sysfs,
            bus=self._bus,
            timeout_s=self._hotplug_timeout_s,
        )

    async def _find(self, wanted: _Wanted) -> KernelDevice:
        await self._bus.start()
        arrival: asyncio.Future[KernelDevice] = asyncio.get_running_loop().create_future()
        meanwhile = _Meanwhile()

        def listen(event: Uevent | None) -> None:
            if arrival.done():
                return
            try:
                found = self._look(wanted) if event is None else self._announced(wanted, event)
            except AgentError as error:  # an address that this guest's bus shows to be wrong
                arrival.set_exception(error)
                return
            if found is not None:
                arrival.set_result(found)
            elif event is not None:
                meanwhile.note(event)

        with self._bus.subscribe(listen):
            if (found := self._look(wanted)) is not None:
                return found
            if wanted.provoke is not None:
                await run_blocking(wanted.provoke)
                if (found := self._look(wanted)) is not None:
                    return found
            try:
                async with asyncio.timeout(self._hotplug_timeout_s):
                    return await arrival
            except TimeoutError:
                raise DeviceTimeout(
                    f"{wanted.what} did not appear within {self._hotplug_timeout_s:g} s; {meanwhile}"
                ) from None

    def _look(self, wanted: _Wanted) -> KernelDevice | None:
        """What is there already. A few links of sysfs, read on the loop."""
        for device in self._sysfs.devices(wanted.subsystem):
            if wanted.matches(device) and wanted.is_usable(device):
                return device
        return None

    @staticmethod
    def _announced(wanted: _Wanted, event: Uevent) -> KernelDevice | None:
        device = event.device
        if event.action != "remove" and wanted.matches(device) and wanted.is_usable(device):
            return device
        return None

    def _provocation(self, address: DeviceAddress) -> Callable[[], None] | None:
        match address:
            case PciPath() | PmemAddress():
                return self._sysfs.rescan_pci
            case ScsiAddress():
                return lambda: self._sysfs.scan_scsi(address)
            case _:
                return None  # ccw and mmio devices announce themselves

    def _node(self, name: str) -> str:
        return os.path.join(self._dev_root, name)

    def _node_that_is_there(self, address: DeviceNode) -> str:
        node = self._node(address.name)
        if not self._is_node(node):
            raise InvalidRequest(f"{address} is no block device in this guest")
        return node

    def _online_memory(self, event: Uevent | None) -> None:
        """Put plugged memory to use: the kernel leaves that to us unless told otherwise at boot."""
        if event is None:
            blocks = self._sysfs.offline_memory()
        elif event.action == "add" and event.device.devpath.startswith("/devices/system/memory/"):
            blocks = [event.device.devpath]
        else:
            return
        for devpath in blocks:
            task = asyncio.ensure_future(self._online(devpath))
            self._onlining.add(task)
            task.add_done_callback(self._onlining.discard)

    async def _online(self, devpath: str) -> None:
        try:
            await run_blocking(self._sysfs.online_memory, devpath)
        except AgentError as error:
            _log.warning("memory %s stays unused: %s", devpath, error)

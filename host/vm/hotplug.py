"""Plugging block devices into a running q35 machine, and pulling them out again, by QMP."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from qemu.qmp import EventListener, ExecuteError, Message, QMPClient

from host.errors import DeadlineExceeded, HostError, InvalidInput
from host.vm.disks import (
    BRIDGE_SLOT,
    BRIDGE_SLOTS,
    SCSI_DISKS,
    BlockDriver,
    Disk,
    NumberPool,
    PluggedDisk,
    pci_path,
    scsi_id_and_lun,
)
from host.vm.qemu_command import BRIDGE_ID, SCSI_ID, blockdev_options, drive_node

# The guest must let go of a PCI device before QEMU removes it: 0.1 s under TCG when it is idle.
UNPLUG_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class _Place:
    """What must be given back when a disk goes."""

    disk: Disk
    pool: NumberPool
    number: int


class BlockHotPlug:
    """The disks that were plugged into one machine while it ran.

    Addresses are the lowest free ones, as in the Kata runtime. Calls may overlap: each address is
    taken before the first wait.
    """

    def __init__(self, qmp: QMPClient, *, scsi: bool) -> None:
        self._qmp = qmp
        self._scsi = scsi
        self._slots = NumberPool(BRIDGE_SLOTS)
        self._scsi_indexes = NumberPool(SCSI_DISKS)
        self._places: dict[str, _Place] = {}

    async def plug(self, disk: Disk, driver: BlockDriver) -> PluggedDisk:
        """Plug `disk` in and say where the guest finds it; changes nothing if that fails.

        Raises InvalidInput (id in use, no such bus), HostError (bus full, or QEMU's own words).
        """
        if disk.id in self._places:
            raise InvalidInput(f"a disk {disk.id} is plugged in already", "choose another id")
        if driver == "virtio-scsi" and not self._scsi:
            raise InvalidInput("this machine has no SCSI controller", "start it with one")
        pool = self._slots if driver == "virtio-blk" else self._scsi_indexes
        try:
            place = _Place(disk, pool, pool.take())
        except IndexError as error:
            raise HostError(f"no address for another {driver} disk is free", "unplug one first") from error
        self._places[disk.id] = place
        try:
            return await self._add(place, driver)
        except BaseException:
            self._forget(place)
            raise

    async def _add(self, place: _Place, driver: BlockDriver) -> PluggedDisk:
        """The node first, then the device that shows it; the node goes if the device is refused."""
        disk = place.disk
        if driver == "virtio-blk":
            plugged = PluggedDisk(disk.id, "blk", pci_path(BRIDGE_SLOT, place.number))
            device: dict[str, object] = {
                "driver": "virtio-blk-pci",
                "bus": BRIDGE_ID,
                "addr": f"{place.number:02x}",
                "serial": disk.id,
                "romfile": "",
            }
        else:
            scsi_id, lun = scsi_id_and_lun(place.number)
            plugged = PluggedDisk(disk.id, "scsi", f"{scsi_id}:{lun}")
            device = {
                "driver": "scsi-hd",
                "bus": f"{SCSI_ID}.0",
                "scsi-id": scsi_id,
                "lun": lun,
                "serial": disk.id,
            }
        await self._execute(f"disk {disk.path} cannot be opened", "blockdev-add", blockdev_options(disk))
        try:
            device |= {"id": _device_id(disk), "drive": drive_node(disk), "share-rw": True}
            await self._execute(f"disk {disk.id} cannot be plugged in", "device_add", device)
        except BaseException:
            await self._remove_node(disk)
            raise
        return plugged

    async def unplug(self, disk_id: str, *, timeout_s: float = UNPLUG_TIMEOUT_S) -> None:
        """Take a disk out, and wait until the guest has let it go; a disk not there is left alone.

        Raises DeadlineExceeded if the guest holds on to it: the address then stays taken.
        """
        place = self._places.get(disk_id)
        if place is None:
            return
        device = _device_id(place.disk)

        def is_ours(event: Message) -> bool:
            data = event["data"]
            return isinstance(data, dict) and data.get("device") == device

        with self._qmp.listener("DEVICE_DELETED", is_ours) as deleted:
            await self._execute(f"disk {disk_id} cannot be unplugged", "device_del", {"id": device})
            await self._wait_for(deleted, disk_id, timeout_s)
        await self._remove_node(place.disk)
        self._forget(place)

    async def _wait_for(self, deleted: EventListener, disk_id: str, timeout_s: float) -> None:
        try:
            await asyncio.wait_for(deleted.get(), timeout_s)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"the guest did not release disk {disk_id} within {timeout_s:.0f} s", "unmount it first"
            ) from error

    def _forget(self, place: _Place) -> None:
        place.pool.give_back(place.number)
        self._places.pop(place.disk.id, None)

    async def _remove_node(self, disk: Disk) -> None:
        node: dict[str, object] = {"node-name": drive_node(disk)}
        await self._execute(f"disk {disk.path} cannot be closed", "blockdev-del", node)

    async def _execute(self, failure: str, command: str, arguments: dict[str, object]) -> None:
        """Run one QMP command; QEMU's refusal becomes a HostError that says `failure`."""
        try:
            await self._qmp.execute(command, arguments)
        except ExecuteError as error:
            raise HostError(failure, str(error)) from error


def _device_id(disk: Disk) -> str:
    return f"disk-{disk.id}"

"""Hot-plug: which QMP commands are sent, which addresses are given, and what a failure undoes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import ExecuteError, QMPClient
from qemu.qmp.message import Message
from qemu.qmp.models import ErrorResponse

from host.errors import DeadlineExceeded, HostError, InvalidInput
from host.vm.disks import Disk, PluggedDisk
from host.vm.hotplug import BlockHotPlug


class FakeQmp(QMPClient):
    """Records commands, refuses those in `refuse`, and lets go of devices as a guest would."""

    def __init__(self) -> None:
        super().__init__("fake")
        self.calls: list[tuple[str, dict[str, object]]] = []
        self.refuse = ""
        self.releases = True
        self._watchers: list[tuple[Callable[[Message], bool], asyncio.Queue[Message]]] = []

    async def execute(
        self, cmd: str, arguments: Mapping[str, object] | None = None, oob: bool = False
    ) -> object:
        del oob
        await asyncio.sleep(0)
        self.calls.append((cmd, dict(arguments or {})))
        if cmd == self.refuse:
            response = {"error": {"class": "GenericError", "desc": f"no {cmd} today"}}
            raise ExecuteError(ErrorResponse(response), Message(), Message(response))
        if cmd == "device_del" and self.releases and arguments:
            # The device's back end goes first, in an event that names no device.
            self._emit({"path": "/machine/backend"})
            self._emit({"device": arguments["id"]})
        return {}

    def _emit(self, data: Mapping[str, object]) -> None:
        event = Message({"event": "DEVICE_DELETED", "data": dict(data)})
        for matches, queue in self._watchers:
            if matches(event):
                queue.put_nowait(event)

    @contextmanager
    def listener(self, names: Any = (), event_filter: Any = None) -> Iterator[Any]:
        assert names == "DEVICE_DELETED"
        queue: asyncio.Queue[Message] = asyncio.Queue()
        entry = (event_filter, queue)
        self._watchers.append(entry)
        yield queue
        self._watchers.remove(entry)

    def commands(self) -> list[str]:
        """The names of the commands so far."""
        return [command for command, _ in self.calls]


def disk(name: str) -> Disk:
    return Disk(name, Path(f"/disks/{name}"))


async def test_pci_disk() -> None:
    qmp = FakeQmp()
    plugged = await BlockHotPlug(qmp, scsi=False).plug(disk("a"), "virtio-blk")
    assert plugged == PluggedDisk("a", "blk", "02/01")
    assert qmp.commands() == ["blockdev-add", "device_add"]
    device = qmp.calls[1][1]
    assert device["driver"] == "virtio-blk-pci"
    assert (device["bus"], device["addr"], device["drive"]) == ("pci-bridge-0", "01", "drive-a")
    assert (device["id"], device["serial"], device["share-rw"]) == ("disk-a", "a", True)


async def test_scsi_disk() -> None:
    qmp = FakeQmp()
    hotplug = BlockHotPlug(qmp, scsi=True)
    await hotplug.plug(disk("a"), "virtio-scsi")
    assert await hotplug.plug(disk("b"), "virtio-scsi") == PluggedDisk("b", "scsi", "0:1")
    device = qmp.calls[3][1]
    assert (device["driver"], device["bus"], device["scsi-id"], device["lun"]) == ("scsi-hd", "scsi0.0", 0, 1)


async def test_overlapping_calls_get_addresses_of_their_own() -> None:
    hotplug = BlockHotPlug(FakeQmp(), scsi=False)
    plugged = await asyncio.gather(*(hotplug.plug(disk(name), "virtio-blk") for name in "abc"))
    assert [each.source for each in plugged] == ["02/01", "02/02", "02/03"]


async def test_an_address_is_used_again_after_unplug() -> None:
    qmp = FakeQmp()
    hotplug = BlockHotPlug(qmp, scsi=False)
    await hotplug.plug(disk("a"), "virtio-blk")
    await hotplug.plug(disk("b"), "virtio-blk")
    await hotplug.unplug("a")
    assert qmp.commands()[-2:] == ["device_del", "blockdev-del"]
    await hotplug.unplug("a")
    assert qmp.commands()[-2:] == ["device_del", "blockdev-del"]
    assert (await hotplug.plug(disk("c"), "virtio-blk")).source == "02/01"


@pytest.mark.parametrize(
    ("refused", "left"), [("blockdev-add", []), ("device_add", [("blockdev-del", {"node-name": "drive-a"})])]
)
async def test_a_refused_plug_changes_nothing(refused: str, left: list[object]) -> None:
    qmp = FakeQmp()
    hotplug = BlockHotPlug(qmp, scsi=False)
    qmp.refuse = refused
    with pytest.raises(HostError, match=f"no {refused} today"):
        await hotplug.plug(disk("a"), "virtio-blk")
    assert qmp.calls[qmp.commands().index(refused) + 1 :] == left
    qmp.refuse = ""
    assert (await hotplug.plug(disk("a"), "virtio-blk")).source == "02/01"


async def test_a_guest_that_holds_on() -> None:
    qmp = FakeQmp()
    hotplug = BlockHotPlug(qmp, scsi=False)
    await hotplug.plug(disk("a"), "virtio-blk")
    qmp.releases = False
    with pytest.raises(DeadlineExceeded, match="did not release disk a"):
        await hotplug.unplug("a", timeout_s=0.01)
    assert qmp.commands()[-1] == "device_del"
    assert (await hotplug.plug(disk("b"), "virtio-blk")).source == "02/02"
    qmp.releases = True
    await hotplug.unplug("a")
    assert qmp.commands()[-1] == "blockdev-del"


async def test_refuses_what_cannot_be() -> None:
    hotplug = BlockHotPlug(FakeQmp(), scsi=False)
    with pytest.raises(InvalidInput, match="no SCSI controller"):
        await hotplug.plug(disk("a"), "virtio-scsi")
    await hotplug.plug(disk("a"), "virtio-blk")
    with pytest.raises(InvalidInput, match="disk a is plugged in already"):
        await hotplug.plug(disk("a"), "virtio-blk")


async def test_a_full_bus() -> None:
    hotplug = BlockHotPlug(FakeQmp(), scsi=False)
    for number in range(31):
        await hotplug.plug(disk(f"d{number}"), "virtio-blk")
    with pytest.raises(HostError, match="no address for another virtio-blk disk is free"):
        await hotplug.plug(disk("last"), "virtio-blk")

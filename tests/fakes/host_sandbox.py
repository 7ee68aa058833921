"""What a container's host side talks to, without a VM: an agent that records its calls, a bus of disks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from host.agent_messages import Messages
from host.errors import HostError
from host.vm.disks import BlockDriver, Disk, PluggedDisk
from protos import kata2

_WORDS = {"virtio-blk": "blk", "virtio-scsi": "scsi"}


@dataclass
class RecordingAgent:
    """Answers every call with `answer`, after it has recorded it; `on_call` may look or raise."""

    messages: Messages = kata2  # the module has the classes as attributes
    calls: list[tuple[str, Any]] = field(default_factory=list)
    on_call: Callable[[], None] = lambda: None

    async def call(self, method: str, request: Message, *, timeout_s: float | None = 60.0) -> Message:
        self.calls.append((method, request))
        self.on_call()
        return request

    @property
    def request(self) -> Any:
        """The one CreateContainer request there was."""
        ((method, request),) = self.calls
        assert method == "CreateContainer"
        return request


@dataclass
class RecordingBus:
    """Plugs disks into nothing; the source counts up."""

    plugged: dict[str, Disk] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    refuse_after: int | None = None

    async def plug_block(self, disk: Disk, driver: BlockDriver) -> PluggedDisk:
        if len(self.plugged) == self.refuse_after:
            raise HostError("the bus is full")
        self.plugged[disk.id] = disk
        self.history.append(f"plug {disk.path.name}")
        number = len(self.history)
        source = f"02/{number:02x}" if driver == "virtio-blk" else f"0:{number}"
        return PluggedDisk(disk.id, _WORDS[driver], source)  # type: ignore[arg-type]  # the words of _WORDS

    async def unplug(self, disk_id: str) -> None:
        disk = self.plugged.pop(disk_id)
        self.history.append(f"unplug {disk.path.name}")

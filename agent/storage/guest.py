"""The running guest, as the agent hands it to storage handlers (agent.storage.handler.Guest)."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.devices.wait import Devices
from agent.storage.filesystems import Filesystems
from agent.storage.hugepages import HugePages
from agent.storage.mounts import Mounts


@dataclass(frozen=True, slots=True)
class RunningGuest:
    """This machine: its hardware, its programs, its mount table, its huge pages."""

    devices: Devices
    filesystems: Filesystems
    mounts: Mounts = field(default_factory=Mounts)
    hugepages: HugePages = field(default_factory=HugePages)

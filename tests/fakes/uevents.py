"""uevents that a test sends when it likes."""

from __future__ import annotations

from agent.devices.sysfs import KernelDevice
from agent.devices.uevents import Uevent, UeventBus


class ScriptedUevents(UeventBus):
    """A bus without a kernel behind it, which can also tell who listens."""

    def __init__(self) -> None:
        super().__init__()
        self.starts = 0

    async def start(self) -> None:
        self.starts += 1

    @property
    def listener_count(self) -> int:
        return len(self._listeners)

    def add(self, subsystem: str, devpath: str, name: str | None = None) -> None:
        """Announce a device; its name is the last part of `devpath` unless told otherwise."""
        self.send("add", subsystem, devpath, name)

    def send(self, action: str, subsystem: str, devpath: str, name: str | None = None) -> None:
        """Announce anything."""
        name = devpath.rpartition("/")[2] if name is None else name
        self.deliver(Uevent(action, KernelDevice(subsystem, devpath, name)))

    def lose_events(self) -> None:
        """Tell the listeners what they are told when the socket's buffer was full."""
        self.deliver(None)

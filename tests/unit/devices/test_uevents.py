"""The kernel's bus, with a monitor that a test plays."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from agent.devices import uevents
from agent.devices.uevents import KernelUevents, Uevent


@dataclass
class FakeDevice:
    """The part of pyudev.Device that is read."""

    action: str | None
    device_path: str
    subsystem: str | None
    properties: dict[str, str]


@dataclass
class FakeMonitor:
    """The part of pyudev.Monitor that is used; `script` is what each poll does."""

    descriptor: int
    script: list[FakeDevice | Exception] = field(default_factory=list)

    def fileno(self) -> int:
        return self.descriptor

    def poll(self, timeout: float) -> FakeDevice | None:
        assert timeout == 0
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            raise step
        return step


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMonitor]:
    read_end, write_end = os.pipe()
    fake = FakeMonitor(read_end)
    monkeypatch.setattr(uevents, "_import_pyudev", lambda: None)
    monkeypatch.setattr(uevents, "_open_monitor", lambda pyudev: fake)
    yield fake
    os.close(read_end)
    os.close(write_end)


async def heard_from(monitor: FakeMonitor, *script: FakeDevice | Exception) -> list[Uevent | None]:
    bus, heard = KernelUevents(), list[Uevent | None]()
    await bus.start()
    await bus.start()
    monitor.script = list(script)
    with bus.subscribe(heard.append):
        bus._drain()
    bus.stop()
    bus.stop()
    return heard


async def test_events_are_told_in_the_kernels_words(monitor: FakeMonitor) -> None:
    disk = FakeDevice("add", "/devices/x/block/vda", "block", {"DEVNAME": "/dev/vda"})
    interface = FakeDevice("add", "/devices/x/net/eth0", "net", {"INTERFACE": "eth0"})
    bare = FakeDevice(None, "/devices/x", None, {})
    heard = await heard_from(monitor, disk, interface, bare)
    told = [(e.action, e.device.subsystem, e.device.devpath, e.device.name) for e in heard if e]
    assert told == [
        ("add", "block", "/devices/x/block/vda", "vda"),
        ("add", "net", "/devices/x/net/eth0", "eth0"),
        ("", "", "/devices/x", ""),
    ]


@pytest.mark.parametrize("loss", [OSError(errno.ENOBUFS, "No buffer space"), ValueError("Invalid argument")])
async def test_lost_events_are_told_as_such(monitor: FakeMonitor, loss: Exception) -> None:
    disk = FakeDevice("add", "/devices/x/block/vda", "block", {"DEVNAME": "/dev/vda"})
    heard = await heard_from(monitor, disk, loss)
    assert [event is None for event in heard] == [False, True]


async def test_another_failure_of_the_socket_is_not_hidden(monitor: FakeMonitor) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        await heard_from(monitor, OSError(errno.EBADF, "Bad file descriptor"))


def test_pyudev_is_not_imported_before_the_first_wait() -> None:
    code = "import sys, agent.storage.guest, agent.devices.request; sys.exit('pyudev' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

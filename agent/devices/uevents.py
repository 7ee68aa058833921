"""uevents: the kernel says that a device came or went.

The kernel's own netlink group is read, not udev's: a guest need not run udevd. pyudev brings
libudev, which checks that the sender is the kernel. Source: libudev's udev_monitor_new_from_netlink(3).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from agent.devices.sysfs import KernelDevice
from agent.errors import KernelRefused, Unsupported
from agent.linux.blocking import run_blocking

_log = logging.getLogger("agent.devices")

# A uevent takes about 1 KiB of socket memory (the kernel's own limit is 2 KiB of variables); a burst
# of some thousand, as when many disks are plugged at once, is to fit.
_RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024

# Events handled before the loop gets its turn; the descriptor stays readable, so the rest follows.
_EVENTS_PER_TURN = 256


@dataclass(frozen=True, slots=True)
class Uevent:
    """One message: what happened (`add`, `remove`, `change`, ...) to which device."""

    action: str
    device: KernelDevice

    def __str__(self) -> str:
        return f"{self.action} {self.device.devpath}"


Listener = Callable[[Uevent | None], None]
"""Is told each event; None means that events were lost, so look at sysfs again."""


class UeventBus:
    """Hands each event to whoever listens at that moment. Tests deliver events of their own."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    async def start(self) -> None:
        """Begin to receive. Does nothing if that has happened already."""

    def stop(self) -> None:
        """Stop receiving."""

    @contextlib.contextmanager
    def subscribe(self, listener: Listener) -> Iterator[None]:
        """Tell `listener` every event for the length of a `with` block."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def deliver(self, event: Uevent | None) -> None:
        """Tell every listener `event`."""
        for listener in list(self._listeners):
            listener(event)


class KernelUevents(UeventBus):
    """The bus that the kernel feeds."""

    def __init__(self) -> None:
        super().__init__()
        self._monitor: Any = None  # pyudev ships no types

    async def start(self) -> None:
        """Open the netlink socket. Raises Unsupported (no libudev), KernelRefused."""
        if self._monitor is not None:
            return
        pyudev = await run_blocking(_import_pyudev)
        if self._monitor is None:  # nobody else got here during the import
            self._monitor = _open_monitor(pyudev)
            asyncio.get_running_loop().add_reader(self._monitor.fileno(), self._drain)

    def stop(self) -> None:
        """Close the netlink socket."""
        if self._monitor is not None:
            asyncio.get_running_loop().remove_reader(self._monitor.fileno())
            self._monitor = None

    def _drain(self) -> None:
        for _ in range(_EVENTS_PER_TURN):
            try:
                device = self._monitor.poll(timeout=0)
            except (OSError, ValueError) as error:
                # ENOBUFS: the socket's buffer was full and the kernel dropped events. ValueError is
                # how pyudev tells EINVAL, a message libudev cannot read.
                if getattr(error, "errno", errno.EINVAL) not in (errno.ENOBUFS, errno.EINVAL):
                    raise
                _log.warning("uevents were lost (%s); looking at sysfs again", error)
                self.deliver(None)
                return
            if device is None:
                return
            self.deliver(_from_pyudev(device))


def _import_pyudev() -> Any:  # noqa: ANN401 - pyudev ships no types
    """Imported on first use: a guest without hot-plug never pays for it."""
    try:
        import pyudev
    except ImportError as error:
        raise Unsupported(
            f"device events need pyudev and libudev: {error}", hint="install libudev1 in the guest"
        ) from error
    return pyudev


def _open_monitor(pyudev: Any) -> Any:  # noqa: ANN401 - pyudev ships no types
    try:
        monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
        with contextlib.suppress(PermissionError):  # by hand without CAP_NET_ADMIN: the default size
            monitor.set_receive_buffer_size(_RECEIVE_BUFFER_BYTES)
        monitor.start()
    except OSError as error:
        raise KernelRefused.from_oserror("opening the uevent socket", error) from error
    return monitor


def _from_pyudev(device: Any) -> Uevent:  # noqa: ANN401 - pyudev ships no types
    # libudev puts /dev/ in front of the kernel's DEVNAME.
    name = device.properties.get("INTERFACE") or device.properties.get("DEVNAME", "").removeprefix("/dev/")
    return Uevent(device.action or "", KernelDevice(device.subsystem or "", device.device_path, name))

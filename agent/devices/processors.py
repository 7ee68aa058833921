"""CPUs that are plugged in while the guest runs: the kernel leaves it to us to put them to use.

Source: Documentation/ABI/testing/sysfs-devices-system-cpu and core-api/cpu_hotplug.rst of the kernel.
"""

from __future__ import annotations

from agent.devices.changes import wait_until
from agent.devices.sysfs import Sysfs
from agent.devices.uevents import UeventBus
from agent.errors import DeadlineExceeded, KernelRefused

_CPUS = "/devices/system/cpu/"


class Processors:
    """The guest's CPUs."""

    def __init__(self, sysfs: Sysfs, bus: UeventBus) -> None:
        self._sysfs = sysfs
        self._bus = bus

    def online_list(self) -> str:
        """Those in use, such as "0-2,4" (cpuset(7), "List format"). A few bytes of sysfs.

        Raises KernelRefused.
        """
        return self._sysfs.online_cpus()

    def online_count(self) -> int:
        """How many are in use. Raises KernelRefused."""
        count = 0
        for part in self.online_list().split(","):
            first, _, last = part.partition("-")
            count += int(last or first) - int(first) + 1
        return count

    async def bring_online(self, total: int, timeout_s: float) -> None:
        """Put CPUs to use until there are `total`, waiting for those that are still to be plugged in.

        More than that are left alone. Raises DeadlineExceeded after `timeout_s`.
        """
        refusals: dict[str, str] = {}
        done = await wait_until(
            self._bus,
            lambda: self._go_on(total, refusals),
            concerns=lambda event: event.device.devpath.startswith(_CPUS),
            timeout_s=timeout_s,
        )
        if not done:
            refused = "".join(f"; {text}" for text in refusals.values())
            raise DeadlineExceeded(
                f"only {self.online_count()} of {total} CPUs are online after {timeout_s:g} s{refused}"
            )

    def _go_on(self, total: int, refusals: dict[str, str]) -> bool | None:
        """Do what can be done now; True once it is enough. `refusals` has what the kernel would not do."""
        for devpath in self._sysfs.offline_cpus():
            if self.online_count() >= total:
                break
            try:
                self._sysfs.online_cpu(devpath)
                refusals.pop(devpath, None)
            except KernelRefused as error:  # another may be willing, or this one later
                refusals[devpath] = str(error)
        return True if self.online_count() >= total else None

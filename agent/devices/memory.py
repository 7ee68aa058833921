"""Memory that is plugged in while the guest runs.

Source: Documentation/admin-guide/mm/memory-hotplug.rst of the kernel.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from agent.devices.sysfs import Sysfs
from agent.errors import KernelRefused
from agent.linux.blocking import run_blocking

_log = logging.getLogger("agent.devices")


class Memory:
    """The guest's memory blocks."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs

    async def bring_online(self) -> None:
        """Put all blocks to use. One that the kernel refuses stays unused, and is logged."""
        await run_blocking(self._bring_online)

    async def probe(self, addresses: Sequence[int]) -> None:
        """Tell a kernel that nobody else tells that memory is plugged in at `addresses`, one by one.

        Ends with the first that fails. Raises Unsupported, KernelRefused.
        """
        for address in addresses:
            await run_blocking(self._sysfs.probe_memory, address)

    def _bring_online(self) -> None:
        for devpath in self._sysfs.offline_memory():
            try:
                self._sysfs.online_memory(devpath)
            except KernelRefused as error:
                _log.warning("memory %s stays unused: %s", devpath, error)

"""Pools of huge pages, which volumes reserve before they are mounted.

Source: Documentation/admin-guide/mm/hugetlbpage.rst. `nr_hugepages` sets the size of a whole pool, so
a reservation reads, adds and writes: setting it would take away what an earlier volume reserved.
"""

from __future__ import annotations

import threading
from pathlib import Path

from agent.errors import InvalidRequest, KernelRefused, LimitReached
from agent.linux.blocking import run_blocking


class HugePages:
    """The guest's pools (agent.storage.handler.GuestHugePages)."""

    def __init__(self, sysfs_root: str = "/sys") -> None:
        self._pools = Path(sysfs_root) / "kernel/mm/hugepages"
        self._lock = threading.Lock()  # between the read of a pool's size and the write of the new one

    async def reserve(self, page_size_bytes: int, count: int) -> Reservation:
        """Enlarge a pool by `count` pages; see GuestHugePages.reserve."""
        return await run_blocking(self._reserve, page_size_bytes, count, undo=Reservation.undo)

    def change(self, pool: Path, by: int) -> int:
        """Change the size of `pool` by so many pages; how many it changed by. Raises KernelRefused."""
        try:
            with self._lock:
                before = int(pool.read_text(encoding="ascii"))
                pool.write_text(str(max(0, before + by)), encoding="ascii")
                return int(pool.read_text(encoding="ascii")) - before
        except OSError as error:
            raise KernelRefused.from_oserror("huge page pool", error) from error

    def _reserve(self, page_size_bytes: int, count: int) -> Reservation:
        pool = self._pools / f"hugepages-{page_size_bytes // 1024}kB" / "nr_hugepages"
        if not pool.exists():
            known = ", ".join(sorted(entry.name for entry in self._pools.glob("hugepages-*"))) or "none"
            raise InvalidRequest(f"no huge pages of {page_size_bytes} bytes in this guest (pools: {known})")
        got = self.change(pool, count)
        if got < count:
            self.change(pool, -got)
            raise LimitReached(f"only {got} of {count} huge pages of {page_size_bytes} bytes could be had")
        return Reservation(self, pool, count)


class Reservation:
    """Pages that were added to a pool."""

    def __init__(self, pages: HugePages, pool: Path, count: int) -> None:
        self._pages = pages
        self._pool = pool
        self._count = count

    async def release(self) -> None:
        """Give the pages back. Raises KernelRefused."""
        await run_blocking(self.undo)

    def undo(self) -> None:
        """`release`, blocking."""
        count, self._count = self._count, 0
        if count:
            self._pages.change(self._pool, -count)

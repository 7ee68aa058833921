"""Huge page pools, on a fake sysfs."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import InvalidRequest, KernelRefused, LimitReached
from agent.storage.hugepages import HugePages
from tests.fakes.sysfs import build_sysfs

POOL = "kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
PAGE = 2 << 20


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    return build_sysfs(tmp_path, {POOL: "3\n"})


async def test_reservations_add_up_and_are_given_back_once(sysfs: Path) -> None:
    pages = HugePages(str(sysfs))
    first = await pages.reserve(PAGE, 4)
    second = await pages.reserve(PAGE, 2)
    assert (sysfs / POOL).read_text() == "9"
    await first.release()
    await first.release()
    assert (sysfs / POOL).read_text() == "5"
    await second.release()
    assert (sysfs / POOL).read_text() == "3"


async def test_an_unknown_page_size_names_the_pools(sysfs: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"1073741824 bytes.*hugepages-2048kB"):
        await HugePages(str(sysfs)).reserve(1 << 30, 1)
    with pytest.raises(InvalidRequest, match="none"):
        await HugePages(str(sysfs / "nowhere")).reserve(PAGE, 1)


async def test_a_pool_that_cannot_be_written(sysfs: Path) -> None:
    (sysfs / POOL).unlink()
    (sysfs / POOL).mkdir()
    with pytest.raises(KernelRefused, match="nr_hugepages"):
        await HugePages(str(sysfs)).reserve(PAGE, 1)


async def test_pages_that_cannot_all_be_had_are_given_back(sysfs: Path) -> None:
    class Scarce(HugePages):
        """A guest with memory for two more pages."""

        def change(self, pool: Path, by: int) -> int:
            return super().change(pool, min(by, 2))

    with pytest.raises(LimitReached, match="only 2 of 5"):
        await Scarce(str(sysfs)).reserve(PAGE, 5)
    assert (sysfs / POOL).read_text() == "3"

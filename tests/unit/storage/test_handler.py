"""Storages of several steps."""

from __future__ import annotations

import asyncio

import pytest

from agent.errors import KernelRefused
from agent.storage.handler import StackedStorage


class Step:
    """A step that can be busy, and writes down that it was undone."""

    def __init__(self, name: str, undone: list[str]) -> None:
        self.name = name
        self.undone = undone
        self.busy = False

    async def release(self) -> None:
        await asyncio.sleep(0)
        if self.busy:
            raise KernelRefused(f"{self.name} is busy")
        self.undone.append(self.name)


async def stacked(undone: list[str]) -> tuple[StackedStorage, list[Step]]:
    steps = [Step(name, undone) for name in ("pages", "directory", "mount")]
    async with StackedStorage("/x") as storage:
        for step in steps:
            storage.add(step)
    return storage, steps


async def test_the_newest_step_goes_first_and_each_goes_once() -> None:
    undone: list[str] = []
    storage, _ = await stacked(undone)
    assert undone == []
    await asyncio.gather(storage.release(), storage.release())
    await storage.release()
    assert undone == ["mount", "directory", "pages"]


@pytest.mark.parametrize(("busy", "before"), [(2, []), (1, ["mount"]), (0, ["mount", "directory"])])
async def test_what_a_busy_step_stands_on_stays_until_it_goes(busy: int, before: list[str]) -> None:
    undone: list[str] = []
    storage, steps = await stacked(undone)
    steps[busy].busy = True
    with pytest.raises(KernelRefused, match=f"{steps[busy].name} is busy"):
        await storage.release()
    assert undone == before
    steps[busy].busy = False
    await storage.release()
    assert undone == ["mount", "directory", "pages"]


async def test_a_failing_step_takes_those_before_it_back() -> None:
    undone: list[str] = []

    async def attach() -> None:
        async with StackedStorage("/x") as storage:
            storage.add(Step("pages", undone))
            raise KernelRefused("no mount")

    with pytest.raises(KernelRefused, match="no mount"):
        await attach()
    assert undone == ["pages"]

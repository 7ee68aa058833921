"""Events of kills for want of memory: who gets them, and when they are told."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from agent.containers.cgroup_files import CgroupFiles
from agent.containers.oom import OomEvents, watch_oom


async def waiting(events: OomEvents, number: int) -> list[asyncio.Task[str | None]]:
    """Callers that have begun to wait, in this order."""
    tasks = [asyncio.create_task(events.next()) for _ in range(number)]
    await asyncio.sleep(0)
    return tasks


async def test_each_event_has_one_caller() -> None:
    events = OomEvents()
    first, second = await waiting(events, 2)
    events.report("c1")
    assert await first == "c1"
    assert not second.done()
    events.report("c2")
    events.report("c3")
    assert await second == "c2"
    assert await events.next() == "c3"


async def test_a_caller_that_leaves_takes_nothing_with_him() -> None:
    events = OomEvents()
    first, second = await waiting(events, 2)
    first.cancel()
    events.report("c1")
    assert await second == "c1"
    third, fourth = await waiting(events, 2)
    events.report("c2")
    third.cancel()  # woken and cancelled in one turn of the loop
    assert await fourth == "c2"
    (fifth,) = await waiting(events, 1)
    events.report("c3")
    fifth.cancel()
    assert await events.next() == "c3"


async def test_the_end() -> None:
    events = OomEvents()
    callers = await waiting(events, 2)
    events.close()
    assert await asyncio.gather(*callers) == [None, None]
    events.report("late")
    assert await events.next() == "late"
    assert await events.next() is None


async def test_what_nobody_asks_for_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    events = OomEvents()
    with caplog.at_level(logging.WARNING, "agent.containers.oom"):
        for number in range(101):
            events.report(f"c{number}")
    assert [await events.next() for _ in range(100)] == [f"c{number}" for number in range(100)]
    assert len(caplog.records) == 1


@pytest.fixture
def unified(tmp_path: Path) -> Path:
    """A directory that stands for a container's cgroup v2; inotify works on any file."""
    (tmp_path / "cgroup.controllers").touch()
    (tmp_path / "c1").mkdir()
    return tmp_path / "c1/memory.events"


def events_text(kills: int) -> str:
    return f"low 0\nhigh 0\nmax 9\noom {kills + 1}\noom_kill {kills}\n"


async def test_version_2(unified: Path) -> None:
    unified.write_text(events_text(0))
    told: asyncio.Queue[str] = asyncio.Queue()
    watch = watch_oom(CgroupFiles("/c1", str(unified.parents[1])), lambda: told.put_nowait("c1"))
    assert watch is not None
    for kills in (1, 3):
        unified.write_text(events_text(kills))
        assert await asyncio.wait_for(told.get(), 5) == "c1"
    unified.write_text(events_text(3))  # another count has changed
    unified.write_text(events_text(4))
    watch.close()  # looks a last time
    assert told.qsize() == 1
    watch.close()
    assert told.qsize() == 1


async def test_no_memory_controller(tmp_path: Path) -> None:
    assert watch_oom(CgroupFiles("/c1", str(tmp_path)), lambda: None) is None
    (tmp_path / "cgroup.controllers").touch()
    assert watch_oom(CgroupFiles("/c1", str(tmp_path)), lambda: None) is None

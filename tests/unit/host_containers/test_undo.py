"""The way back from something half done."""

from __future__ import annotations

import asyncio
import logging

import pytest

from host.errors import HostError
from host.undo import UndoStack


async def test_steps_run_newest_first_and_once() -> None:
    done: list[str] = []

    async def later() -> None:
        done.append("later")

    undo = UndoStack()
    undo.push("first", lambda: done.append("first"))
    undo.push("later", later)
    await undo.run()
    await undo.run()
    assert done == ["later", "first"]
    assert undo.is_empty


async def test_a_failing_step_is_logged_and_kept(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []
    trouble = [HostError("busy")]

    def fails_once() -> None:
        if trouble:
            raise trouble.pop()
        done.append("second")

    undo = UndoStack()
    undo.push("do the first", lambda: done.append("first"))
    undo.push("do the second", fails_once)
    with caplog.at_level(logging.WARNING):
        await undo.run()
    assert done == ["first"]
    assert "could not do the second: busy" in caplog.text
    assert not undo.is_empty
    await undo.run()
    assert done == ["first", "second"]
    assert undo.is_empty


async def test_a_cancelled_run_can_be_taken_up_again() -> None:
    done: list[str] = []
    gate = asyncio.Event()

    async def waits() -> None:
        await gate.wait()
        done.append("waited")

    undo = UndoStack()
    undo.push("last", lambda: done.append("last"))
    undo.push("wait", waits)
    task = asyncio.create_task(undo.run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == []
    gate.set()
    await undo.run()
    assert done == ["waited", "last"]

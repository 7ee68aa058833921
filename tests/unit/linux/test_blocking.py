"""Blocking calls run to their end, whatever happens to who waits."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from agent.linux.blocking import run_blocking

name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="")


async def test_result_error_and_context() -> None:
    name.set("request")
    assert await run_blocking(lambda text: f"{name.get()} {text}", "done") == "request done"
    with pytest.raises(ZeroDivisionError):
        await run_blocking(lambda: 1 // 0)


async def test_the_loop_goes_on_meanwhile() -> None:
    gate = threading.Event()
    call = asyncio.ensure_future(run_blocking(gate.wait, 30))
    await asyncio.sleep(0)
    gate.set()
    assert await call is True


async def test_a_cancelled_call_ends_first_and_is_undone() -> None:
    entered, gate, undone = threading.Event(), threading.Event(), list[str]()

    def work() -> str:
        entered.set()
        gate.wait(30)
        return "mounted"

    call = asyncio.ensure_future(run_blocking(work, undo=undone.append))
    await run_blocking(entered.wait, 30)
    for _ in range(3):
        call.cancel()
        await asyncio.sleep(0)
    assert not call.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert undone == ["mounted"]


async def test_a_cancelled_call_that_failed_has_nothing_to_undo() -> None:
    entered, gate, undone = threading.Event(), threading.Event(), list[None]()

    def work() -> None:
        entered.set()
        gate.wait(30)
        raise OSError("refused")

    call = asyncio.ensure_future(run_blocking(work, undo=undone.append))
    await run_blocking(entered.wait, 30)
    call.cancel()
    await asyncio.sleep(0)
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert undone == []


async def test_a_deadline_counts_although_the_call_goes_on() -> None:
    gate = threading.Event()
    asyncio.get_running_loop().call_later(0.05, gate.set)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await run_blocking(gate.wait, 30)
    assert gate.is_set()

"""Work that runs to its end whatever becomes of the caller."""

from __future__ import annotations

import asyncio

import pytest

from agent.processes.completion import run_to_completion


async def test_result_and_error() -> None:
    async def add() -> int:
        return 3

    async def fail() -> None:
        raise ValueError("no")

    assert await run_to_completion(add()) == 3
    with pytest.raises(ValueError, match="no"):
        await run_to_completion(fail())


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_caller_waits_for_the_end(fails: bool) -> None:
    gate = asyncio.Event()
    ended = False

    async def work() -> None:
        nonlocal ended
        await gate.wait()
        ended = True
        if fails:
            raise ValueError("dropped")

    caller = asyncio.ensure_future(run_to_completion(work()))
    for _ in range(2):  # any number of cancellations
        await asyncio.sleep(0)
        caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended

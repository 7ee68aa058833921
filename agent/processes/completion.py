"""Work that has begun to change the system and must not be left half done."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def run_to_completion(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Await `work`; if the caller is cancelled meanwhile, it runs to its end all the same.

    Only then CancelledError is raised, and the result of `work`, or its error, is dropped: so `work`
    has to record what it did where an undo will find it.
    """
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if not cancelled:
        return task.result()
    if not task.cancelled():
        task.exception()  # marks it as seen: the cancellation is what the caller hears of
    raise asyncio.CancelledError

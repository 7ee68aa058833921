"""Waiting until something that the kernel announces has come true, without polling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from agent.devices.uevents import Uevent, UeventBus
from agent.linux.blocking import run_blocking

_Found = TypeVar("_Found")


async def wait_until(
    bus: UeventBus,
    look: Callable[[], _Found | None],
    *,
    concerns: Callable[[Uevent], bool],
    timeout_s: float,
) -> _Found | None:
    """What `look` finds: asked at once, and again after each event that `concerns` it.

    `look` may block, and may help things along. None if it has found nothing within `timeout_s`.
    Raises what `look` raises; Unsupported or KernelRefused if the kernel cannot be heard.
    """
    await bus.start()
    news = asyncio.Event()

    def listen(event: Uevent | None) -> None:
        if event is None or concerns(event):  # None: events were lost, and any may have been ours
            news.set()

    with bus.subscribe(listen):
        try:
            async with asyncio.timeout(timeout_s):
                while (found := await run_blocking(look)) is None:
                    await news.wait()
                    news.clear()
                return found
        except TimeoutError:
            return None

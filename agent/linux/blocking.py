"""Blocking calls, off the event loop and out of reach of cancellation."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")

# Mounts and unmounts are few and short; what is long (mkfs, crun) runs as a child process. Four
# threads let a slow disk wait without holding up the others (assumed, no measurement asks for more).
_DEFAULT_SIZE = 4

_pool: ThreadPoolExecutor | None = None
_size = _DEFAULT_SIZE


def configure(size: int) -> None:
    """Set the number of threads. To be called before the first `run_blocking`."""
    global _size
    if _pool is not None:
        raise RuntimeError("the pool of blocking calls is already running")
    _size = size


async def run_blocking(
    function: Callable[[*_Arguments], _Result],
    *arguments: *_Arguments,
    undo: Callable[[_Result], object] | None = None,
) -> _Result:
    """Run `function(*arguments)` in a thread of our own pool and return its result.

    A thread cannot be cancelled. If the task is, the call still runs to its end; only then
    CancelledError is raised, after `undo(result)` has taken back what the call did. So a caller
    never has to ask whether a cancelled call has happened. Raises what `function` raises.
    """
    call = _submit(function, *arguments)
    if await _finished(call):
        return call.result()
    if call.exception() is None and undo is not None:
        await _finished(_submit(undo, call.result()))
    raise asyncio.CancelledError


def _submit(function: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> asyncio.Future[_Result]:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(_size, thread_name_prefix="blocking")
    context = contextvars.copy_context()  # the log's request name goes along
    return asyncio.get_running_loop().run_in_executor(_pool, context.run, function, *arguments)


async def _finished(call: asyncio.Future[_Result]) -> bool:
    """Wait until `call` is done, through any number of cancellations; False if there was one."""
    cancelled = False
    while not call.done():
        try:
            await asyncio.wait([call])
        except asyncio.CancelledError:
            cancelled = True
    return not cancelled

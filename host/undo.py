"""The way back from something half done: steps that are remembered as they are taken."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable

from host.errors import HostError

Step = Callable[[], Awaitable[None] | None]

_log = logging.getLogger("host.undo")


class UndoStack:
    """Steps that undo what has been done, run newest first. Running it twice is harmless.

    A step that fails is logged and does not keep the older ones from running; it stays, so that a
    later run tries it again.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[str, Step]] = []

    def push(self, what: str, step: Step) -> None:
        """Remember `step`, which undoes what was just done; `what` names it in the log."""
        self._steps.append((what, step))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to undo."""
        return not self._steps

    async def run(self) -> None:
        """Undo everything. If cancelled, what has not been undone stays to be run again."""
        failed: list[tuple[str, Step]] = []
        try:
            while self._steps:
                what, step = self._steps[-1]
                try:
                    result = step()
                    if inspect.isawaitable(result):
                        await result
                except (HostError, OSError) as error:
                    _log.warning("could not %s: %s", what, error)
                    failed.append((what, step))
                self._steps.pop()
        finally:
            self._steps += reversed(failed)

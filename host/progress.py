"""What the user sees while a long step runs: a spinner on a terminal, one plain line per step elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.status import Status


class StepDisplay:
    """Shows one step at a time on standard error; `done` leaves the screen as it was."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._spinner: Status | None = None

    def step(self, text: str) -> None:
        """A step begins, and the one before has ended."""
        if self._quiet:
            return
        if not sys.stderr.isatty():
            print(f"pykata: {text}", file=sys.stderr, flush=True)  # noqa: T201 - it is what this is for
            return
        if self._spinner is None:
            from rich.console import Console  # 60 ms that only a terminal pays

            self._spinner = Console(stderr=True).status(text)
            self._spinner.start()
        else:
            self._spinner.update(text)

    def done(self) -> None:
        """No step runs any more. Safe to call twice."""
        if self._spinner:
            self._spinner.stop()
            self._spinner = None

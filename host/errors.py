"""What the host side raises when it cannot go on: one sentence, and what to do about it."""

from __future__ import annotations


class HostError(Exception):
    """Something the user can understand and usually mend.

    `message` is one sentence that names the thing and the value; `hint` says what to do about it
    and follows the message after a colon. The CLI prints exactly `str(error)`, and a traceback
    only where the user asked for one.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}: {hint}" if hint else message)
        self.message = message
        self.hint = hint


class InvalidInput(HostError):
    """An argument or a file of the user's cannot be used as it stands."""


class ToolMissing(HostError):
    """A program or a file that the host side needs is not installed or not built."""


class VmFailed(HostError):
    """The virtual machine, or a daemon that serves one of its devices, did not start or died."""


class DeadlineExceeded(HostError):
    """Something that should have happened within a given number of seconds did not."""

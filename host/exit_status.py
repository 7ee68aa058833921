"""What the command line says and exits with when a run or a command fails."""

from __future__ import annotations

import re

from host.client import AgentCallError

PYKATA_FAILED = 125  # docker's number for "not the command, but what should run it"
# The agent's form for a command that cannot be started: 127 not found, 126 not executable.
_LAUNCH_FAILURE = re.compile(r"exit status (\d+): (.*)", re.DOTALL)


def failure_of(error: BaseException) -> tuple[str, int]:
    """The sentence for the user and the exit status."""
    if isinstance(error, AgentCallError):
        if match := _LAUNCH_FAILURE.fullmatch(error.message):
            return match[2], int(match[1])
        return f"the agent refused: {error.message}", PYKATA_FAILED
    return str(error), PYKATA_FAILED

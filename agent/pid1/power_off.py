"""The end of the machine, and the last words before it."""

from __future__ import annotations

import contextlib
import os

from agent.linux import process

_CONSOLE = "/dev/console"


def say_on_console(line: str, *, console: str = _CONSOLE) -> None:
    """Write one line where a person or the host's log sees it, whatever the log is set to.

    Falls back to the standard error when there is no console; never raises.
    """
    text = f"kata-agent: {line}\r\n".encode(errors="replace")
    with contextlib.suppress(OSError):  # there is nowhere left to complain
        try:
            fd = os.open(console, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            os.write(2, text)
            return
        try:
            os.write(fd, text)
        finally:
            os.close(fd)


def power_off() -> None:
    """Write everything to the disks and switch the machine off.

    If the kernel refuses, say so and return: the caller's end is then a kernel panic, which the
    host sees too.
    """
    os.sync()
    try:
        process.power_off()
    except OSError as error:
        say_on_console(f"the kernel refuses to power off: {error.strerror}")

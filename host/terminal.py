"""The user's own terminal: raw mode, window size, and the keys that detach from a container."""

from __future__ import annotations

import contextlib
import os
import termios
import tty
from collections.abc import Iterator

from host.run_options import WindowSize

# Ctrl-P Ctrl-Q, as docker has it.
DETACH_KEYS = b"\x10\x11"


def window_of(fd: int) -> WindowSize | None:
    """The size of the terminal at `fd`, None if it is none or has no size."""
    try:
        size = os.get_terminal_size(fd)
    except OSError:
        return None
    return WindowSize(size.lines, size.columns) if size.lines and size.columns else None


@contextlib.contextmanager
def raw_mode(fd: int) -> Iterator[None]:
    """Pass every key on as it is while the block runs; does nothing if `fd` is no terminal."""
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSANOW)  # the default would drop what has been typed ahead
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


class DetachKeys:
    """Finds the detach keys in what is typed, also when they come in two reads."""

    def __init__(self, keys: bytes = DETACH_KEYS) -> None:
        self._keys = keys
        self._held = b""

    def filter(self, data: bytes) -> tuple[bytes, bool]:
        """What to pass on, and whether the keys have been pressed.

        A first key is held back until the next one tells whether it belongs to the pair.
        """
        data = self._held + data
        self._held = b""
        before, found, _ = data.partition(self._keys)
        if found:
            return before, True
        if data.endswith(self._keys[:1]):
            data, self._held = data[:-1], data[-1:]
        return data, False

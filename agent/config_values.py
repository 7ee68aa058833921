"""How the texts of single options are read. A reader gives None for what it cannot read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

ConfigValue = str | int | float | bool
ValueReader = Callable[[str], ConfigValue | None]

# Both generations' words for levels, and ours: logrus (1.x), slog (4.1).
_LEVELS = {
    "panic": "critical",
    "fatal": "critical",
    "critical": "critical",
    "error": "error",
    "warn": "warning",
    "warning": "warning",
    "info": "info",
    "debug": "debug",
    "trace": "trace",
}
# The words of Go's strconv.ParseBool.
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
# Go's time.ParseDuration, without a sign: only durations above zero make sense here.
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)", re.ASCII)
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = re.compile(r"\d{1,20}", re.ASCII)


def read_text(text: str) -> str | None:
    """Any text but the empty one."""
    return text or None


def read_level(text: str) -> str | None:
    """A log level of either generation, as one of ours."""
    return _LEVELS.get(text.lower())


def read_bool(text: str) -> bool | None:
    """A bool as Go spells it."""
    return True if text in _TRUE else False if text in _FALSE else None


def read_loose_bool(text: str) -> bool | None:
    """A bool as the 4.x agent reads it: true, false, else an integer; anything else is false."""
    if text in {"true", "false"}:
        return text == "true"
    number = text.removeprefix("-").removeprefix("+")
    return bool(_NUMBER.fullmatch(number)) and int(number) != 0


def read_integer(least: int, most: int) -> Callable[[str], int | None]:
    """A reader of decimal integers in a range, both ends in it."""

    def read(text: str) -> int | None:
        if not _NUMBER.fullmatch(text):
            return None
        value = int(text)
        return value if least <= value <= most else None

    return read


def read_choice(*words: str, **synonyms: str) -> Callable[[str], str | None]:
    """A reader of one of `words`; `synonyms` maps further words to what they mean."""
    known = {**{word: word for word in words}, **synonyms}
    return known.get


def read_duration(text: str) -> float | None:
    """Seconds from a Go duration ("3s", "1m30s", "500ms") or a bare number of seconds; above zero.

    1.x hosts send the first form, 4.x hosts the second (whole seconds).
    """
    if re.fullmatch(r"\d+(\.\d*)?", text, re.ASCII):
        seconds = float(text)
    elif _DURATION.fullmatch(text):
        seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION_PART.findall(text))
    else:
        return None
    return seconds if 0 < seconds < math.inf else None

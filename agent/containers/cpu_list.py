"""Lists of CPUs and memory nodes, as the kernel writes them. Pure. Source: cpuset(7), "List format"."""

from __future__ import annotations

import re

from agent.errors import InvalidRequest

_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_HIGHEST = 8191  # CONFIG_NR_CPUS goes up to 8192 on x86 (arch/x86/Kconfig)


def cpu_numbers(text: str) -> set[int]:
    """The numbers of a list such as "0-2,4". Raises InvalidRequest."""
    numbers: set[int] = set()
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise InvalidRequest(f'"{text}" is no list of CPUs')
        first, last = int(match[1]), int(match[2] or match[1])
        if last > _HIGHEST:
            raise InvalidRequest(f'"{text}" names a CPU beyond {_HIGHEST}')
        numbers.update(range(first, last + 1))
    return numbers

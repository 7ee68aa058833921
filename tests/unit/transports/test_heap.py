"""Freed memory of a message's size is used again: counted in page faults, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource
from {module} import keep_freed_memory

def faults(size):
    def page_through():
        copies = [bytes([1]) * size for _ in range(3)]
    page_through()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        page_through()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
print(faults(1 << 20) + faults(4 << 20))
"""


@pytest.mark.parametrize("module", ["agent.linux.heap", "host.heap"])
def test_large_messages_cause_no_page_faults(module: str) -> None:
    command = [sys.executable, "-c", SCRIPT.format(module=module)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    pages = 20 * 3 * (5 << 20) // 4096  # what is written in all
    assert int(result.stdout) < pages / 20

"""What holds on every floor: nothing is left on the machine after a run."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from tests.leaks import RUN_MARK, Footprint, lasting_leaks


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Fail the run if a process, mount, loop device, socket, cgroup or file outlives it."""
    os.environ[RUN_MARK] = uuid.uuid4().hex
    before = Footprint.take()
    yield
    leaks = lasting_leaks(before)
    assert not leaks, f"this run left on the machine: {leaks}"

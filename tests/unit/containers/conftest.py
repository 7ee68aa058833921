"""A running reaper for the tests that start a stand-in for crun."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agent.processes.reaper import Reaper


@pytest.fixture
async def reaper() -> AsyncIterator[Reaper]:
    """A reaper on this test's loop; it stops with the test."""
    running = Reaper()
    running.start()
    yield running
    running.stop()

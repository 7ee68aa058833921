"""The wall clock, as far as it can be tested without setting it."""

from __future__ import annotations

import pytest

from agent.linux.clock import set_wall_clock


@pytest.mark.parametrize("microseconds", [-1, 1_000_000])
def test_impossible_times(microseconds: int) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        set_wall_clock(1, microseconds)

"""The wall clock, as far as it can be tested without setting it."""

from __future__ import annotations

import pytest

from agent.linux.clock import set_wall_clock


@pytest.mark.parametrize(
    ("seconds", "microseconds"), [(1, -1), (1, 1_000_000), (-1, 0), (2**63 - 1, 0), (-(2**63), 0)]
)
def test_impossible_times(seconds: int, microseconds: int) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        set_wall_clock(seconds, microseconds)

"""The measured frequency of the time-stamp counter."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from host.vm import tsc


def test_repeatable_to_a_thousandth() -> None:
    if platform.machine() != "x86_64":
        assert tsc.tsc_khz() is None
        return
    first = tsc.tsc_khz.__wrapped__()
    second = tsc.tsc_khz.__wrapped__()
    assert first is not None
    assert second == pytest.approx(first, rel=1e-3)
    assert 500_000 < first < 10_000_000
    assert Path("/proc/cpuinfo").exists()


def test_another_processor_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "s390x")
    assert tsc.tsc_khz.__wrapped__() is None

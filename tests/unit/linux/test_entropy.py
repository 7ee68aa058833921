"""Reseeding, with a plain file in the place of the device."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.linux.entropy import mix, reseed


def test_entropy_goes_to_the_device_before_the_ioctl(tmp_path: Path) -> None:
    device = tmp_path / "random"
    device.touch()
    with pytest.raises(OSError, match="ioctl"):
        reseed(b"x" * 600, str(device))
    assert device.read_bytes() == b"x" * 88  # what is beyond the bytes that the ioctl itself mixes in


def test_bytes_are_mixed_in_without_being_counted(tmp_path: Path) -> None:
    device = tmp_path / "random"
    device.touch()
    mix(b"x" * 600, str(device))
    assert device.read_bytes() == b"x" * 600

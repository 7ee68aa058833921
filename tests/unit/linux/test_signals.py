"""What a process does with a signal, read from procfs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from agent.linux.signals import handles_signal

STATUS = "Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\nSigCgt:\t8000000000004000\n"


def write_status(proc: Path, text: str) -> None:
    (proc / "7").mkdir()
    (proc / "7/status").write_text(text)


@pytest.mark.parametrize(
    ("signum", "fields", "expected"),
    [
        (15, ("SigCgt",), True),
        (64, ("SigCgt",), True),
        (13, ("SigCgt",), False),
        (13, ("SigIgn", "SigCgt"), True),
        (1, ("SigBlk",), True),
        (1, ("SigCgt",), False),
        (0, ("SigBlk", "SigIgn", "SigCgt"), False),
        (65, ("SigBlk", "SigIgn", "SigCgt"), False),
    ],
)
def test_handled_signals(tmp_path: Path, signum: int, fields: tuple[str, ...], expected: bool) -> None:
    write_status(tmp_path, STATUS)
    assert handles_signal(7, signum, fields, proc=str(tmp_path)) is expected


def test_a_process_that_is_gone_or_says_nonsense_handles_nothing(tmp_path: Path) -> None:
    assert not handles_signal(8, 15, ("SigCgt",), proc=str(tmp_path))
    write_status(tmp_path, "SigCgt:\tnonsense\n")
    assert not handles_signal(7, 15, ("SigCgt",), proc=str(tmp_path))


def test_this_process_handles_a_signal_only_while_it_has_a_handler() -> None:
    old = signal.signal(signal.SIGUSR2, lambda *_: None)
    try:
        assert handles_signal(os.getpid(), signal.SIGUSR2, ("SigCgt",))
    finally:
        signal.signal(signal.SIGUSR2, old)
    assert not handles_signal(os.getpid(), signal.SIGUSR2, ("SigCgt",))

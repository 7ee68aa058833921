"""Programs that are run to their end: their failure is one sentence, and they outlive nobody."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from host.errors import HostError
from host.vm.programs import find_program


def run_program(what_failed: str, argv: Sequence[str | Path], *, stdin: BinaryIO | None = None) -> None:
    """Run `argv` and wait for it; it is killed if the thread that runs it dies meanwhile.

    Blocks. Raises HostError that begins with `what_failed` and goes on with the program's last
    words; ToolMissing if there is no setpriv.
    """
    # setpriv(1) asks for the signal at the parent's death (prctl(2), PR_SET_PDEATHSIG), then execs.
    guard: list[str | Path] = [find_program("setpriv"), "--pdeathsig", "KILL", "--"]
    done = subprocess.run(
        [*guard, *argv],
        stdin=stdin or subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        cwd="/",
    )
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()
        reason = words[-1] if words else f"exit status {done.returncode}, without a word"
        raise HostError(what_failed, reason)

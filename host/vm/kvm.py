"""Whether KVM really works here: only a machine that ran can tell.

`/dev/kvm` can be there and QEMU still abort on it (seen: "failed to set MSR 0x10a"), so a machine
of sixteen bytes is started. Its firmware writes a line to the debug port and then leaves QEMU.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

from host.vm.programs import cache_dir, find_program

Accelerator = Literal["kvm", "tcg"]

_PROBE_TIMEOUT_S = 10.0
_KVM = Path("/dev/kvm")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# The processor starts at F000:FFF0, the last 16 bytes of the firmware (Intel SDM vol. 3, 9.1.4).
# mov al,'K'; out 0xe9,al; mov al,'\n'; out 0xe9,al; mov al,0x10; out 0xf4,al; hlt; jmp $-1
_RESET_CODE = bytes.fromhex("b04be6e9 b00ae6e9 b010e6f4 f4ebfd 90")
_FIRMWARE_SIZE = 64 * 1024
# isa-debug-exit leaves with (value << 1) | 1.
_PROBE_EXIT_CODE = (0x10 << 1) | 1
_PROBE_OUTPUT = b"K\n"


def probe_firmware() -> bytes:
    """The firmware of the probe machine."""
    return b"\xf4" * (_FIRMWARE_SIZE - len(_RESET_CODE)) + _RESET_CODE


def accelerator_works(accelerator: Accelerator) -> bool:
    """Start the probe machine and see whether it says its line. Blocks for about 0.1 s, at most 10 s.

    Raises ToolMissing without QEMU.
    """
    qemu = find_program("qemu-system-x86_64")
    with tempfile.TemporaryDirectory(prefix="pykata-probe-") as directory:
        firmware = Path(directory) / "firmware.bin"
        firmware.write_bytes(probe_firmware())
        command = [
            *(qemu, "-nodefaults", "-no-user-config", "-display", "none"),
            *("-machine", f"pc,accel={accelerator}", "-m", "16"),
            *("-cpu", "host" if accelerator == "kvm" else "max"),
            *("-bios", firmware),
            *("-chardev", "stdio,id=out", "-device", "isa-debugcon,iobase=0xe9,chardev=out"),
            *("-device", "isa-debug-exit,iobase=0xf4,iosize=1"),
        ]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == _PROBE_EXIT_CODE and done.stdout == _PROBE_OUTPUT


def best_accelerator() -> Accelerator:
    """`kvm` if a machine runs on it, else `tcg`; found out once per boot of the host.

    May block for a second. Raises ToolMissing without QEMU.
    """
    if not os.access(_KVM, os.R_OK | os.W_OK):
        return "tcg"
    cache = cache_dir() / "kvm.json"
    key = _circumstances()
    known = _read_cache(cache)
    if known.get("circumstances") == key:
        return "kvm" if known.get("works") is True else "tcg"
    works = accelerator_works("kvm")
    with tempfile.NamedTemporaryFile("w", dir=cache.parent, delete=False) as file:
        json.dump({"circumstances": key, "works": works}, file)
    Path(file.name).rename(cache)
    return "kvm" if works else "tcg"


def _circumstances() -> list[str]:
    """What the answer depends on: this boot, this QEMU, this user."""
    qemu = find_program("qemu-system-x86_64")
    return [_BOOT_ID.read_text().strip(), f"{qemu} {qemu.stat().st_mtime_ns}", str(os.geteuid())]


def _read_cache(cache: Path) -> dict[str, object]:
    """The earlier answer; an absent or damaged file is no answer."""
    try:
        known = json.loads(cache.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
